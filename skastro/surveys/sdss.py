"""Stars, galaxies and quasars of SDSS, fetched from SkyServer and CDS by astroquery."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy import units
from astropy.coordinates import Angle, Latitude, Longitude
from numpy.typing import NDArray

from skastro.catalogs.reading import read_catalog
from skastro.catalogs.writing import write_table
from skastro.stamps.bands import spell_bands
from skastro.surveys.folders import load_survey
from skastro.surveys.survey import Survey
from skastro.utils.files import cache_folder, digest_arrays, first_line, replacing, writing
from skastro.utils.packages import import_optional
from skastro.utils.progress import Progress, report_to, reporting

SDSS_CLASSES = ("STAR", "GALAXY", "QSO")
SDSS_BANDS = "ugriz"
SDSS_PIXEL_SCALE = 0.396  # arcsec, of the SDSS camera
SDSS_HIPS = {band: f"CDS/P/SDSS9/{band}" for band in SDSS_BANDS}

_HASH_PRIME = 2**31 - 1  # modulus of the hash: products of two residues fit SQL's bigint
_SPECTRA_PER_OBJECT = 4  # spectra drawn for each object, as not all have clean photometry
_MAX_FAILURES_IN_A_ROW = 3  # more failures mean that the service is down, not that an object fails
_NOT_MEASURED = -9999.0  # value of the SDSS catalogue

_COLUMNS = {  # column of the catalogue: its name at SDSS, and its unit
    **{name: (name, "deg") for name in ("ra", "dec")},
    **{name: (name, "") for name in ("run", "camcol", "field")},
    **{f"mag_{band}": (f"modelMag_{band}", "mag") for band in SDSS_BANDS},
    **{f"err_{band}": (f"modelMagErr_{band}", "mag") for band in SDSS_BANDS},
    **{f"psf_mag_{band}": (f"psfMag_{band}", "mag") for band in SDSS_BANDS},
    **{f"psf_err_{band}": (f"psfMagErr_{band}", "mag") for band in SDSS_BANDS},
    **{f"ext_{band}": (f"extinction_{band}", "mag") for band in SDSS_BANDS},
    "petro_r50": ("petroR50_r", "arcsec"),
    "petro_r50_err": ("petroR50Err_r", "arcsec"),
    "redshift": ("redshift", ""),
    "redshift_err": ("redshift_err", ""),
}

_DESCRIPTION = """Stars, galaxies and quasars of SDSS DR{release}
--------------------------------------------
Spectroscopic classes and redshifts, magnitudes, extinction and sizes of the SDSS catalogue;
cut-outs of {images} by CDS hips2fits, {pixel_scale} arcsec a pixel, in the
unit of the survey (not verified). If you publish results from these data, acknowledge SDSS and
hips2fits, a tool developed at CDS, Strasbourg, France.
"""


def fetch_sdss(
    n_objects: int = 3000,
    *,
    classes: Sequence[str] = SDSS_CLASSES,
    bands: str | Sequence[str] = SDSS_BANDS,
    size: int = 32,
    pixel_scale: float = SDSS_PIXEL_SCALE,
    hips: Mapping[str, str] | None = None,
    out: str | os.PathLike[str] | None = None,
    random_state: int = 0,
    release: int = 17,
    progress: Progress | None = None,
) -> Survey:
    """Fetch stars, galaxies and quasars of SDSS: stamps, magnitudes, redshifts and classes.

    The classes are those of the SDSS spectra, in equal numbers, drawn at random from the spectra
    without a warning whose object has clean photometry. The catalogue comes from SkyServer by
    ``astroquery.sdss``, the cut-outs from CDS by ``astroquery.hips2fits``, one request for each
    object and band. A second call with the same arguments, also after an interruption, fetches
    only what is missing in the folder. If nothing is missing, no service is asked.

    .. warning::
       This function has been run only against stand-ins for the two services, never against
       SkyServer and CDS themselves. It is not verified that SkyServer accepts the query, that the
       names of the HiPS are right, which unit their pixels have, and how many requests the
       services allow.

    Parameters
    ----------
    n_objects : int, default=3000
        Number of objects, the same for each class (the first classes get the remainder).
    classes : sequence of str, default=("STAR", "GALAXY", "QSO")
        Spectroscopic classes, out of these three.
    bands : str or sequence of str, default="ugriz"
        Bands of the stamps, in order. The catalogue always has the five SDSS bands.
    size : int, default=32
        Height and width of a stamp in pixels, at least 8.
    pixel_scale : float, default=0.396
        Pixel size in arcsec, to which hips2fits resamples.
    hips : mapping of str to str, default=None
        Name at CDS of the HiPS of a band, for example ``{"g": "CDS/P/PanSTARRS/DR1/g"}``: this
        combines stamps of any survey with the classes of SDSS. Bands without an entry are taken
        from SDSS DR9, ``CDS/P/SDSS9/u`` to ``CDS/P/SDSS9/z``.
    out : path, default=None
        Folder to fetch into. None means a folder of its own for these arguments, in the folder
        of the environment variable ``SKASTRO_CACHE`` (``~/.cache/skastro`` without it).
    random_state : int, default=0
        Seed of the choice of objects.
    release : int, default=17
        Data release of SDSS.
    progress : callable, default=None
        Function that is called as ``progress(stage, done, total)``.

    Returns
    -------
    survey : Survey
        In the order of the ids, with these fields:

        - ``images``: lazy Stamps, float32 (n, n_bands, size, size), north up and east left where
          the service does so; NaN outside a survey. hips2fits resamples the pixels, which
          keeps their surface brightness, not their flux. Their unit is neither stated by the
          service nor verified: for SDSS it is presumably nanomaggies in a pixel of the survey's
          own frames, sky-subtracted (AB magnitude = 22.5 - 2.5 log10 flux);
        - ``catalog``: DataFrame of the same n rows: ``id`` (the 19 digits of objID, text),
          ``class``, ``ra``, ``dec`` (degrees), ``run``, ``camcol``, ``field`` (together the SDSS
          field: groups for splits), ``mag_*`` and ``err_*`` (model magnitudes, SDSS asinh
          system, not corrected for extinction), ``psf_mag_*`` and ``psf_err_*`` (of a point
          source), ``ext_*`` (mag, Galactic), ``petro_r50`` and ``petro_r50_err`` (arcsec, half
          the Petrosian light in r), ``redshift`` and ``redshift_err`` (of stars: their radial
          velocity / c). NaN where SDSS did not measure (-9999, or a negative error). Redshifts
          come from the spectrum that gives the class: use them as pretext targets only, never as
          an input to classify by;
        - ``target``: the class as an array (n,); ``target_names``: sorted list of str;
        - ``left_out``: dict with the lists of ids ``"empty"`` (a cut-out has no pixel other than
          NaN and 0) and ``"failed"`` (a cut-out could not be fetched: call again);
        - ``bands``: tuple of str; ``pixel_scale`` (arcsec); ``path``: the folder; ``DESCR``.

    Raises
    ------
    ValueError
        An argument is out of range, SDSS has no such objects, no object has a cut-out in all
        bands, or ``out`` holds other data.
    ConnectionError
        A service cannot be reached, refuses, or gives no usable answer. What has been fetched is
        kept.
    OSError
        The folder cannot be written to, or is full.
    ImportError
        astroquery, or matplotlib which its hips2fits needs, is not installed.

    Warns
    -----
    UserWarning
        Objects were left out, or SDSS has fewer of a class than asked for.

    Notes
    -----
    The folder is a data folder for `load_folder`: ``catalog.ecsv`` has units, ``stamps`` holds a
    file for each object, ``empty`` the cut-outs without light, ``request.json`` the arguments. Each
    file is written whole or not at all. Change the addresses and timeouts of the services in the
    settings of astroquery.

    Examples
    --------
    >>> from skastro import fetch_sdss
    >>> survey = fetch_sdss(300, bands="gri", out="sdss300")  # doctest: +SKIP
    >>> survey.images.shape, survey.target_names  # doctest: +SKIP
    ((300, 3, 32, 32), ['GALAXY', 'QSO', 'STAR'])
    """
    names_of_hips = SDSS_HIPS | dict(hips or {})
    bands = spell_bands(bands, names_of_hips)
    request: dict[str, Any] = {
        "n_objects": n_objects,
        "classes": list(classes),
        "bands": list(bands),
        "size": size,
        "pixel_scale": pixel_scale,
        "hips": {band: names_of_hips.get(band) for band in bands},
        "random_state": random_state,
        "release": release,
    }
    _check_request(request)
    key = digest_arrays(np.array([json.dumps(request, sort_keys=True)]))[:12]
    folder = cache_folder() / "sdss" / key if out is None else Path(out).expanduser()
    # Fetch what is missing in the folder.
    with nullcontext() if progress is None else reporting(progress):
        _open_folder(folder, request)
        if not (folder / "catalog.ecsv").is_file():
            write_table(folder / "catalog.ecsv", _query_catalog(request))
        catalog = read_catalog(folder / "catalog.ecsv")
        failed = _fetch_cutouts(folder, catalog, request)
    # Warn about objects without stamps.
    left_out = {"empty": _ids_in(folder / "empty"), "failed": failed}
    problems = {"empty": "an empty cut-out", "failed": "a cut-out that failed (call again)"}
    for reason, problem in problems.items():
        if ids := left_out[reason]:
            warnings.warn(
                f"{len(ids)} of {len(catalog)} objects have {problem} and are left out "
                "(left_out has their ids).",
                stacklevel=2,
            )
    if not _ids_in(folder / "stamps"):
        raise ValueError(
            f"none of {len(catalog)} objects has pixels in all of {', '.join(request['bands'])}: "
            "choose another hips or other bands, and another out."
        )
    survey = load_survey(folder / "stamps", folder / "catalog.ecsv", bands=request["bands"])
    survey.target = survey.catalog["class"].to_numpy(dtype="U6")
    survey.target_names = sorted(set(survey.catalog["class"]))
    survey.left_out, survey.path = left_out, folder
    survey.pixel_scale = request["pixel_scale"]
    survey.DESCR = _DESCRIPTION.format(**request, images=", ".join(request["hips"].values()))
    return survey


def _check_request(request: dict[str, Any]) -> None:
    """Check the arguments, and convert their numbers to those of Python."""
    if not set(request["classes"]) <= set(SDSS_CLASSES):
        raise ValueError(
            f"classes must be some of {', '.join(SDSS_CLASSES)}, got {request['classes']}."
        )
    for name in ("classes", "bands"):
        if not request[name] or len(set(request[name])) < len(request[name]):
            raise ValueError(f"{name} must be different names, got {request[name]}.")
    lowest = {"n_objects": len(request["classes"]), "size": 8, "random_state": 0, "release": 8}
    for name, least in lowest.items():
        if not isinstance(request[name], Integral) or not least <= request[name] < 2**31:
            raise ValueError(
                f"{name} must be a whole number of at least {least}, got {request[name]!r}."
            )
        request[name] = int(request[name])
    scale = request["pixel_scale"]
    if not isinstance(scale, Real) or not 0 < float(scale) < math.inf:
        raise ValueError(f"pixel_scale must be a positive number of arcsec, got {scale!r}.")
    request["pixel_scale"] = float(scale)
    for band, hips in request["hips"].items():
        if hips is None:
            raise ValueError(f"the band {band!r} has no HiPS: name it in hips.")


def _open_folder(folder: Path, request: dict[str, Any]) -> None:
    """Create the folder of a fetch, or refuse it if it holds other data."""
    path, text = folder / "request.json", json.dumps(request, indent=1)
    if path.is_file():
        if path.read_text(errors="replace") != text:
            raise ValueError(
                f"{folder} holds a fetch with other arguments (see request.json): pass another "
                "out, or the same arguments."
            )
        return
    if folder.is_dir() and any(not file.name.startswith(".") for file in folder.iterdir()):
        raise ValueError(f"{folder} holds data from elsewhere: pass another out.")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(text)


def _query_catalog(request: dict[str, Any]) -> pd.DataFrame:
    """Ask SkyServer for the objects of all classes."""
    sdss = import_optional("astroquery.sdss", extra="data", needed_by="fetch_sdss")
    classes, tables = request["classes"], []
    report = report_to("asking SDSS for the catalogue", len(classes))
    per_class, remainder = divmod(request["n_objects"], len(classes))
    for number, name in enumerate(classes):
        report(number)
        wanted = per_class + (number < remainder)
        try:
            query = _write_query(name, wanted, request["random_state"])
            answer = sdss.SDSS.query_sql(query, data_release=request["release"], cache=False)
            table = None if answer is None else _read_answer(answer.to_pandas(), name)
        except Exception as error:
            raise ConnectionError(
                f"SkyServer did not give the {name} objects ({first_line(error)}): call again."
            ) from error
        if table is None:
            raise ValueError(
                f"SDSS DR{request['release']} has no clean {name} objects: "
                "choose other classes or another release."
            )
        if len(table) < wanted:
            warnings.warn(
                f"SDSS gave {len(table)} objects of the class {name} instead of {wanted}.",
                stacklevel=3,
            )
        tables.append(table)
    report(len(classes))
    # An image with spectra of two classes belongs to neither.
    catalog = pd.concat(tables).drop_duplicates("id", keep=False).sort_values("id")
    catalog.attrs = {"units": {name: unit for name, (_, unit) in _COLUMNS.items() if unit}}
    return catalog


def _write_query(name: str, wanted: int, seed: int) -> str:
    """Return the SQL that asks for objects of a class, chosen at random by the seed."""
    # A hash of the ids, (a id + b) mod p, orders the objects, with a and b drawn from the seed
    # (Carter & Wegman 1979, J. Comput. Syst. Sci. 18, 143).
    a, b = np.random.RandomState(seed).randint(1, _HASH_PRIME, size=2)
    dice = f"(bestObjID % {_HASH_PRIME} * {a} + {b}) % {_HASH_PRIME} AS dice"
    # Many web servers refuse a query of more than 2048 characters: the columns keep the short
    # names that they have at SDSS.
    columns = ",".join(["objID", "class", *(column for column, _ in _COLUMNS.values())])
    return (
        f"SELECT TOP {wanted} {columns} FROM "  # noqa: S608 - all parts are checked
        f"(SELECT TOP {wanted * _SPECTRA_PER_OBJECT} bestObjID,class,z AS redshift,"
        f"zErr AS redshift_err,{dice} FROM SpecObj "
        f"WHERE class='{name}' AND zWarning=0 AND bestObjID>0 ORDER BY dice,bestObjID) AS s "
        "JOIN PhotoPrimary AS p ON p.objID=s.bestObjID WHERE p.clean=1 ORDER BY dice,objID"
    )


def _read_answer(answer: pd.DataFrame, name: str) -> pd.DataFrame:
    """Bring the table of SkyServer to the columns of the catalogue."""
    answer = answer.rename(columns=str.lower)
    if (answer["class"] != name).any() or not pd.api.types.is_integer_dtype(answer["objid"]):
        raise ValueError("its table has other classes, or ids that are not whole numbers")
    table = pd.DataFrame({"id": answer["objid"].astype(str), "class": answer["class"]})
    for column, (sdss_name, _) in _COLUMNS.items():
        values = answer[sdss_name.lower()]
        table[column] = values.mask(values < 0 if "err" in column else values == _NOT_MEASURED)
    return table.drop_duplicates("id")  # several spectra of one object


def _fetch_cutouts(folder: Path, catalog: pd.DataFrame, request: dict[str, Any]) -> list[str]:
    """Fetch the cut-outs that are missing; return the ids of the objects that failed."""
    for name in ("stamps", "empty"):
        with writing(folder):
            (folder / name).mkdir(exist_ok=True)
    fetched = {*_ids_in(folder / "stamps"), *_ids_in(folder / "empty")}
    if not catalog["id"].astype(str).str.fullmatch("[0-9]+").all():  # they become file names
        raise ValueError(f"{folder} holds ids that are not whole numbers: delete its catalog.ecsv.")
    missing = catalog[~catalog["id"].isin(fetched)]
    report = report_to("fetching cut-outs", total := len(catalog))
    report(len(fetched))
    failed: list[str] = []
    if missing.empty:
        return failed
    import_optional("matplotlib.colors", extra="data", needed_by="hips2fits of astroquery")
    service = import_optional("astroquery.hips2fits", extra="data", needed_by="fetch_sdss")
    in_a_row = 0
    for done, row in enumerate(missing.itertuples(), len(fetched) + 1):
        try:
            cutouts = [_cut(service, row, band, request) for band in request["bands"]]
        except Exception as error:
            failed.append(row.id)
            in_a_row += 1
            if in_a_row == min(_MAX_FAILURES_IN_A_ROW, total):
                raise ConnectionError(
                    f"hips2fits gave no cut-outs of {in_a_row} objects in a row "
                    f"({first_line(error)}): call again to go on, {folder} keeps the "
                    f"{done - len(failed)} of {total} objects that are fetched."
                ) from error
        else:
            in_a_row, pixels = 0, np.stack(cutouts)
            has_light = (np.isfinite(pixels) & (pixels != 0)).any(axis=(1, 2)).all()
            with replacing(folder / ("stamps" if has_light else "empty") / f"{row.id}.npy") as path:
                np.save(path, pixels)
        report(done)
    return failed


def _ids_in(folder: Path) -> list[str]:
    return sorted(file.stem for file in folder.glob("[!.]*.npy"))


def _cut(service: Any, row: Any, band: str, request: dict[str, Any]) -> NDArray[np.float32]:
    """Ask hips2fits for the pixels (size, size) of an object in a band."""
    size = request["size"]
    hdus = service.hips2fits.query(
        hips=request["hips"][band],
        width=size,
        height=size,
        projection="TAN",
        ra=Longitude(row.ra * units.deg),
        dec=Latitude(row.dec * units.deg),
        fov=Angle(size * request["pixel_scale"] * units.arcsec),
        coordsys="icrs",
        format="fits",
    )
    pixels = np.asarray(hdus[0].data)
    if pixels.shape != (size, size):
        raise ValueError(f"an image of the shape {pixels.shape} instead of {(size, size)}")
    return pixels.astype(np.float32)
