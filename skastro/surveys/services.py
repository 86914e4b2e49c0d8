"""Public services: asked through astroquery, not too often, and again if they do not answer."""

from __future__ import annotations

import io
import math
import time
import warnings
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from astropy import units
from astropy.coordinates import Angle, Latitude, Longitude
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from skastro.utils.packages import import_optional

_QUERY_PATIENCE = 10  # a query may take so many times as long as a cut-out
_BACKOFF = 1.0  # s before the second attempt, doubled with each further one
_SHORT = 120  # characters of an answer that a message shows

# astropy takes an answer of one line for the name of a file
_NO_TABLE = (ValueError, TypeError, KeyError, IndexError, FileNotFoundError, IsADirectoryError)

Answer = TypeVar("Answer")


class Unanswered(Exception):  # noqa: N818 - a condition to act on, not an error to show
    """A service gave no usable answer."""


class Refused(Unanswered):
    """A service refused the question: to repeat it is no use."""


class Services:
    """SkyServer and hips2fits, politely asked.

    A question is repeated after a time-out, a lost connection, an answer 429 or 5xx, or one that
    is damaged. astroquery says where the services are (``astroquery.sdss.conf`` and
    ``hips2fitsClass.server``); its own cache is not used.

    Parameters
    ----------
    min_interval : float
        Seconds at least between the starts of two requests.
    timeout : float
        Seconds of silence that end a request for a cut-out; for a query, ten times as many.
    retries : int
        Further attempts.

    Raises
    ------
    ImportError
        astroquery, or matplotlib which its hips2fits needs, is not installed.
    """

    def __init__(self, *, min_interval: float, timeout: float, retries: int) -> None:
        needs = {"extra": "data", "needed_by": "Asking public services"}
        sdss = import_optional("astroquery.sdss", **needs)
        hips2fits = import_optional("astroquery.hips2fits", **needs)
        import_optional("matplotlib.colors", **needs)
        self._remote_error = import_optional("astroquery.exceptions", **needs).RemoteServiceError
        self._skyserver, self._query_timeout = sdss.SDSSClass(), timeout * _QUERY_PATIENCE
        self._cutter = hips2fits.hips2fitsClass()
        self._cutter.timeout = timeout
        self._interval, self._retries = min_interval, retries
        self._last = -math.inf

    def query(self, sql: str, release: int, check: Callable[[Table | None], Answer]) -> Answer:
        """Ask SkyServer.

        Parameters
        ----------
        sql : str
        release : int
            Data release of SDSS.
        check : callable
            Takes the table of the answer, or None of one without rows, and returns what is
            wanted of it or raises `Unanswered`.

        Returns
        -------
        answer : object
            What ``check`` returned.

        Raises
        ------
        Unanswered
            After all attempts, or at once if SkyServer refuses the query (`Refused`).
        """

        def attempt() -> Answer:
            try:
                table = self._skyserver.query_sql(
                    sql, timeout=self._query_timeout, data_release=release, cache=False
                )
            except self._remote_error as error:
                raise Refused(_short(str(error))) from error
            except _NO_TABLE as error:
                raise Unanswered("its answer is no table") from error
            except OSError as error:  # as all errors of requests are
                raise _unanswered(error) from error
            return check(table)

        return self._until_answered(attempt)

    def cutout(
        self, hips: str, ra: float, dec: float, size: int, pixel_scale: float
    ) -> tuple[NDArray[np.float32], str]:
        """Ask hips2fits for the pixels around a position.

        Parameters
        ----------
        hips : str
            Name of the HiPS.
        ra, dec : float
            Centre (ICRS, degrees).
        size : int
            Height and width in pixels.
        pixel_scale : float
            Arcsec a pixel, at the centre of a gnomonic projection.

        Returns
        -------
        pixels : float32 array of shape (size, size)
            In the order of FITS (the first row is the southern one where north is up); NaN or 0
            outside the survey, as the service has it.
        bunit : str
            ``BUNIT`` of the answer, "" without.

        Raises
        ------
        Unanswered
            After all attempts, or at once if the service refuses (`Refused`).
        """
        question = {
            "hips": hips,
            "width": size,
            "height": size,
            "projection": "TAN",
            "ra": Longitude(ra * units.deg),
            "dec": Latitude(dec * units.deg),
            "fov": Angle(size * pixel_scale * units.arcsec),
            "coordsys": "icrs",
            "rotation_angle": Angle(0 * units.deg),
            "format": "fits",
            # of pictures only, but astroquery asks for them
            "min_cut": 0.5,
            "max_cut": 99.5,
            "stretch": "linear",
            "cmap": "Greys_r",
        }

        def attempt() -> tuple[NDArray[np.float32], str]:
            try:
                response = self._cutter.query_async(**question)
                response.raise_for_status()
            except OSError as error:
                raise _unanswered(error) from error
            return _read_fits(response.content, size)

        return self._until_answered(attempt)

    def _until_answered(self, attempt: Callable[[], Answer]) -> Answer:
        for left in range(self._retries, -1, -1):
            time.sleep(max(0.0, self._last + self._interval - time.monotonic()))
            self._last = time.monotonic()
            try:
                return attempt()
            except Refused:
                raise
            except Unanswered:
                if not left:
                    raise
            time.sleep(_BACKOFF * 2 ** (self._retries - left))
        raise AssertionError  # the last attempt returns or raises


def _unanswered(error: OSError) -> Unanswered:
    """Tell answers that may be better next time from those that will not."""
    response = getattr(error, "response", None)
    if response is None:
        name = type(error).__name__
        if "Timeout" in name:
            return Unanswered("it was silent for too long")
        return Unanswered(f"{name}, is there a network?" if name == "ConnectionError" else name)
    code = response.status_code
    kind = Unanswered if code >= 500 or code in {408, 429} else Refused
    return kind(f"HTTP {code}: {_short(response.text)}")


def _short(text: str) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= _SHORT else f"{line[:_SHORT]}..."


def _read_fits(content: bytes, size: int) -> tuple[NDArray[np.float32], str]:
    """Read a cut-out; half a file, or one of another shape, is no answer."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of truncated files, which fail below
            with fits.open(io.BytesIO(content), memmap=False) as hdus:
                pixels = np.asarray(hdus[0].data)
                bunit = str(hdus[0].header.get("BUNIT", "")).strip()
    except (OSError, ValueError, TypeError, KeyError, IndexError, fits.VerifyError) as error:
        raise Unanswered("half a FITS file, or none at all") from error
    if pixels.shape != (size, size):
        raise Unanswered(f"an image of the shape {pixels.shape} instead of {(size, size)}")
    return pixels.astype(np.float32), bunit
