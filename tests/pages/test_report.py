from __future__ import annotations

import base64
import json
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from skastro import write_embeddings
from skastro.catalogs.positions import sky_links, sky_positions
from skastro.pages.report import write_report
from skastro.pages.thumbnails import write_thumbnails
from tests.pages.test_summary import make_curve

CONFIG = {
    "command": "skastro study <mine> --quick",
    "seed": 0,
    "plan": {"n_repeats": 2, "backbone": "net", "max_epochs": 3, "steps": None, "finetune": True},
    "data": {
        "source": "a <b>survey</b>",
        "label": "class",
        "groups": "",
        "n_rows": 60,
        "image_shape": [1, 8, 8],
        "classes": {"galaxy": 30, "star": 30},
        "properties": ["mag_g"],
    },
    "split": {"n_train": 42, "n_train_labelled": 40, "n_test": 18, "test_size": 0.3},
    "threads": 1,
    "seconds": 12.3,
    "versions": {"python": "3.11", "skastro": "0"},
}


@pytest.fixture
def folder(tmp_path):
    curve = make_curve({"self-supervised": (0.7, 0.8, 0.85), "scratch": (0.5, 0.75, 0.85)})
    curve.to_csv(tmp_path / "scores.csv")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "label_efficiency.png").write_bytes(b"picture")
    pd.DataFrame(
        {
            "id": ["1", "2", "3", "4"],
            "split": ["test", "test", "test", "train"],
            "label": ["star", "star", "galaxy", ""],
            "prediction": ["star", "galaxy", "galaxy", "star"],
        }
    ).to_csv(tmp_path / "predictions.csv", index=False)
    pd.DataFrame(
        {
            "property": ["mag_g", "empty"],
            "unit": ["mag", ""],
            "n_test": [18, 0],
            "r2": [-0.25, np.nan],
            "scatter": [0.1, np.nan],
        }
    ).to_csv(tmp_path / "pretext.csv", index=False)
    return tmp_path


@pytest.fixture
def full(folder, tmp_path_factory):
    """Return the folder of a study that has everything: 40 objects, every fourth in the test."""
    full = tmp_path_factory.mktemp("full")
    for path in folder.iterdir():
        (full / path.name).write_bytes(path.read_bytes())
    row = np.arange(40)
    label = np.where(row % 2, "star", "galaxy")
    prediction = np.where(row % 8 == 0, "star", label)  # rows 0, 8, ... are mistakes
    certain = 0.6 + 0.01 * row
    predictions = pd.DataFrame(
        {
            "id": [f"object-{i}" for i in row],
            "split": np.where(row % 4 == 0, "test", "train"),
            "label": label,
            "used": row % 4 != 0,
            "prediction": prediction,
            "p_galaxy": np.where(prediction == "galaxy", certain, 1 - certain),
            "p_star": np.where(prediction == "star", certain, 1 - certain),
        }
    )
    predictions.to_csv(full / "predictions.csv", index=False)
    objects = pd.DataFrame(
        {
            "id": predictions["id"],
            "x": row % 8,
            "y": row // 8,
            "cluster": np.where(row < 4, -1, np.where(row < 31, 0, 1)),
            "cluster_probability": row / 40,
            "outlier_score": 1 / (1 + row),
            "mag_g": 15 + row / 7,
        }
    )
    objects.to_csv(full / "objects.csv", index=False)
    stamps = np.random.default_rng(0).normal(size=(40, 3, 16, 16))
    stamps[:, :, 6:10, 6:10] += 30
    write_thumbnails(full / "thumbnails.webp", stamps)
    bins = {"bin": [1, 2], "confidence": [0.5, 0.9], "accuracy": [0.6, 0.88], "n": [10, 30]}
    pd.DataFrame(bins).to_csv(full / "calibration.csv", index=False)
    magnitudes = {"magnitude": ["15 to 18", "18 to 21"], "score": [0.91, np.nan], "n": [1234, 0]}
    pd.DataFrame(magnitudes).to_csv(full / "by_magnitude.csv", index=False)
    scores = {"representation": ["self-supervised", "ImageNet"], "k-NN": [0.8, 0.5]}
    pd.DataFrame(scores).to_csv(full / "representations.csv", index=False)
    figure = Figure(figsize=(8, 4.6))
    figure.subplots().plot([30, 100], [0.5, 0.8])
    figure.savefig(full / "label_efficiency.png", dpi=80)
    config = {**CONFIG, "projection": {"method": "UMAP", "trustworthiness": 0.951}}
    (full / "config.json").write_text(json.dumps(config))
    return full


def test_the_page_needs_no_network(folder):
    page = write_report(folder).read_text()
    links = re.findall(r"""(?:href|src)=["']([^"'#][^"']*)""", page)
    assert "url(" not in page
    assert any(link.startswith("data:image/png;base64,") for link in links)
    assert not [link for link in links if re.match(r"(https?:)?//", link)]
    assert {link for link in links if not link.startswith("data:")} <= {
        path.name for path in folder.iterdir()
    }


def test_the_page_holds_numbers_command_and_a_described_figure(folder):
    page = write_report(folder).read_text()
    assert "With 100 labels, self-supervised classification" in page
    assert "skastro study &lt;mine&gt; --quick" in page
    assert "a &lt;b&gt;survey&lt;/b&gt;" in page
    assert "<b>survey" not in page
    assert re.search(r'alt="Balanced accuracy .* self-supervised, scratch', page)
    assert "0.801 ± 0.013" in page
    assert "\N{MINUS SIGN}0.250" in page
    assert ">nan" not in page


def test_a_quick_study_says_that_scratch_is_weak_wherever_its_number_stands(folder):
    quick = {**CONFIG, "plan": {**CONFIG["plan"], "steps": 40}}
    assert "40 steps" not in write_report(folder).read_text()
    (folder / "config.json").write_text(json.dumps(quick))
    page = write_report(folder).read_text()
    assert "a network trained from scratch for 40 steps only, as this is a quick study" in page
    assert "too few steps for a fair comparison" in page
    assert "1.8 times fewer" not in page
    # in the tables of both metrics, and under the figure
    assert page.count('<th scope="row">scratch (40 steps only)</th>') == 2
    assert ">scratch</th>" not in page
    assert "In this quick study, scratch was trained for 40 steps only.</figcaption>" in page


def test_captions_and_methods_name_what_is_there(folder, full):
    page = write_report(folder).read_text()
    assert "over 2 draws of the labels.</figcaption>" in page
    assert "EfficientNet" not in page
    assert "measured_</code>" not in page
    scores = pd.read_csv(full / "scores.csv")
    one = scores[scores["repeat"] == 0]
    scratch = one[one["estimator"] == "scratch"]
    one = pd.concat([one, scratch.assign(estimator="ImageNet")])
    one.to_csv(full / "scores.csv", index=False)
    pd.DataFrame(
        {"property": ["measured_sky"], "unit": "", "n_test": 1, "r2": 1, "scatter": 0}
    ).to_csv(full / "pretext.csv", index=False)
    page = write_report(full).read_text()
    assert "draws of the labels.</figcaption>" not in page
    assert "EfficientNet" in page
    assert "measured_</code>" in page


def test_stamps_of_each_class_stand_before_the_curve(folder, full):
    assert 'class="examples"' not in write_report(folder).read_text()
    page = write_report(full).read_text()
    part = page[page.index('class="examples"') : page.index('id="curve"')]
    assert re.findall("<figcaption>(.*?)</figcaption>", part) == [
        "galaxy"
    ]  # all stars are in training
    # test rows that were classified right, the most certain first
    stamps = re.findall(r"stamp of (object-\d+)", part)
    assert stamps == [f"object-{row}" for row in (36, 28, 20, 12, 4)]


def test_the_sentence_on_magnitudes_is_true_of_the_table(full):
    assert "classified worse" not in write_report(full).read_text()
    for scores, words in (
        (
            [0.9, 0.8, 0.6],
            "The score falls from 0.90 in the brightest bin to 0.60 in the faintest.",
        ),
        (
            [0.6, 0.8, 0.9],
            "The score rises from 0.60 in the brightest bin to 0.90 in the faintest.",
        ),
        ([0.9, 0.7, 0.85], "cannot be told from that of the brightest (0.90)"),
    ):
        score = np.array(scores)
        bins = {
            "magnitude": [16, 18, 20],
            "score": score,
            "low": score - 0.05,
            "high": score + 0.05,
        }
        pd.DataFrame(bins).to_csv(full / "by_magnitude.csv", index=False)
        page = write_report(full).read_text()
        assert words in page
        assert "faint objects are hard" not in page
        assert '<th scope="col">balanced accuracy</th>' in page


def test_links_inside_the_page_have_a_target(folder, full):
    for study in (folder, full):
        page = write_report(study).read_text()
        targets = re.findall(r'href="#(\w+)"', page)
        assert targets
        assert all(f'id="{target}"' in page for target in targets)


@pytest.mark.parametrize(
    "name", ["config.json", "scores.csv", "label_efficiency.png", "pretext.csv", "predictions.csv"]
)
def test_an_unfinished_study_is_refused(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"has no {re.escape(name)}: pass the folder"):
        write_report(folder)
    assert not (folder / "index.html").exists()


SECTIONS = [
    "projection",
    "by_magnitude",
    "calibration",
    "representations",
    "clusters",
    "mistakes",
    "outliers",
]


def test_a_section_needs_its_file(folder, full):
    def sections(folder):
        page = write_report(folder).read_text()
        return [name for name in SECTIONS if f'id="{name}"' in page]

    assert sections(folder) == []
    assert sections(full) == SECTIONS
    (full / "thumbnails.webp").unlink()
    assert sections(full) == ["projection", "by_magnitude", "calibration", "representations"]
    (full / "objects.csv").unlink()
    (full / "calibration.csv").unlink()
    assert sections(full) == ["by_magnitude", "representations"]


def cards(page, section):
    """Text and id of each card of a section."""
    part = page[page.index(f'id="{section}"') :]
    part = part[: part.index("</ul>")]
    return re.findall(r"<b>(.*?)</b><small>(.*?)</small>", part)


def test_the_most_confident_mistakes_come_first(full):
    mistakes = cards(write_report(full).read_text(), "mistakes")
    assert [name for _, name in mistakes] == [f"object-{i}" for i in (32, 24, 16, 8, 0)]
    assert mistakes[0][0] == "galaxy classified as star, 92 %"


def test_the_largest_outliers_come_first(full):
    outliers = cards(write_report(full).read_text(), "outliers")
    assert outliers[:2] == [("1.00, galaxy", "object-0"), ("0.50, star", "object-1")]
    assert len(outliers) == 24


def test_clusters_are_shown_by_their_most_certain_members(full):
    page = write_report(full).read_text()
    part = page[page.index('id="clusters"') : page.index('id="mistakes"')]
    assert "4 objects are in no cluster" in part
    assert re.findall(r"<h3>(.*?)</h3>", part) == ["Cluster 0", "Cluster 1"]
    assert "27 objects, 52 % galaxy" in part
    stamps = re.findall(r"stamp of (object-\d+)", part)
    assert stamps[:2] == ["object-30", "object-29"]
    assert len(stamps) == 12 + 9
    # 40 stamps lie in a sheet of 7 columns
    assert 'aria-label="stamp of object-30" style="--c: 2; --r: 4"' in part


def test_calibration_error_is_printed(full):
    page = write_report(full).read_text()
    assert "Expected calibration error: 0.040." in page  # (10 * 0.1 + 30 * 0.02) / 40
    bins = pd.read_csv(full / "calibration.csv")
    pd.concat([bins.assign(n_labels=100), bins.assign(n_labels=1000)]).to_csv(
        full / "calibration.csv", index=False
    )
    page = write_report(full).read_text()
    assert "Expected calibration error: 0.040 (100 labels), 0.040 (1,000 labels)." in page


def test_objects_of_other_rows_are_refused(full):
    objects = pd.read_csv(full / "objects.csv")
    objects.iloc[::-1].to_csv(full / "objects.csv", index=False)
    with pytest.raises(ValueError, match=r"objects\.csv has other ids than predictions\.csv"):
        write_report(full)


def test_figures_have_a_narrow_picture_for_phones_if_there_is_one(full):
    (full / "label_efficiency_phone.png").write_bytes(b"narrow curve")
    (full / "by_magnitude.png").write_bytes(b"wide bins")
    (full / "by_magnitude_phone.png").write_bytes(b"narrow bins")
    (full / "calibration.png").write_bytes(b"bins")
    page = write_report(full).read_text()
    data = 'data:image/png;base64,([^"]+)"'
    source = re.escape('<source media="(max-width: 40rem)" srcset="') + data + ">"
    wide, narrow = zip(
        *[
            (base64.b64decode(wide), base64.b64decode(narrow))
            for narrow, wide in re.findall(rf"<picture>(?:{source})?<img [^>]*src=\"{data}", page)
        ],
        strict=True,
    )
    assert wide == ((full / "label_efficiency.png").read_bytes(), b"wide bins", b"bins")
    assert narrow == (b"narrow curve", b"narrow bins", b"")


@pytest.mark.parametrize(("width", "pixels"), [(1280, 640), (390, 336)])
def test_phones_scroll_neither_narrow_pictures_nor_two_classes(full, look, width, pixels):
    Figure(figsize=(4.2, 4.8)).savefig(full / "label_efficiency_phone.png", dpi=80)
    Figure(figsize=(5.6, 4.6)).savefig(full / "confusion.png", dpi=80)
    page = look(write_report(full), width=width, touch=width == 390)
    curve = page.locator("#curve + figure img")
    assert curve.evaluate("image => image.naturalWidth") == pixels
    for section in ("curve", "confusion"):
        frame = page.locator(f"#{section} ~ figure .scroll").first
        assert frame.evaluate("frame => frame.scrollWidth <= frame.clientWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_loads_without_faults_and_fits(full, look, width, scheme):
    page = look(write_report(full), width=width, scheme=scheme, touch=width == 390)
    page.wait_for_selector(".explorer[data-ready]")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    page.select_option(".explorer-by", "verdict")
    assert " ".join(page.inner_text(".explorer-legend").split()) == "right 5 wrong 5 none 30"
    page.click(".explorer-legend [data-code='1']")
    assert page.locator(".explorer-sheet .stamp").count() == 5
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not page.faults


def test_a_plain_page_loads_without_faults(folder, look):
    (folder / "label_efficiency.png").write_bytes(
        bytes.fromhex(
            "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
            "3a7e9b550000000a49444154789c6360000000020001e221bc330000000049454e44ae426082"
        )
    )
    page = look(write_report(folder), width=390)
    page.click(".theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 29)"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not page.faults


def test_objects_with_positions_and_embeddings_have_links_and_similar_ones(full):
    plain = write_report(full).read_text()
    assert "aladin" not in plain
    assert '"similar":null' in plain
    objects = pd.read_csv(full / "objects.csv")
    objects["ra"], objects["dec"] = (
        10.5 + np.arange(40),
        np.where(np.arange(40) == 1, np.nan, 41.25),
    )
    objects.to_csv(full / "objects.csv", index=False)
    write_embeddings(
        full / "embeddings.npz", np.random.default_rng(0).normal(size=(40, 4)), objects["id"]
    )
    page = write_report(full).read_text()
    # object 0 is the strangest
    href = sky_links(sky_positions([10.5], [41.25])[0])[0]["href"].replace("&", "&amp;")
    assert f'<small><a href="{href}" target="_blank" rel="noopener noreferrer">Aladin</a>' in page
    assert "target=11.500000" not in page
    assert '"similar":"' in page
    # six stamps below each mistake and each of the strangest objects
    n_with_similar = page.count("<summary>More like this</summary>")
    assert n_with_similar == page.count("</b><small>") > 0
    near = page.split("<summary>More like this</summary>")[1].split("</details>")[0]
    assert near.count('class="stamp"') == 6
    assert "<summary>More like this" not in plain


def test_embeddings_of_other_objects_are_left_out(full):
    write_embeddings(full / "embeddings.npz", np.eye(3), ["a", "b", "c"])
    assert '"similar":null' in write_report(full).read_text()
