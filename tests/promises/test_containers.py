"""Every function that takes stamps, properties or embeddings reads them in any container."""

import tempfile

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from astropy import units as u
from astropy.nddata import CCDData
from astropy.table import Table
from astropy.utils.masked import Masked
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline

import skastro
from skastro import AsinhScaler, PropertyPretrainedEncoder, SelfSupervisedClassifier
from skastro.pages.thumbnails import encode_thumbnails

N = 24
MAGNITUDE = np.linspace(17, 20, N)
LABELS = np.where(np.arange(N) % 2, "star", "galaxy")
STAMPS = np.random.default_rng(0).normal(size=(N, 3, 12, 12)).astype(np.float32)
STAMPS[:, :, 6, 6] += MAGNITUDE[:, None] + 20 * (np.arange(N) % 2)[:, None]
MASK = np.zeros(STAMPS.shape, dtype=bool)
MASK[3, 1, 4:6] = True
MISSING = np.where(MASK, np.nan, STAMPS)


def tiny(**params):
    return PropertyPretrainedEncoder(
        "stamp_resnet10", max_epochs=1, batch_size=8, random_state=0, **params
    )


@pytest.fixture(scope="module")
def encoder():
    return tiny().fit(STAMPS)


def embed(X, encoder):
    with tempfile.TemporaryDirectory() as folder:
        result = skastro.embed_survey(encoder, X, f"{folder}/e.chunks", chunk=7, progress=False)
        return result.read().values


ENTRANCES = {
    "fit": lambda X, _: tiny().fit(X).predict(STAMPS).to_numpy(),
    "transform": lambda X, encoder: encoder.transform(X),
    "predict": lambda X, encoder: encoder.predict(X).to_numpy(),
    "score": lambda X, encoder: encoder.score(X),
    "classifier": lambda X, encoder: (
        SelfSupervisedClassifier(FrozenEstimator(encoder), strategy="probe")
        .fit(X, LABELS)
        .predict_proba(X)
    ),
    "scaler": lambda X, _: AsinhScaler().fit(X).transform(X),
    "scaler in float64": lambda X, _: AsinhScaler().fit(X).inverse_transform(X),
    "measure_properties": lambda X, _: skastro.measure_properties(X).to_numpy(),
    "to_rgb": lambda X, _: skastro.to_rgb(X),
    "find_duplicates": lambda X, _: skastro.find_duplicates(X),
    "write_thumbnails": lambda X, _: np.frombuffer(encode_thumbnails(X), np.uint8),
    "embed_survey": embed,
    "inspect_survey": lambda X, _: skastro.inspect_survey(
        X, pd.DataFrame({"mag": MAGNITUDE})
    ).stamps["missing_pixels"],
}


@pytest.mark.parametrize("name", ENTRANCES)
@pytest.mark.parametrize(
    "X",
    [
        np.ma.array(STAMPS, mask=MASK),
        np.ma.array(STAMPS.astype(np.float64), mask=MASK),
        [np.ma.array(s, mask=m) for s, m in zip(STAMPS, MASK, strict=True)],
        [CCDData(s, mask=m, unit="nJy") for s, m in zip(STAMPS, MASK, strict=True)],
        Masked(STAMPS * u.nJy, mask=MASK),
        pd.Series(list(MISSING)),
        torch.from_numpy(MISSING),
    ],
)
def test_every_entrance_reads_masked_pixels_as_missing(name, X, encoder):
    expected = ENTRANCES[name](MISSING, encoder)
    np.testing.assert_allclose(ENTRANCES[name](X, encoder), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(ENTRANCES) - {"find_duplicates", "inspect_survey"}))
@pytest.mark.parametrize("bands", [3, 5])
def test_every_entrance_refuses_bands_that_are_last(name, bands, encoder):
    with pytest.raises(ValueError, match=r"\w+.transpose\(0, 3, 1, 2\)"):
        ENTRANCES[name](np.ones((N, 14, 18, bands)), encoder)


def make_hdf5(folder):
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "stamps.h5", "w") as file:
        file["stamps"] = STAMPS
    return h5py.File(folder / "stamps.h5")["stamps"]


def make_zarr(folder):
    zarr = pytest.importorskip("zarr")
    return zarr.create_array(str(folder / "stamps.zarr"), data=STAMPS, chunks=(5, 3, 12, 12))


@pytest.mark.parametrize("make", [make_hdf5, make_zarr, lambda _: torch.from_numpy(STAMPS)])
def test_curves_take_rows_of_stamps_on_disk(tmp_path, make, encoder):
    def run(X):
        probe = make_pipeline(FrozenEstimator(encoder), LogisticRegression())
        return skastro.label_efficiency_curve(
            {"probe": probe}, X, LABELS, label_counts=[8], n_repeats=2, random_state=0
        ).scores["score"]

    np.testing.assert_array_equal(run(make(tmp_path)), run(STAMPS))


def test_cross_validation_splits_lists_and_masked_stamps(encoder):
    model = make_pipeline(FrozenEstimator(encoder), LogisticRegression())
    expected = cross_val_predict(model, MISSING, LABELS, cv=3)
    masked = np.ma.array(STAMPS, mask=MASK)
    for X in (masked, list(masked)):
        assert cross_val_predict(model, X, LABELS, cv=3).tolist() == expected.tolist()


@pytest.mark.parametrize(
    "table",
    [
        np.rec.fromarrays([MAGNITUDE], names="mag_r"),
        [{"mag_r": value} for value in MAGNITUDE],
        pd.Series(MAGNITUDE, name="mag_r"),
    ],
)
def test_tables_of_properties_keep_their_names_in_a_grid_search(table):
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            make_pipeline(tiny(targets="catalog"), LogisticRegression()),
            {"logisticregression__C": [1.0]},
            cv=2,
        )
        search.fit(STAMPS, LABELS, properties=table)
    assert search.best_estimator_[0].property_names_ == ["mag_r"]


def test_property_errors_belong_to_the_properties_of_the_same_names():
    properties = pd.DataFrame({"a": MAGNITUDE, "b": MAGNITUDE[::-1]})
    errors = {"b": np.full(N, 5.0), "a": np.full(N, 0.1)}
    names = ("a", "b")
    expected = tiny(targets="catalog").fit(
        STAMPS, properties=properties, property_errors=np.column_stack([errors[n] for n in names])
    )
    found = tiny(targets="catalog").fit(STAMPS, properties=properties, property_errors=errors)
    np.testing.assert_array_equal(found.transform(STAMPS), expected.transform(STAMPS))


@pytest.mark.parametrize("argument", ["properties", "catalog"])
def test_names_in_place_of_values_are_refused_with_the_line_to_type(argument, encoder):
    model = SelfSupervisedClassifier(FrozenEstimator(encoder), strategy="probe")
    if argument == "properties":
        model = tiny()
    with pytest.raises(ValueError, match=r"\[\['mag_r', 'mag_i'\]\], or select_columns"):
        model.fit(STAMPS, LABELS, **{argument: ["mag_r", "mag_i"]})


@pytest.mark.parametrize(
    "call",
    [
        skastro.suggest_labels,
        skastro.project_embedding,
        lambda X: skastro.score_embedding(X, LABELS),
        lambda X: skastro.EmbeddingClusterer().fit(X),
        lambda X: skastro.LinearProbe().fit(X, LABELS),
        lambda X: skastro.KernelProbe().fit(X, LABELS),
        lambda X: skastro.write_embeddings("e.npz", X, range(N)),
    ],
)
def test_what_wants_embeddings_says_how_to_get_them(call):
    with pytest.raises(ValueError, match=r"like stamps: pass .*encoder.transform\(stamps\)"):
        call(STAMPS)


def test_masked_properties_are_missing_in_a_probe():
    rng = np.random.default_rng(0)
    columns, mask = rng.normal(size=(N, 4)), np.zeros((N, 4), dtype=bool)
    mask[::5, 3] = True
    columns[mask] = -999
    masked, missing = np.ma.array(columns, mask=mask), np.where(mask, np.nan, columns)
    fit = skastro.KernelProbe(n_properties=1).fit
    expected = fit(missing, LABELS).predict_proba(missing)
    np.testing.assert_array_equal(fit(masked, LABELS).predict_proba(masked), expected)


def test_a_saved_table_of_embeddings_can_be_clustered(tmp_path):
    values = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    skastro.write_embeddings(tmp_path / "e.npz", values, range(30))
    read = skastro.read_embeddings(tmp_path / "e.npz")
    clusterer = skastro.EmbeddingClusterer(reduce=None, random_state=0)
    assert clusterer.fit(read).labels_.tolist() == clusterer.fit(values).labels_.tolist()


@pytest.mark.parametrize(
    "call",
    [
        lambda table: skastro.inspect_survey(STAMPS, table, label="class").columns["distinct"],
        lambda table: skastro.join_catalog(table, [3, 1]).catalog_rows,
        lambda table: skastro.select_columns(table, "mag_*")["mag_r"],
    ],
)
@pytest.mark.parametrize("make", [Table, dict])
def test_catalogues_may_be_tables_of_other_kinds(call, make):
    columns = {"id": np.arange(N), "mag_r": MAGNITUDE, "class": LABELS}
    assert list(call(make(columns))) == list(call(pd.DataFrame(columns)))
