"""Small stamps, small encoders, real data and a browser for all tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.decomposition import PCA

from skastro import PropertyPretrainedEncoder
from skastro.embeddings import clustering, projection
from skastro.probes import linear_probe

SIDE = 8


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Run torch in one thread: faster for tiny networks, and sums have one order."""
    torch.set_num_threads(1)


def make_stamps(n=60, bands=3, side=SIDE, seed=0):
    """Return stamps of point-like and extended sources, their labels and their properties."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    extended = np.arange(n) % 2 == 1
    width = np.where(extended, 2.2, 0.8)[:, None, None]
    profile = np.exp(-0.5 * (x**2 + y**2) / width**2)
    profile /= profile.sum((1, 2), keepdims=True)
    flux = 10 ** rng.uniform(2.0, 3.0, size=(n, bands))
    stamps = flux[:, :, None, None] * profile[:, None] + rng.normal(size=(n, bands, side, side))
    properties = pd.DataFrame(
        22.5 - 2.5 * np.log10(flux), columns=[f"mag_{band}" for band in "ugrizy"[:bands]]
    )
    properties["size"] = width.ravel()
    labels = np.where(extended, "galaxy", "star")
    return stamps.astype(np.float32), labels, properties


@pytest.fixture(scope="session")
def survey():
    """Return 60 stamps (60, 3, 8, 8), their labels and their properties."""
    return make_stamps()


@pytest.fixture(scope="session")
def fitted(survey):
    """Return an encoder fitted on the survey's properties."""
    stamps, _, properties = survey
    return tiny_encoder(targets="catalog").fit(stamps, properties=properties)


def tiny_encoder(**params):
    """Return an encoder that trains in a fraction of a second."""
    defaults = {"backbone": "stamp_resnet10", "max_epochs": 2, "batch_size": 16, "random_state": 0}
    return PropertyPretrainedEncoder(**{**defaults, **params})


class OneConvolution:
    """A backbone of one layer, which trains in milliseconds."""

    def __call__(self, bands):
        return torch.nn.Sequential(torch.nn.Conv2d(bands, 16, 3, padding=1), torch.nn.ReLU())

    def __repr__(self):
        return "OneConvolution()"


@pytest.fixture(scope="module")
def quick_umap():
    """Take principal components instead of UMAP, which first compiles for ten seconds."""

    def run_pca(X, *, n_components, **_):
        return PCA(n_components, svd_solver="full").fit_transform(X).astype(np.float32)

    with pytest.MonkeyPatch.context() as patch:
        for module in (clustering, projection):
            patch.setattr(module, "run_umap", run_pca)
        yield


@pytest.fixture(scope="module")
def quick_probe():
    """Let `LinearProbe` compare two strengths of regularisation, once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear_probe, "_CANDIDATES", (0.01, 1.0))
        patch.setattr(linear_probe, "_MAX_REPEATS", 1)
        yield


def find_data(name):
    """Return a folder of real data, or skip the test."""
    roots = [os.environ.get("SKASTRO_DATA"), Path(__file__).parents[2] / "shared" / "data"]
    for root in filter(None, roots):
        if (folder := Path(root) / name).is_dir():
            return folder
    pytest.skip(f"the {name} data are neither in SKASTRO_DATA nor in ../shared/data")
    return None


@pytest.fixture
def locked(tmp_path):
    """Return a folder into which nobody may write, not even root."""
    folder = tmp_path / "locked"
    if os.geteuid() == 0:
        folder = Path("/sys/kernel")
        if not folder.is_dir():
            pytest.skip("root may write everywhere here: there is no /sys")
    else:
        folder.mkdir(mode=0o500)
    return folder


@pytest.fixture(scope="module")
def browser():
    """Return headless Chromium, driven by playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no browser looks at the pages: install chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def look(browser):
    """Return a function that opens a page and records its errors and requests."""
    contexts = []

    def open_page(path, *, width=1280, height=900, scheme="light", touch=False):
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            has_touch=touch,
            is_mobile=touch,
        )
        contexts.append(context)
        page = context.new_page()
        page.faults = []
        page.on("console", lambda m: page.faults.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on(
            "request", lambda request: page.faults.append(request.url) if leaves(request) else None
        )
        page.goto(path.as_uri())
        return page

    def leaves(request):
        return request.url.startswith(("http:", "https:", "ws:", "wss:"))

    yield open_page
    for context in contexts:
        context.close()
