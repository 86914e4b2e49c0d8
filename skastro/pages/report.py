"""Write the report of a study: one self-contained page that needs no network."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from skastro.catalogs.positions import sky_links
from skastro.embeddings.files import read_embeddings
from skastro.embeddings.neighbors import SimilarObjects
from skastro.evaluation.label_efficiency import LabelEfficiencyCurve, metric_name
from skastro.pages.explorer import ExplorerParts, explorer_parts, find_sky, render, stamp_style
from skastro.pages.summary import (
    confusion_table,
    magnitude_sentence,
    metric_title,
    score_table,
    summarise,
    text_table,
)
from skastro.pages.thumbnails import sheet_columns
from skastro.utils.files import write_whole

_OPTIONAL_SECTIONS = ("morphology", "by_magnitude", "calibration", "representations", "ablation")
_MAX_CARDS = 24  # mistakes or outliers shown
_MAX_CLUSTERS = 20
_MAX_STAMPS = 12  # of a cluster
_N_SIMILAR = 6  # stamps that a card shows as most like its own
_MAX_EXAMPLES = 18  # stamps at the top of the page, of all classes together
_CERTAINTY = "cluster_probability"  # column by which the members of a cluster are sorted


def write_report(folder: str | Path) -> Path:
    """Write ``index.html`` from the other files of a study.

    Parameters
    ----------
    folder : path
        Folder with ``config.json``, ``scores.csv``, ``label_efficiency.png``, ``pretext.csv``
        and ``predictions.csv``, as ``run_study`` writes them. Further files get a section each:

        - ``objects.csv``: the same ``id`` as ``predictions.csv``, row by row, and any of ``x``
          and ``y`` (the interactive projection), ``cluster`` (-1 is noise),
          ``cluster_probability``, ``outlier_score`` and properties;
        - ``embeddings.npz``, with the same ``ids``: "More like this" in the projection, and below
          mistakes and outliers;
        - ``thumbnails.webp``, of the same rows, as `write_thumbnails` makes it: typical stamps
          of each class at the top, stamps of the projection and the clusters, the most
          confident mistakes and the outliers;
        - ``mistakes.csv``: ``id`` and ``reason``, a text below each mistake;
        - ``morphology.csv``, ``by_magnitude.csv``, ``calibration.csv``, ``representations.csv``,
          ``ablation.csv``: tables of any columns, of which the first names the rows; from
          ``confidence``, ``accuracy`` and ``n`` in ``calibration.csv``, the calibration error is
          computed, and from ``score``, ``low`` and ``high`` in ``by_magnitude.csv``, whether faint
          objects are classified worse;
        - ``.png`` files with the names of these tables, and ``pretext.png`` and
          ``confusion.png``.

        Phones show ``<name>_phone.png``, a narrow version, in place of ``<name>.png``.

    Returns
    -------
    page : Path
        The page, which contains its pictures and scripts.

    Raises
    ------
    FileNotFoundError
        A file is missing.
    ValueError
        The rows of ``objects.csv`` are not those of ``predictions.csv``.
    ImportError
        jinja2 is not installed, or bokeh, which the projection needs.

    Examples
    --------
    >>> write_report("no-study")
    Traceback (most recent call last):
    FileNotFoundError: no-study has no config.json: pass the folder of a finished study.
    """
    folder = Path(folder)
    needed = ("config.json", "scores.csv", "label_efficiency.png", "pretext.csv", "predictions.csv")
    for name in needed:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}: pass the folder of a finished study.")
    page = folder / "index.html"
    write_whole(page, render("report.html", _content(folder)).encode())
    return page


def _content(folder: Path) -> dict[str, Any]:
    """Return all that the template of the report needs."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    curve = LabelEfficiencyCurve.from_csv(folder / "scores.csv")
    pretext = pd.read_csv(
        folder / "pretext.csv", keep_default_na=False, na_values={"r2": [""], "scatter": [""]}
    )
    projection = config.get("projection") or {}
    objects, steps = _Objects.read(folder), config["plan"]["steps"]
    return {
        "config": config,
        "sentences": summarise(curve, steps=steps),
        "examples": objects.examples(),
        "figure": _embed_figure(folder / "label_efficiency.png"),
        "alt": (
            f"{metric_name(curve.metrics[0]).capitalize()} on unseen stamps against the number of "
            f"labels, one line each for {', '.join(curve.estimators)}. The same numbers are in "
            "the table below."
        ),
        "caption": _caption(curve, steps),
        "counts": curve.label_counts,
        "methods": curve.estimators,
        "tables": [
            (metric_title(metric), score_table(curve, metric, steps=steps))
            for metric in curve.metrics
        ],
        "measured": pretext["property"].str.startswith("measured_").any(),
        "pretext": pretext.sort_values("r2", ascending=False).to_dict("records"),
        "pretext_figure": _embed_figure(folder / "pretext.png"),
        "confusion": confusion_table(objects.table),
        "confusion_figure": _embed_figure(folder / "confusion.png"),
        "extras": _optional_sections(folder),
        "projection": projection,
        "explorer": objects.explorer(projection, config.get("units") or {}),
        "stamp_style": stamp_style(objects.sheet, len(objects.table)) if objects.sheet else "",
        "clusters": objects.clusters(),
        "n_noise": int((objects.table.get("cluster", pd.Series(dtype=int)) < 0).sum()),
        "mistakes": objects.mistakes(),
        "outliers": objects.outliers(),
        "files": sorted({path.name for path in folder.glob("[!.]*")} - {"index.html"}),
    }


def _caption(curve: LabelEfficiencyCurve, steps: int | None) -> str:
    """Return what the figure of the curve shows: intervals, and networks that learned too little.

    A single draw of the labels has no interval.
    """
    labelled = curve.scores[curve.scores["n_labels"] > 0]
    draws = labelled[["estimator", "split", "repeat"]].drop_duplicates().groupby("estimator").size()
    n_draws, sentences = draws.max(), []
    if n_draws > 1:
        sentences.append(f"Bands: 95 % interval of the mean over {n_draws} draws of the labels.")
    for number in sorted(set(draws) - {n_draws}):
        names = " and ".join(draws.index[draws == number])
        first = "the first" if number == 1 else f"the first {number}"
        sentences.append(f"Of these draws, {names} learned from {first} only.")
    if steps and "scratch" in curve.estimators:
        sentences.append(f"In this quick study, scratch was trained for {steps} steps only.")
    return " ".join(sentences)


@dataclass(frozen=True)
class _Objects:
    """Objects of a study: ``predictions.csv`` with ``objects.csv``, and the thumbnails if any."""

    table: pd.DataFrame
    sheet: bytes | None
    embeddings: NDArray[np.float32] | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)  # of mistakes, by id

    @classmethod
    def read(cls, folder: Path) -> _Objects:
        """Read the files of a study; ``confidence`` is the probability of the predicted class."""
        text = {"id": str, "split": str, "label": str, "prediction": str}
        table = pd.read_csv(folder / "predictions.csv", dtype=text, keep_default_na=False)
        probabilities = [name for name in table.columns if name.startswith("p_")]
        if probabilities:
            table["confidence"] = table[probabilities].astype(float).max(axis=1)
        table = table.drop(columns=["used", *probabilities], errors="ignore")
        if (folder / "objects.csv").is_file():
            more = pd.read_csv(folder / "objects.csv", dtype={"id": str})
            if more["id"].tolist() != table["id"].tolist():
                raise ValueError(
                    f"{folder / 'objects.csv'} has other ids than predictions.csv: write both "
                    "with the same objects in the same order."
                )
            new = [name for name in more.columns if name not in table.columns]
            table = pd.concat([table, more[new]], axis=1)
        picture = folder / "thumbnails.webp"
        sheet = picture.read_bytes() if picture.is_file() else None
        values, file = None, folder / "embeddings.npz"
        if file.is_file():
            embeddings = read_embeddings(file)
            if embeddings.ids.astype(str).tolist() == table["id"].tolist():
                values = embeddings.values
        reasons, file = {}, folder / "mistakes.csv"
        if file.is_file():
            rows = pd.read_csv(file, dtype=str, keep_default_na=False)
            reasons = dict(zip(rows["id"], rows["reason"], strict=True))
        return cls(table, sheet, values, reasons)

    @cached_property
    def sky(self) -> SkyCoord | None:
        """Positions of the objects, if the table has any."""
        return find_sky(self.table)

    def explorer(
        self, projection: Mapping[str, Any], units: Mapping[str, str]
    ) -> ExplorerParts | None:
        """Return the interactive projection, if the objects have coordinates ``x`` and ``y``."""
        if not {"x", "y"} <= set(self.table.columns):
            return None
        # only test rows are right or wrong: the classifier may have learned the others
        tested = self._tested()
        right = np.where(self.table["label"] == self.table["prediction"], "right", "wrong")
        table = self.table.drop(columns=["x", "y"])
        table.insert(4, "verdict", np.where(tested, right, ""))
        certainty = {"prediction": "confidence", "cluster": _CERTAINTY, "label": "confidence"}
        certainty = {a: b for a, b in certainty.items() if a in table and b in table}
        return explorer_parts(
            self.table[["x", "y"]], table=table, sheet=self.sheet, style=False,
            embeddings=self.embeddings, color="label",
            cluster="cluster" if "cluster" in table else None, certainty=certainty, units=units,
            projection=projection.get("method", "projection"),
        )  # fmt: skip

    def examples(self) -> list[dict[str, Any]]:
        """Return stamps of each class: the most confident of the right predictions."""
        if self.sheet is None or "confidence" not in self.table:
            return []
        right = self._tested() & (self.table["label"] == self.table["prediction"])
        ordered = self.table[right].sort_values("confidence", ascending=False, kind="stable")
        classes = list(ordered.groupby("label"))[:_MAX_EXAMPLES]
        n_each = _MAX_EXAMPLES // max(len(classes), 1)
        return [
            {"name": name, "cards": [self._card(row, "") for row in members.index[:n_each]]}
            for name, members in classes
        ]

    def clusters(self) -> list[dict[str, Any]]:
        """Return the contact sheets of the clusters, the largest first."""
        if self.sheet is None or "cluster" not in self.table:
            return []
        clusters = []
        sizes = self.table.loc[self.table["cluster"] >= 0, "cluster"].value_counts()
        for name in sizes.index[:_MAX_CLUSTERS]:
            members = self.table[self.table["cluster"] == name]
            if _CERTAINTY in members:
                members = members.sort_values(_CERTAINTY, ascending=False, kind="stable")
            shares = members.loc[members["label"] != "", "label"].value_counts(normalize=True)
            majority = f"{_percent(shares.iloc[0])} {shares.index[0]}" if len(shares) else ""
            cards = [self._card(row, "") for row in members.index[:_MAX_STAMPS]]
            clusters.append(
                {"name": f"{name:g}", "size": len(members), "majority": majority, "cards": cards}
            )
        return clusters

    def mistakes(self) -> list[dict[str, Any]]:
        """Return the wrongly classified test rows, the most confident first."""
        if self.sheet is None or "confidence" not in self.table:
            return []
        wrong = self.table[self._tested() & (self.table["label"] != self.table["prediction"])]
        wrong = wrong.sort_values("confidence", ascending=False, kind="stable").head(_MAX_CARDS)
        cards = [
            self._card(
                row.Index, f"{row.label} classified as {row.prediction}, {_percent(row.confidence)}"
            )
            for row in wrong.itertuples()
        ]
        for card in cards:
            card["reason"] = self.reasons.get(card["id"], "")
        return self._add_similar(cards)

    def outliers(self) -> list[dict[str, Any]]:
        """Return the objects with the highest outlier scores."""
        if self.sheet is None or "outlier_score" not in self.table:
            return []
        scores = self.table["outlier_score"].dropna().sort_values(ascending=False, kind="stable")
        labels = self.table["label"]
        return self._add_similar([
            self._card(row, f"{score:.2f}" + (f", {labels[row]}" if labels[row] else ""))
            for row, score in scores.head(_MAX_CARDS).items()
        ])  # fmt: skip

    def _tested(self) -> pd.Series:
        """Return which rows are labelled rows of the test."""
        return (self.table["split"] == "test") & (self.table["label"] != "")

    @cached_property
    def _neighbours(self) -> SimilarObjects | None:
        """Find similar objects, if there are embeddings; a few cards need no index."""
        return None if self.embeddings is None else SimilarObjects(self.embeddings, exact=True)

    def _add_similar(self, cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Add to each card the places of the stamps that are most like its own."""
        if self._neighbours is None or not cards:
            return cards
        found = self._neighbours.find([card["row"] for card in cards], _N_SIMILAR)
        rows = found["row"].to_numpy().reshape(len(cards), -1)
        for card, near in zip(cards, rows, strict=True):
            card["similar"] = [self._card(int(row), self.table["label"][row]) for row in near]
        return cards

    def _card(self, row: int, text: str) -> dict[str, Any]:
        """Return the place of a stamp on the sheet of thumbnails, its id and a text."""
        line, column = divmod(row, sheet_columns(len(self.table)))
        return {
            "row": row, "column": column, "line": line, "id": self.table["id"][row], "text": text,
            "links": [] if self.sky is None else sky_links(self.sky[row]),
            "similar": [], "reason": "",
        }  # fmt: skip


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _optional_sections(folder: Path) -> dict[str, Any]:
    """Return the sections that have a table or a figure."""
    sentences = {"calibration": _calibration_sentence, "by_magnitude": magnitude_sentence}
    sections = {}
    for name in _OPTIONAL_SECTIONS:
        table, figure = folder / f"{name}.csv", _embed_figure(folder / f"{name}.png")
        frame = pd.read_csv(table) if (has_table := table.is_file()) else None
        if has_table or figure is not None:
            sections[name] = {
                "sentence": sentences[name](frame) if has_table and name in sentences else "",
                "figure": figure,
                "table": text_table(frame) if has_table else None,
            }
    return sections


def _embed_figure(path: Path) -> dict[str, str | None] | None:
    """Return a picture as data URL, and its narrow version for phones if there is one."""
    wide, phone = (
        f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode('ascii')}"
        if picture.is_file()
        else None
        for picture in (path, path.with_stem(f"{path.stem}_phone"))
    )
    return None if wide is None else {"wide": wide, "phone": phone}


def _calibration_sentence(bins: pd.DataFrame) -> str:
    """Return the expected calibration error (Naeini et al. 2015) of each group of bins."""
    if not {"confidence", "accuracy", "n"} <= set(bins.columns):
        return ""
    keys = [name for name in bins.columns if name in {"estimator", "n_labels"}]
    errors = []
    for values, group in bins.groupby(keys, sort=False) if keys else [((), bins)]:
        distance = (group["confidence"] - group["accuracy"]).abs()
        error = (distance * group["n"]).sum() / group["n"].sum()
        named = zip(keys, values if isinstance(values, tuple) else (values,), strict=True)
        names = [f"{v:,} labels" if key == "n_labels" else str(v) for key, v in named]
        errors.append(f"{error:.3f}" + (f" ({', '.join(names)})" if names else ""))
    return f"Expected calibration error: {', '.join(errors)}."
