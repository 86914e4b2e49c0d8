"""Light profiles, compared with those that GalSim draws at its most accurate."""

import numpy as np
import pytest

from skastro.simulation.profiles import Component, expose, make_canvas, transform
from skastro.simulation.telescope import transform_psf

galsim = pytest.importorskip("galsim", reason="the simulation needs GalSim: the extra 'sim'")

KNOTS = np.array([[0.5, -1.0, 0.2, 0.6], [-1.2, 0.3, 0.4, 0.4]])
PARTS = {
    "point": [Component(1.0)],
    "inclined disc": [Component(1.0, 1.0, 1.0, 0.3, 30.0)],
    "elliptical": [Component(1.0, 1.5, 4.0, 0.6, 100.0)],
    "neighbour": [Component(1.0, 0.4, 2.5, 0.6, 160.0, (3.0, -2.0))],
    "knots": [Component(1.0, knots=KNOTS, offset=(0.4, 0.2))],
    "bulge and disc": [Component(0.3, 0.4, 3.0), Component(0.7, 1.2, 1.0, 0.5, 75.0)],
}


def draw_with_galsim(parts, size, centre, fwhm, shear):
    exact = galsim.GSParams(folding_threshold=1e-4, maxk_threshold=1e-5, kvalue_accuracy=1e-6)
    profiles = []
    for part in parts:
        if part.knots is not None:
            gaussians = [galsim.Gaussian(sigma=s, flux=f).shift(x, y) for x, y, s, f in part.knots]
            profile = galsim.Add(gaussians)
        elif part.radius:
            profile = galsim.Sersic(part.index, part.radius, trunc=8 * part.radius)
            profile = profile.shear(q=part.axis_ratio, beta=part.angle * galsim.degrees)
        else:
            profile = galsim.DeltaFunction()
        profiles.append((profile * part.flux).shift(*part.offset))
    psf = galsim.Kolmogorov(fwhm=fwhm, gsparams=exact).shear(g1=shear[0], g2=shear[1])
    scene = galsim.Convolve(galsim.Add(profiles), psf, gsparams=exact)
    image = scene.drawImage(nx=size, ny=size, scale=0.3, offset=tuple(centre), dtype=float)
    return image.array


@pytest.mark.parametrize("size", [24, 25])
@pytest.mark.parametrize("name", PARTS)
def test_drawing_agrees_with_galsim(name, size):
    parts, centre, shear = PARTS[name], np.array([0.3, -0.45]), (0.02, -0.03)
    canvas = make_canvas(parts, size, centre)
    planes = [transform(part, canvas) for part in parts]
    pixels = expose(
        planes, [part.flux for part in parts], transform_psf(0.7, shear, canvas), canvas
    )
    expected = draw_with_galsim(parts, size, centre, 0.7, shear)
    np.testing.assert_allclose(pixels, expected, rtol=0, atol=3e-4 * expected.max())
