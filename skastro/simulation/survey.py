"""Simulate a survey of stars, galaxies and quasars with GalSim."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Memory, Parallel, delayed
from sklearn.utils import check_random_state, gen_batches

from skastro.simulation.profiles import PIXEL_SCALE
from skastro.simulation.sky import BANDS, BRIGHTEST, CLASSES, ZERO_POINT
from skastro.simulation.telescope import FAINTEST, SIMULATION_VERSION, plan_survey, simulate_chunk
from skastro.stamps.bands import spell_bands
from skastro.surveys.survey import Survey
from skastro.utils.files import cache_folder
from skastro.utils.packages import import_optional
from skastro.utils.progress import report_to

_OBJECTS_PER_TASK = 25  # the same for any n_jobs
_MAX_FAINTEST = 25.0  # mag in i: one visit shows nothing fainter

_DESCRIPTION = """Simulated survey of stars, galaxies and quasars
-----------------------------------------------
Stamps in nanomaggies (AB magnitude = 22.5 - 2.5 log10 flux), sky-subtracted, {scale} arcsec a
pixel, at the depth and seeing of a single Rubin visit (Ivezic et al. 2019), from the profiles,
spectra and bandpasses of GalSim.
Stars follow the SDSS stellar locus (Covey et al. 2007), with 4 % white dwarfs. Galaxies have
Coleman, Wu & Weedman (1980) spectra: 20 % ellipticals, 15 % lenticulars (disc and large bulge),
48 % spirals (disc, bulge and two logarithmic arms) and 17 % irregulars (disc and blue knots to one
side). 12 % of them are merging with a companion of a quarter to the same of their light, one to
two and a half half-light radii away, with a bridge and tidal tails; their morphology is that of the
brighter galaxy, their magnitude that of the pair. Shapes show in galaxies brighter than i = 20.
Quasars are power laws with broad lines, the absorption of the intergalactic medium and, at low
redshift, a host galaxy. Magnitudes are measured on the noise of the very stamps by a model fit and
are not corrected for Galactic extinction. Redshifts are those of a spectrum, NaN for stars: as a
pretext target only, never as an input to classify by. The shares of classes and shapes are fixed,
not those of the sky at this depth.
"""


def make_survey(
    n_objects: int = 3000,
    *,
    bands: str | Sequence[str] = BANDS,
    image_size: int = 32,
    faintest: float = FAINTEST,
    random_state: int | np.random.RandomState | None = 0,
    cache: bool | str | os.PathLike[str] = True,
    n_jobs: int | None = None,
    verbose: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Survey:
    """Simulate a survey of stars, galaxies and quasars with GalSim.

    Parameters
    ----------
    n_objects : int, default=3000
        Number of stamps. About 30 % are stars, 55 % galaxies and 15 % quasars.
    bands : str or sequence of str, default="ugrizy"
        LSST bands to observe, in the order of the stamps. The choice of bands does not change the
        objects.
    image_size : int, default=32
        Height and width of a stamp in pixels of 0.3 arcsec, at least 8.
    faintest : float, default=22.8
        Magnitude in i of the faintest objects, above that of the brightest, 17.5. On stamps of 64
        pixels the shapes of galaxies are visible down to about 20: choose that for tasks of
        morphology.
    random_state : int, RandomState instance or None, default=0
        Seed. The same integer gives the same survey bit for bit, with any ``n_jobs``. None gives
        another survey with each call, which is never cached.
    cache : bool, str or path-like, default=True
        Whether to keep the survey on disk and read it from there the next time: True uses the
        folder in the environment variable ``SKASTRO_CACHE`` (``~/.cache/skastro`` without it), a
        path another folder, False none.
    n_jobs : int or None, default=None
        Number of processes, with the meaning that joblib gives it.
    verbose : int, default=0
        Verbosity of joblib; 10 prints every step.
    progress : callable, default=None
        Function that is called in this process as ``progress(done, total)`` with numbers of
        objects, unless the survey comes from the cache.

    Returns
    -------
    survey : Survey
        Simulated survey with these fields:

        - ``images``: float32 (n_objects, n_bands, image_size, image_size), nanomaggies,
          sky-subtracted, always finite; ``images.bands`` are the names of the bands, also of
          selected rows, so that ``to_rgb(survey.images, bands="irg")`` finds them;
        - ``catalog``: DataFrame with ``id`` (int64), ``class``, ``morphology`` (of galaxies:
          elliptical, lenticular, spiral or irregular; ``""`` for the others, which classifiers
          treat as unlabelled), ``merging`` (bool, False for the others), ``ra``, ``dec`` (degrees),
          ``field`` (int64, the pointing: a group for splits), ``ebv`` (mag), ``mag_*`` and
          ``err_*`` (AB mag, not corrected for extinction; both NaN below a signal-to-noise ratio
          of 3), ``size`` (arcsec, half-light radius after the seeing in the band with the highest
          signal-to-noise ratio; NaN if no band detects the object), ``redshift`` (NaN for stars);
        - ``truth``: DataFrame of the same rows without noise: ``mag_*``, ``size``, ``fwhm_*``
          (seeing, arcsec), ``sky_*`` (sky noise of a pixel, nanomaggies), ``n_neighbours``;
        - ``target``: the class as an array of str (n_objects,); ``target_names``: list of str;
        - ``bands``: tuple of str; ``pixel_scale`` (arcsec); ``zero_point`` (22.5); ``DESCR``.

    Raises
    ------
    ValueError
        ``n_objects``, ``bands``, ``image_size`` or ``faintest`` is out of range.
    ImportError
        GalSim is not installed.

    Examples
    --------
    >>> from skastro.simulation.survey import make_survey
    >>> survey = make_survey(4, bands="gri", cache=False)
    >>> survey.images.shape, survey.images.dtype
    ((4, 3, 32, 32), dtype('float32'))
    >>> survey.catalog.columns.tolist()
    ['id', 'class', 'morphology', 'merging', 'ra', 'dec', 'field', 'ebv', 'mag_g', 'mag_r',
     'mag_i', 'err_g', 'err_r', 'err_i', 'size', 'redshift']
    """
    chosen = _check_survey(n_objects, bands, image_size, faintest)
    galsim = import_optional("galsim", extra="sim", needed_by="make_survey")
    seed = int(check_random_state(random_state).randint(2**31 - 1))
    # A survey without a seed cannot be requested again: do not fill the disk with it.
    simulate = _cached(cache if random_state is not None else False)
    settings = (int(n_objects), chosen, int(image_size), float(faintest), seed)
    versions = (str(SIMULATION_VERSION), galsim.__version__, np.__version__)
    images, catalog, truth = simulate(
        *settings, versions, n_jobs=n_jobs, verbose=verbose, progress=progress
    )
    return Survey(
        images=images,
        catalog=catalog,
        join="Stamps and catalogue are simulated together.",
        truth=truth,
        target=catalog["class"].to_numpy(dtype="U6"),
        target_names=list(CLASSES),
        bands=tuple(chosen),
        pixel_scale=PIXEL_SCALE,
        zero_point=ZERO_POINT,
        DESCR=_DESCRIPTION.format(scale=PIXEL_SCALE),
    )


def _check_survey(
    n_objects: int, bands: str | Sequence[str], image_size: int, faintest: float
) -> str:
    """Check the arguments; return the bands as one string."""
    if not isinstance(n_objects, Integral) or n_objects < 1:
        raise ValueError(f"n_objects must be a whole number of at least 1, got {n_objects!r}.")
    if not isinstance(image_size, Integral) or image_size < 8:
        raise ValueError(f"image_size must be a whole number of at least 8, got {image_size!r}.")
    if not isinstance(faintest, Real) or not BRIGHTEST < faintest <= _MAX_FAINTEST:
        raise ValueError(
            f"faintest must be an i magnitude above {BRIGHTEST} and up to {_MAX_FAINTEST}, "
            f"got {faintest!r}."
        )
    letters = spell_bands(bands, BANDS)
    if not letters or len(set(letters)) < len(letters) or not set(letters) <= set(BANDS):
        raise ValueError(f"bands must be different letters out of {BANDS!r}, got {bands!r}.")
    return "".join(letters)


def _cached(cache: bool | str | os.PathLike[str]) -> Any:
    """Return `_simulate`, with a cache on disk if wanted and possible."""
    if cache is False:
        return _simulate
    folder = cache_folder() if cache is True else Path(cache).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        warnings.warn(
            f"The survey is not cached because {folder} cannot be created ({error.strerror}): "
            "set SKASTRO_CACHE to a folder you may write, or pass cache=False.",
            stacklevel=3,
        )
        return _simulate
    return Memory(folder, verbose=0).cache(_simulate, ignore=["n_jobs", "verbose", "progress"])


def _simulate(
    n_objects: int,
    bands: str,
    image_size: int,
    faintest: float,
    seed: int,
    versions: tuple[str, ...],  # noqa: ARG001 - a part of the cache's key
    n_jobs: int | None = None,
    verbose: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[np.ndarray, pd.DataFrame, pd.DataFrame]:
    """Simulate in chunks that do not depend on ``n_jobs``."""
    plan = plan_survey(n_objects, bands, image_size, seed, faintest=faintest)
    images = np.empty((n_objects, len(bands), image_size, image_size), dtype=np.float32)
    measured, true = [], []
    report = report_to("simulating", n_objects)
    chunks = list(gen_batches(n_objects, _OBJECTS_PER_TASK))
    run = Parallel(n_jobs=n_jobs, verbose=verbose, return_as="generator")
    tasks = (delayed(simulate_chunk)(plan, range(c.start, c.stop)) for c in chunks)
    for chunk, (stamps, rows, truths) in zip(chunks, run(tasks), strict=True):
        images[chunk] = stamps
        measured += rows
        true += truths
        report(chunk.stop)
        if progress is not None:
            progress(chunk.stop, n_objects)
    return images, pd.DataFrame(measured), pd.DataFrame(true)
