"""Fluxes of stars, galaxies and quasars in the LSST bands, from their spectra."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from skastro.utils.packages import import_optional

BANDS = "ugrizy"
# A_band / E(B-V) in the LSST bands for R_V = 3.1, as rubin_sim has them.
EXTINCTION = np.array([4.757, 3.661, 2.701, 2.054, 1.590, 1.308])
# Covey et al. 2007, AJ 134, 2398: the stellar locus, u-g, g-r, r-i and i-z as polynomials in g-i.
_LOCUS = np.array(
    [
        [1.0636113, -1.6267818, 4.9389572, -3.2809081, 0.8725109, -0.0828035],
        [0.4290263, -0.8852323, 2.0740616, -1.1091553, 0.2397461, -0.0183195],
        [-0.4113500, 1.8229991, -1.9989772, 1.0662075, -0.2284455, 0.0172212],
        [-0.2270331, 0.7794558, -0.7350749, 0.3727802, -0.0735412, 0.0049808],
    ]
)
# Vanden Berk et al. 2001, AJ 122, 549, table 2: rest wavelength in nm, equivalent width in nm and
# width in nm of Ly-alpha, C IV, C III], Mg II, H-beta and H-alpha.
_QUASAR_LINES = np.array(
    [
        [121.6, 9.3, 1.9],
        [154.9, 2.4, 1.4],
        [190.9, 2.1, 2.4],
        [279.8, 3.2, 3.5],
        [486.1, 4.6, 4.0],
        [656.3, 19.5, 4.7],
    ]
)
# Coleman, Wu & Weedman 1980, ApJS 43, 393, as GalSim ships them.
_SED_FILES = ("CWW_E_ext.sed", "CWW_Sbc_ext.sed", "CWW_Scd_ext.sed", "CWW_Im_ext.sed")


def stellar_fluxes(g_i: float) -> np.ndarray:
    """Flux of a star on the stellar locus.

    Parameters
    ----------
    g_i : float
        Its colour in mag, between 0.1 (F dwarfs) and 4.3 (M dwarfs).

    Returns
    -------
    fluxes : array of shape (6,)
        In ugrizy, in units of the flux in i.
    """
    u_g, g_r, r_i, i_z = np.polynomial.polynomial.polyval(g_i, _LOCUS.T)
    z_y = 0.5 * i_z
    mags = np.array([u_g + g_r + r_i, g_r + r_i, r_i, 0.0, -i_z, -i_z - z_y])
    return 10 ** (-0.4 * mags)


def blackbody_fluxes(temperature: float) -> np.ndarray:
    """Flux (6,) in ugrizy of a body of a temperature in kelvin; one in i."""
    waves = _bandpasses()[0]
    return _fluxes(waves**-5 / np.expm1(1.4387769e7 / (waves * temperature)))


def galaxy_fluxes(kind: float, z: float) -> np.ndarray:
    """Flux of a galaxy between the types of Coleman, Wu & Weedman (1980).

    Parameters
    ----------
    kind : float
        E = 0, Sbc = 1, Scd = 2, Im = 3, or something between two neighbours.
    z : float
        Redshift.

    Returns
    -------
    fluxes : array of shape (6,)
        In ugrizy, in units of the flux in i.
    """
    rest = 10 * _bandpasses()[0] / (1 + z)  # the files are in angstrom
    first = min(int(kind), len(_SED_FILES) - 2)
    pair = []
    for name in _SED_FILES[first : first + 2]:
        waves, flux = _share("SEDs", name)
        pair.append(np.interp(rest, waves, flux) / np.interp(5500.0, waves, flux))
    return _fluxes((first + 1 - kind) * pair[0] + (kind - first) * pair[1])


def quasar_fluxes(z: float, slope: float, strengths: np.ndarray) -> np.ndarray:
    """Flux of a power law with broad lines, absorbed between the quasar and us.

    Parameters
    ----------
    z : float
        Redshift.
    slope : float
        Of the continuum f_nu ~ nu^slope.
    strengths : array of shape (6,)
        Of Ly-alpha, C IV, C III], Mg II, H-beta and H-alpha, in units of the mean quasar's.

    Returns
    -------
    fluxes : array of shape (6,)
        In ugrizy, in units of the flux in i.
    """
    waves = _bandpasses()[0]
    rest = waves / (1 + z)
    centres, widths, sigmas = _QUASAR_LINES.T[:, :, np.newaxis]
    profiles = np.exp(-0.5 * ((rest - centres) / sigmas) ** 2) / (np.sqrt(2 * np.pi) * sigmas)
    lines = np.sum(strengths[:, np.newaxis] * widths * profiles, axis=0)
    # Becker et al. 2013, MNRAS 430, 2067, equation 5: the mean opacity of Ly-alpha.
    tau = 0.751 * np.clip((waves / 121.567) / 4.5, 0, None) ** 2.90 - 0.132
    tau = np.where(rest < 121.567, np.clip(tau, 0, None), 0.0)
    # The higher Lyman lines add about a half; beyond the limit the hydrogen is ionised.
    tau = np.where(rest < 102.6, 1.5, 1.0) * tau + _lyman_continuum(waves / 91.2, 1 + z)
    return _fluxes(rest ** (-2 - slope) * (1 + lines) * np.exp(-tau))


def _lyman_continuum(x: np.ndarray, x_source: float) -> np.ndarray:
    """Opacity at 91.2 x nm before a source at 1 + z = x_source; Madau 1995, ApJ 441, 18, note 3."""
    x = np.clip(x, 1.0, x_source)  # zero from the limit of the source on, where x = x_source
    return (
        0.25 * x**3 * (x_source**0.46 - x**0.46)
        + 9.4 * x**1.5 * (x_source**0.18 - x**0.18)
        - 0.7 * x**3 * (x**-1.32 - x_source**-1.32)
        - 0.023 * (x_source**1.68 - x**1.68)
    )


def _fluxes(spectrum: np.ndarray) -> np.ndarray:
    """Flux (6,) in ugrizy of a spectrum f_lambda on the grid of `_bandpasses`; one in i."""
    fluxes = _bandpasses()[1] @ spectrum
    return fluxes / fluxes[BANDS.index("i")]


@lru_cache(maxsize=1)
def _bandpasses() -> tuple[np.ndarray, np.ndarray]:
    """Wavelengths in nm (m,) and the weights (6, m) that make f_lambda a flux in each band."""
    waves = np.arange(300.0, 1101.0)
    weights = []
    for band in BANDS:
        through = np.interp(waves, *_share("bandpasses", f"LSST_{band}.dat"), left=0, right=0)
        # Photons counted, over those of a flat f_nu: the definition of an AB magnitude.
        weights.append(waves * through / np.sum(through / waves))
    return waves, np.array(weights)


@lru_cache(maxsize=16)
def _share(*path: str) -> tuple[np.ndarray, np.ndarray]:
    """Read two columns of a file that GalSim ships."""
    galsim = import_optional("galsim", extra="sim", needed_by="make_survey")
    first, second = np.loadtxt(Path(galsim.meta_data.share_dir, *path), unpack=True)
    return first, second
