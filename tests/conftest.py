"""Small stamps that hold something to learn, and the way to real ones."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from skastro import PropertyPretrainedEncoder

SIDE = 8


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Tiny networks: threads cost more than they bring, and sums keep one order."""
    torch.set_num_threads(1)


def make_stamps(n=60, bands=3, side=SIDE, seed=0):
    """Point and extended sources of known magnitude on noise; labels and properties."""
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
    """Return an encoder fitted on the survey."""
    stamps, _, properties = survey
    return tiny_encoder().fit(stamps, properties=properties)


def tiny_encoder(**params):
    """Return an encoder that trains in a fraction of a second."""
    defaults = {"backbone": "stamp_resnet10", "max_epochs": 2, "batch_size": 16, "random_state": 0}
    return PropertyPretrainedEncoder(**{**defaults, **params})


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
    """Return a folder that nobody may write to, not even root."""
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
    """Return a function that opens a page and notes what goes wrong with it."""
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
