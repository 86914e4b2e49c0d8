"""
From FITS mosaics to stamps
===========================

A survey consists of large images, one for each band and pointing, and a catalogue. Here both are
simulated and written to disk, then opened like files from a real survey, and cut into stamps.
"""

# %%
# Bright objects on stamps of 64 pixels, so that the shapes of galaxies are visible. The simulation
# is written as FITS files with a world coordinate system, and a catalogue of positions.
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from astropy.io import fits

from skastro import cut_stamps, make_survey, read_catalog, to_rgb, write_survey

survey = make_survey(240, image_size=64, faintest=20.0, random_state=0)
scratch = tempfile.TemporaryDirectory()
folder = write_survey(survey, Path(scratch.name, "survey")) / "mosaic"

tiles = {band: sorted(folder.glob(f"mosaic_{band}_*.fits")) for band in "ugrizy"}
print(f"{len(tiles['r'])} pointings in {len(tiles)} bands, for example {tiles['r'][0].name}")

# %%
# From here on, only the files are used. ``read_catalog`` keeps units, replaces masked values and
# sentinels such as -999 by NaN, and never converts a long id to a float.
catalog = read_catalog(folder / "catalog.fits")
units = catalog.attrs["units"]
print(f"{len(catalog)} objects; {units['ra']} for ra, {units['mag_r']} for mag_r")

# %%
# ``cut_stamps`` finds the tile of each object by its position. It is lazy: pixels are read when
# rows are needed, and only their sections of the files.
stamps = cut_stamps(tiles, catalog, size=64)
print(stamps)
catalog = catalog.iloc[stamps.catalog_rows]  # without objects that lie outside all tiles

pixels = np.asarray(stamps)
np.testing.assert_array_equal(pixels, survey.images)
print("the stamps are the simulated pixels, bit for bit")

# %%
# One pointing, and the brightest objects of each class. Colour pictures are made of i, r and g
# after Lupton et al. (2004), with an asinh stretch that keeps the hue of bright sources.
classes, n_columns, gap = ("galaxy", "star", "quasar"), 9, 3
rgb = to_rgb(stamps, bands="irg", stretch=10).transpose(0, 2, 3, 1)

sheet = []
for name in classes:
    rows = np.flatnonzero(catalog["class"] == name)
    brightest = rows[np.argsort(catalog["mag_i"].to_numpy()[rows])][: 2 * n_columns]
    sheet.append(np.pad(rgb[brightest], ((0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255))
sheet = np.vstack([np.hstack(line) for block in sheet for line in np.split(block, 2)])

shown = catalog[catalog["class"] == "galaxy"]["field"].mode()[0]  # the pointing with most galaxies
mosaic = np.stack([fits.getdata(folder / f"mosaic_{band}_{shown:02d}.fits") for band in "irg"])
figure, (left, right) = plt.subplots(
    1, 2, figsize=(12.5, 5.3), width_ratios=(0.62, 1), layout="constrained"
)
left.imshow(to_rgb(mosaic[None], bands=(0, 1, 2), stretch=10)[0].transpose(1, 2, 0), origin="lower")
left.set(title=f"Mosaic of pointing {shown}", xlabel="x (pixels)", ylabel="y (pixels)")

right.imshow(sheet)
height = len(sheet) / len(classes)
right.set_yticks(
    [height * (i + 0.5) for i in range(len(classes))], classes, rotation=90, va="center"
)
right.set(xticks=[], title="Stamps of the brightest")
right.tick_params(length=0)
right.spines[:].set_visible(False)
plt.show()

# %%
scratch.cleanup()
