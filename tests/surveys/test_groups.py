import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.model_selection import GroupShuffleSplit

from skastro import find_duplicates, healpix_groups, merge_groups, open_stamps
from tests.conftest import find_data


def test_copies_are_found_by_their_pixels():
    stamps = np.random.default_rng(0).normal(size=(6, 2, 4, 4))
    stamps[5] = stamps[2]
    stamps[3, 0, 0, 0] = np.nan
    stamps[4] = stamps[3]
    assert find_duplicates(stamps).tolist() == [0, 1, 2, 3, 3, 2]
    stamps[5, 0, 0, 0] = np.nextafter(stamps[5, 0, 0, 0], 9)
    assert find_duplicates(stamps).tolist() == [0, 1, 2, 3, 3, 5]


@pytest.mark.parametrize("dec", [0.0, 60.0, -89.5])
def test_copies_are_found_by_their_position(dec):
    arcsec = 1 / 3600 / np.cos(np.radians(dec))
    ra = np.array([359.99999, 359.99999 + 0.9 * arcsec, 10.0, 10 + 1.2 * arcsec, np.nan, np.nan])
    groups = find_duplicates(ra=ra % 360, dec=np.full(6, dec), radius=1.0)
    assert groups.tolist() == [0, 0, 2, 3, 4, 5]
    wider = find_duplicates(ra=ra % 360, dec=np.full(6, dec), radius=1.3)
    assert wider.tolist() == [0, 0, 2, 2, 4, 5]


def test_both_kinds_of_copies_make_one_group():
    stamps = np.arange(4.0).reshape(4, 1, 1, 1).repeat(6, 3)
    stamps[1] = stamps[0]
    groups = find_duplicates(stamps, ra=[1, 2, 2, 3], dec=[0, 0, 0, 0])
    assert groups.tolist() == [0, 0, 0, 3]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_merged_groups_are_the_finest_that_hold_both(pairs):
    one, other = np.array(pairs).T
    merged = merge_groups(one, other)
    for groups in (one, other):  # rows that were together stay together
        for value in np.unique(groups):
            assert len(set(merged[groups == value])) == 1
    assert (merged <= np.arange(len(merged))).all()
    # and rows are together only if a chain of groups connects them
    reached = {0}
    for _ in pairs:
        reached |= {
            j
            for i in reached
            for j in range(len(pairs))
            if one[i] == one[j] or other[i] == other[j]
        }
    assert set(np.flatnonzero(merged == merged[0])) == reached


def test_healpix_keeps_neighbours_together():
    pytest.importorskip("astropy_healpix")
    rng = np.random.default_rng(0)
    ra, dec = rng.uniform(0, 360, 500), np.degrees(np.arcsin(rng.uniform(-1, 1, 500)))
    groups = healpix_groups(ra, dec, nside=4)
    assert len(set(groups)) > 100
    # the same pixel means the same neighbourhood: 4 x nside^2 x 3 pixels of 14.7 degrees
    for group in set(groups):
        inside = groups == group
        assert np.ptp(dec[inside]) < 25
    train, test = next(GroupShuffleSplit(random_state=0).split(ra, groups=groups))
    assert not set(groups[train]) & set(groups[test])
    assert healpix_groups([1.0, np.nan, np.nan], [2.0, 3.0, np.nan]).tolist()[1:] == [-2, -3]


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="nothing to compare"):
        find_duplicates()
    with pytest.raises(ValueError, match="belong together"):
        find_duplicates(ra=[1.0])
    with pytest.raises(ValueError, match="radius=0"):
        find_duplicates(ra=[1.0], dec=[1.0], radius=0)
    with pytest.raises(ValueError, match="lengths"):
        find_duplicates(np.ones((2, 1, 4, 4)), ra=[1.0], dec=[1.0])
    with pytest.raises(ValueError, match="power of two"):
        healpix_groups([1.0], [1.0], nside=12)


def test_real_stamps_have_very_few_copies():
    stamps = open_stamps(find_data("sdss"))
    groups = find_duplicates(stamps)
    assert 3000 < len(np.unique(groups)) <= 3066
