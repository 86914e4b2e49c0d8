import numpy as np
import pytest

from skastro.stamps.axes import (
    arrange,
    axes_of_names,
    axes_of_stamp,
    fit_axes,
    looks_channels_last,
    parse_axes,
)


@pytest.mark.parametrize("axes", ["nchw", "nhwc", "hwcn", "cnwh", "hwc", "nhw", "wh"])
def test_pixels_stand_where_their_axes_say(axes):
    lengths = {"n": 4, "c": 3, "h": 5, "w": 6}
    whole = np.arange(4 * 3 * 5 * 6).reshape(4, 3, 5, 6)
    # the same pixels in other axes
    taken = whole[tuple(slice(None) if letter in axes else slice(0, 1) for letter in "nchw")]
    letters = "".join(letter for letter in "nchw" if letter in axes)
    array = taken.reshape([lengths[letter] for letter in letters])
    array = array.transpose([letters.index(letter) for letter in axes])
    np.testing.assert_array_equal(arrange(array, axes), taken)


def test_axes_have_synonyms():
    assert parse_axes("NBYX") == "nchw"
    assert parse_axes(None) is None


@pytest.mark.parametrize("axes", ["nhwq", "nchh", "nch", "", "nchwn", "n,h,w"])
def test_axes_that_make_no_sense_are_refused_with_the_line_to_type(axes):
    with pytest.raises(ValueError, match=r"axes=.* must have .* pass axes=\"nhwc\""):
        parse_axes(axes)


@pytest.mark.parametrize(
    ("names", "axes"),
    [
        (["galaxy", "y", "x", "channel"], "nhwc"),
        (["BAND", "Object_ID", "pix_x", "pix_y"], "cnwh"),
        (["object", "wavelength", "lat", "lon"], "nchw"),
        (["id", "x_image", "y_image", "filters"], "nwhc"),
        (["row", "col"], "hw"),
        (["survey", "band", "y", "x"], "nchw"),
        (["sample", "height", "width", "survey"], "nhwc"),
        (["dim_0", "dim_1", "dim_2", "dim_3"], None),
        (["a", "b", "y", "x"], "nchw"),
        (["a", "a", "y", "x"], None),
        ([], None),
        (None, None),
    ],
)
def test_axes_are_found_by_the_names_of_dimensions(names, axes):
    assert axes_of_names(names) == axes


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((9, 8), "hw"),
        ((3, 9, 8), "chw"),
        ((1, 9, 8), "chw"),
        ((9, 8, 1), "hw1"),
        ((3, 1, 64), "chw"),
        ((1, 1, 9, 8), "1chw"),
        ((1, 3, 9, 8), "1chw"),
        ((3, 1, 9, 8), "c1hw"),
        ((1, 9, 8, 1), "1hw1"),
        ((1, 1, 1, 9, 8), "11chw"),
        ((2, 3, 9, 8), None),
        ((9,), None),
        ((), None),
    ],
)
def test_axes_of_length_1_are_left_out(shape, axes):
    assert axes_of_stamp(shape) == axes


def test_the_axis_of_stamps_is_added_or_left_out_where_that_is_clear():
    assert fit_axes("hwc", (7, 9, 8, 3), "a.npy", stack=True) == "nhwc"
    assert fit_axes("nhwc", (9, 8, 3), "a.npy", stack=False) == "hwc"
    with pytest.raises(ValueError, match=r"a.npy has the shape \(9, 8\), but axes='nhwc' names 4"):
        fit_axes("nhwc", (9, 8), "a.npy", stack=True)


@pytest.mark.parametrize("bands", [1, 3, 5, 6, 12])
@pytest.mark.parametrize("size", [(32, 32), (53, 53), (48, 64)])
def test_bands_on_the_last_axis_are_noticed(bands, size):
    assert looks_channels_last((100, *size, bands))
    assert looks_channels_last((*size, bands))
    assert not looks_channels_last((100, bands, *size))
