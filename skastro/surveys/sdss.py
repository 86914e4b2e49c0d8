"""Real surveys by name: SDSS spectra, magnitudes and cut-outs, from public services."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units
from astropy.table import Table, vstack
from sklearn.utils import Bunch

from skastro.surveys.downloads import Cutouts, Store, key_of
from skastro.surveys.services import Services, Unanswered

SDSS_CLASSES = ("STAR", "GALAXY", "QSO")
SDSS_BANDS = "ugriz"
SDSS_PIXEL_SCALE = 0.396  # arcsec, of the SDSS camera
SDSS_HIPS = {band: f"CDS/P/SDSS9/{band}" for band in SDSS_BANDS}

_PRIME = 2**31 - 1  # the hash's modulus: products of two residues fit SQL's bigint
_SPARE = 4  # spectra drawn for each object wanted, as not all have clean photometry
_GIVE_UP = 3  # objects failing in a row: it is the service, not the objects
_NAMED = 5  # ids that a message shows
_UNMEASURED = -9999.0  # of the SDSS catalogue
_FORMAT = 1  # of the folder

_PLACE = {"ra": "deg", "dec": "deg", "run": "", "camcol": "", "field": ""}
_MEASURED = {  # the column here: that of PhotoObj, and its unit
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

_QUERY = (
    "SELECT q.*,COUNT(*) OVER() AS n_rows FROM (SELECT TOP {n} {columns} FROM "
    "(SELECT TOP {spare} bestObjID,class,z AS redshift,zErr AS redshift_err,"
    "(bestObjID % {prime} * {a} + {b}) % {prime} AS dice FROM SpecObj "
    "WHERE class='{name}' AND zWarning=0 AND bestObjID>0 ORDER BY dice,bestObjID) AS s "
    "JOIN PhotoPrimary AS p ON p.objID=s.bestObjID WHERE p.clean=1 ORDER BY dice,objID) AS q"
)

_DESCRIPTION = """Stars, galaxies and quasars of SDSS DR{release}
{line}
Spectroscopic classes and redshifts, magnitudes, extinction and sizes of the SDSS catalogue;
cut-outs of {hips} by CDS hips2fits, {scale} arcsec a pixel, in the
unit of the survey (not verified). Where you publish what you found with them, acknowledge SDSS and
hips2fits, a tool developed at CDS, Strasbourg, France.
"""

Progress = Callable[[str, int, int | None], None]


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
    min_interval: float = 0.2,
    timeout: float = 60.0,
    retries: int = 3,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> Bunch:
    """Fetch stars, galaxies and quasars of SDSS: stamps, magnitudes, redshifts and classes.

    The classes are those of the SDSS spectra, in equal numbers, drawn at random out of the
    spectra without warning whose object has clean photometry. The catalogue comes from SkyServer
    by ``astroquery.sdss``, the cut-outs from CDS by ``astroquery.hips2fits``, one request for each
    object and band. An interrupted fetch goes on where it stopped when it is called again with
    the same arguments, and a folder that is complete is read without asking any service.

    .. warning::
       This has been run only against a loopback server that answers in the services' formats,
       never against SkyServer and CDS themselves. Not verified are, above all, that SkyServer
       accepts the query as it is written, the names of the HiPS, the unit of their pixels, and
       how fast the services let one ask.

    Parameters
    ----------
    n_objects : int, default=3000
        Objects to ask for, as many of each class (the first classes get what remains).
    classes : sequence of str, default=("STAR", "GALAXY", "QSO")
        Spectroscopic classes, out of these three.
    bands : str or sequence of str, default="ugriz"
        Bands of the stamps, in order. The catalogue has the five SDSS bands whatever they are.
    size : int, default=32
        Height and width of a stamp in pixels, at least 8.
    pixel_scale : float, default=0.396
        Arcsec a pixel, to which hips2fits resamples.
    hips : mapping of str to str, default=None
        HiPS of a band by its name at CDS, for example ``{"g": "CDS/P/PanSTARRS/DR1/g"}``; this
        way stamps of any survey go with the classes of SDSS. Bands that it lacks are of SDSS
        DR9, ``CDS/P/SDSS9/u`` to ``CDS/P/SDSS9/z``.
    out : path, default=None
        Folder to fetch into. None for one in the environment variable ``SKASTRO_CACHE``
        (``~/.cache/skastro`` without it), which is found again by the other arguments.
    random_state : int, default=0
        Which objects are drawn, and in which order.
    release : int, default=17
        Data release of SDSS.
    min_interval : float, default=0.2
        Seconds at least between the starts of two requests: the defaults ask for 15,000
        cut-outs, which takes 50 minutes or more.
    timeout : float, default=60
        Seconds that a service may stay silent on a cut-out; on a query, ten times as many.
    retries : int, default=3
        Further attempts after a time-out, a lost connection, an answer 429 or 5xx, or one that is
        damaged; after 1 s, 2 s, 4 s and so on.
    retry_failed : bool, default=False
        Ask again for the objects of a complete folder that were left out because a cut-out
        failed.
    progress : callable, default=None
        Called as ``progress(stage, done, total)``.

    Returns
    -------
    data : Bunch
        - ``images``: read-only memory map, float32 (n, n_bands, size, size), north up and east
          left where the service does so. The pixels are as hips2fits gives them, resampled: for
          SDSS presumably the nanomaggies of a pixel of the survey's own frames, sky-subtracted
          (AB magnitude = 22.5 - 2.5 log10 flux), but neither stated by the service nor verified;
          a resampled pixel keeps the surface brightness, not the flux. NaN outside a survey;
        - ``catalog``: DataFrame of the same n rows: ``id`` (the 19 digits of objID, text),
          ``class``, ``ra``, ``dec`` (degrees), ``run``, ``camcol``, ``field`` (together the SDSS
          field: groups for splits), ``mag_*`` and ``err_*`` (model magnitudes, SDSS asinh
          system, not corrected for extinction), ``psf_mag_*`` and ``psf_err_*`` (of a point
          source), ``ext_*`` (mag, Galactic), ``petro_r50`` and ``petro_r50_err`` (arcsec, half
          the Petrosian light in r), ``redshift`` and ``redshift_err`` (of stars: their radial
          velocity / c). NaN where SDSS did not measure (-9999, or a
          negative error). Redshifts come from the spectrum
          that gives the class: as a pretext target only, never as an input to classify by;
        - ``target``: the class as an array (n,); ``target_names``: sorted list of str;
        - ``left_out``: dict with the lists of ids ``"empty"`` (a cut-out without a pixel other
          than NaN and 0) and ``"failed"`` (no cut-out after all attempts);
        - ``bands``: tuple of str; ``pixel_scale`` (arcsec); ``bunit``: dict of band to the pixel
          units the service gave (list of str, often empty); ``path``: the folder; ``DESCR``.

    Raises
    ------
    ValueError
        An argument is out of range, SDSS has no such objects, no object has a cut-out in all
        bands, or ``out`` holds something else.
    ConnectionError
        A service cannot be reached, refuses, or gives no usable answer; what has been fetched is
        kept.
    OSError
        The folder cannot be written to, or is full.
    ImportError
        astroquery is not installed.

    Warns
    -----
    UserWarning
        Objects were left out, or SDSS has fewer of a class than asked for.

    Notes
    -----
    The folder is a data folder for `load_folder`: ``catalog.ecsv`` (with units) and
    ``stamps.npy``; beside them ``manifest.json``, with the SHA-256 of every file, and
    ``download-<key>``, with what SDSS answered and the SHA-256 of each cut-out. Files are written
    under another name until they are complete; damaged ones are mended from what is intact, and
    only damaged cut-outs are fetched again.

    Examples
    --------
    >>> from skastro import fetch_sdss
    >>> data = fetch_sdss(300, bands="gri", out="sdss300")  # doctest: +SKIP
    >>> data.images.shape, data.target_names  # doctest: +SKIP
    ((300, 3, 32, 32), ['GALAXY', 'QSO', 'STAR'])
    """
    request = _check_request(
        n_objects, classes, bands, size, pixel_scale, hips or {}, random_state, release
    )
    if min_interval < 0 or timeout <= 0 or retries < 0:
        raise ValueError("min_interval and retries must be at least 0, and timeout above 0.")
    store = Store(_choose_folder(out, request), request)
    if not store.is_complete() or (retry_failed and store.left_out["failed"]):
        services = Services(min_interval=min_interval, timeout=timeout, retries=retries)
        progress = progress or (lambda *_: None)
        selection = _select(store, services, progress)
        with store.open_cutouts(selection["id"]) as cutouts:
            failed = _fetch_cutouts(store, cutouts, selection, services, progress)
            _assemble(store, cutouts, selection, failed)
        _tell_left_out(store)
    return _load(store)


def _check_request(
    n_objects: int,
    classes: Sequence[str],
    bands: str | Sequence[str],
    size: int,
    pixel_scale: float,
    hips: Mapping[str, str],
    random_state: int,
    release: int,
) -> dict[str, Any]:
    """Refuse what cannot be asked for; return what decides on the result, as JSON has it."""
    if isinstance(classes, str) or not classes or not set(classes) <= set(SDSS_CLASSES):
        raise ValueError(f"classes must be some of {', '.join(SDSS_CLASSES)}, got {classes!r}.")
    wholes = {
        "n_objects": (n_objects, len(classes)),
        "size": (size, 8),
        "random_state": (random_state, 0),
        "release": (release, 8),
    }
    for name, (value, least) in wholes.items():
        if not isinstance(value, Integral) or not least <= value < 2**31:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}.")
    if not isinstance(pixel_scale, Real) or not 0 < pixel_scale < math.inf:
        raise ValueError(f"pixel_scale must be a positive number of arcsec, got {pixel_scale!r}.")
    for name, given in (("classes", classes), ("bands", bands)):
        if not len(given) or len(set(given)) < len(given):
            raise ValueError(f"{name} must be different names, got {given!r}.")
    names = {**SDSS_HIPS, **hips}
    if unknown := [band for band in bands if band not in names]:
        raise ValueError(f"the band {unknown[0]!r} has no HiPS: name it in hips.")
    return {
        "format": _FORMAT,
        "n_objects": int(n_objects),
        "classes": list(classes),
        "bands": list(bands),
        "size": int(size),
        "pixel_scale": float(pixel_scale),
        "hips": {band: str(names[band]) for band in bands},
        "random_state": int(random_state),
        "release": int(release),
    }


def _choose_folder(out: str | os.PathLike[str] | None, request: dict[str, Any]) -> Path:
    if out is not None:
        return Path(out).expanduser()
    cache = os.environ.get("SKASTRO_CACHE") or Path.home() / ".cache" / "skastro"
    return Path(cache).expanduser() / "sdss" / key_of(request)


def _select(store: Store, services: Services, progress: Progress) -> Table:
    """Return the objects to fetch: as many of each class, in an order of their own."""
    request, tables = store.request, []
    classes = request["classes"]
    for done, name in enumerate(classes):
        progress("asking SDSS for the catalogue", done, len(classes))
        wanted = request["n_objects"] // len(classes) + (done < request["n_objects"] % len(classes))
        tables.append(_select_class(store, services, name, wanted))
    progress("asking SDSS for the catalogue", len(classes), len(classes))
    table = vstack(tables, metadata_conflicts="silent")
    _, first, times = np.unique(table["id"], return_index=True, return_counts=True)
    table = table[np.sort(first[times == 1])]  # two classes for one image are none
    return table[np.random.RandomState(request["random_state"]).permutation(len(table))]


def _select_class(store: Store, services: Services, name: str, wanted: int) -> Table:
    """Return the objects of a class, from the folder or from SDSS."""
    file = f"{store.parts}/{name}.ecsv"
    if not store.is_intact(file):
        sql = _sql(name, wanted, store.request["random_state"])
        release = store.request["release"]
        try:
            table = services.query(sql, release, lambda answer: _tidy(answer, name))
        except Unanswered as error:
            raise ConnectionError(
                f"SkyServer did not give the {name} objects ({error}): "
                f"run it again to go on, {store.folder} keeps what is fetched."
            ) from error
        if not len(table):
            raise ValueError(
                f"SDSS DR{release} gave no clean {name} objects: "
                "choose other classes or another release."
            )
        if len(table) < wanted:
            warnings.warn(
                f"SDSS gave {len(table)} objects of the class {name} instead of {wanted}.",
                stacklevel=4,
            )
        store.keep(file, lambda path: _write(table, path))
    return Table.read(store.folder / file, format="ascii.ecsv")


def _sql(name: str, wanted: int, seed: int) -> str:
    """Return the query for objects of a class, chosen and ordered by a hash of their ids.

    The hash is (a id + b) mod p, with a and b drawn from the seed (Carter & Wegman 1979, J.
    Comput. Syst. Sci. 18, 143). The last column says how many rows there are: half an answer
    lacks it, or has another number of rows. A question above 2048 characters is refused by
    many a web server, so the columns keep the short names they have.
    """
    a, b = np.random.RandomState(seed).randint(1, _PRIME, size=2)
    measured = [column for column, _ in _MEASURED.values() if not column.startswith("redshift")]
    columns = ",".join(["objID", "class", *_PLACE, *measured, "redshift", "redshift_err"])
    return _QUERY.format(
        n=wanted, columns=columns, spare=wanted * _SPARE, a=a, b=b, prime=_PRIME, name=name
    )


def _tidy(answer: Table | None, name: str) -> Table:
    """Check a table of SkyServer and bring it to the columns of the catalogue."""
    if answer is None:
        return Table({"id": np.empty(0, dtype="U19")})
    given = {column.lower(): answer[column] for column in answer.colnames}
    wanted = ["objid", "class", *_PLACE, "n_rows"]
    wanted += [column.lower() for column, _ in _MEASURED.values()]
    if lacking := [column for column in wanted if column not in given]:
        raise Unanswered(f"its table has no {lacking[0]}")
    whole = {"objid", "run", "camcol", "field", "n_rows"}
    for column in wanted:
        kinds = "U" if column == "class" else "iu" if column in whole else "iuf"
        if given[column].dtype.kind not in kinds or np.ma.is_masked(given[column]):
            raise Unanswered(f"its table has a {column} that is no such thing")
    if (given["n_rows"] != len(answer)).any():
        raise Unanswered("half a table")
    if (given["class"] != name).any():
        raise Unanswered("a table of another class")
    table = Table({"id": [str(each) for each in given["objid"]], "class": given["class"]})
    for column, unit in _PLACE.items():
        table[column] = _plain(given[column], unit)
    for column, (theirs, unit) in _MEASURED.items():
        values = np.asarray(given[theirs.lower()], dtype=np.float64)
        unknown = values < 0 if "err" in column else values == _UNMEASURED
        table[column] = _plain(np.where(unknown, np.nan, values), unit)
    _, first = np.unique(table["id"], return_index=True)  # several spectra of one object
    return table[np.sort(first)]


def _plain(values: Any, unit: str) -> Any:
    return np.asarray(values) * units.Unit(unit) if unit else np.asarray(values)


def _fetch_cutouts(
    store: Store, cutouts: Cutouts, selection: Table, services: Services, progress: Progress
) -> list[int]:
    """Fetch what is missing; return the rows that failed."""
    pending = [row for row in range(len(selection)) if cutouts.missing(row)]
    total, failed, streak = len(selection), [], 0
    progress("fetching cut-outs", total - len(pending), total)
    for done, row in enumerate(pending, total - len(pending) + 1):
        try:
            while missing := cutouts.missing(row):
                cutouts.put(row, missing[0], *_cut(store, services, selection[row], missing[0]))
            streak = 0
        except Unanswered as error:
            failed.append(row)
            streak += 1
            if streak == _GIVE_UP or len(failed) == total:
                raise ConnectionError(
                    f"hips2fits gave no cut-outs of {streak} objects in a row ({error}): run it "
                    f"again to go on, {store.folder} keeps the {done - len(failed)} of {total} "
                    "objects that are fetched."
                ) from error
        progress("fetching cut-outs", done, total)
    return failed


def _cut(store: Store, services: Services, place: Any, column: int) -> tuple[Any, str]:
    request = store.request
    return services.cutout(
        request["hips"][request["bands"][column]],
        float(place["ra"]),
        float(place["dec"]),
        request["size"],
        request["pixel_scale"],
    )


def _assemble(store: Store, cutouts: Cutouts, selection: Table, failed: list[int]) -> None:
    """Write the catalogue and the stamps of the objects that have all their cut-outs."""
    rows = range(len(selection))
    empty = [row for row in rows if cutouts.is_empty(row)]
    kept = sorted({*rows} - {*empty, *failed})
    if not kept:
        raise ValueError(
            f"none of {len(rows)} objects has pixels in all of {', '.join(cutouts.bands)}: "
            "choose another hips or other bands, and another out."
        )
    catalog = selection[kept]
    # until both are written, the manifest must not vouch for files of different rows
    store.manifest["files"].pop("stamps.npy", None)
    store.keep("catalog.ecsv", lambda path: _write(catalog, path))
    reasons = {"empty": empty, "failed": failed}
    ids = {reason: [cutouts.ids[row] for row in some] for reason, some in reasons.items()}
    store.manifest |= {"left_out": ids, "bunit": cutouts.bunit()}
    store.keep_stamps(cutouts, kept)


def _write(table: Table, path: Path) -> None:
    table.write(path, format="ascii.ecsv", overwrite=True)


def _tell_left_out(store: Store) -> None:
    reasons = {"empty": "have an empty cut-out", "failed": "have a cut-out that failed"}
    for why, words in reasons.items():
        if ids := store.left_out[why]:
            more = ", ..." if len(ids) > _NAMED else ""
            warnings.warn(
                f"{len(ids)} of {store.request['n_objects']} objects {words} and are left out: "
                f"{', '.join(ids[:_NAMED])}{more} (left_out has all ids).",
                stacklevel=3,
            )


def _load(store: Store) -> Bunch:
    request = store.request
    catalog = Table.read(store.folder / "catalog.ecsv", format="ascii.ecsv").to_pandas()
    title = f"Stars, galaxies and quasars of SDSS DR{request['release']}"
    return Bunch(
        images=np.load(store.folder / "stamps.npy", mmap_mode="r"),
        catalog=catalog,
        target=catalog["class"].to_numpy(dtype="U6"),
        target_names=sorted(set(catalog["class"])),
        left_out=store.left_out,
        bands=tuple(request["bands"]),
        pixel_scale=request["pixel_scale"],
        bunit=store.manifest["bunit"],
        path=store.folder,
        DESCR=_DESCRIPTION.format(
            release=request["release"],
            line="-" * len(title),
            hips=", ".join(request["hips"].values()),
            scale=request["pixel_scale"],
        ),
    )
