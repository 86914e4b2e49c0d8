import numpy as np
import pytest

from skastro import SimilarDisplay, find_similar
from tests.plots.conftest import PLANE, STAMPS

SIMILAR = find_similar(
    PLANE[:50], ["b", "e"], k=4, ids=list("abcdefghijklmnopqrstuvwxyz" + "ABCDEFGHIJKLMNOPQRSTUVWX")
)


def test_the_query_stands_first_and_then_what_is_most_like_it():
    kinds = np.where(np.arange(50) % 2, "odd", "even")
    stamps = np.broadcast_to(np.arange(50, dtype=np.uint8)[:, None, None, None], (50, 3, 8, 8))
    display = SimilarDisplay.from_result(SIMILAR, stamps, y=kinds)
    shown = [[int(picture[0, 0, 0]) for picture in row] for row in display.pictures]
    rows = SIMILAR["row"].to_numpy().reshape(2, 4)
    assert shown == [[1, *rows[0]], [4, *rows[1]]]
    assert [row[0] for row in display.texts] == ["b\nodd", "e\neven"]
    assert display.texts[0][1] == f"{SIMILAR['similarity'][0]:.2f}\n{kinds[rows[0, 0]]}"
    lefts = [image.get_extent()[0] for image in display.images_[:5]]
    assert lefts == sorted(lefts)


def test_numbers_of_rows_and_objects_are_limited():
    display = SimilarDisplay.from_result(SIMILAR, STAMPS[:50], max_queries=1, max_similar=2)
    assert [len(row) for row in display.pictures] == [3]


def test_new_objects_have_stamps_of_their_own():
    similar = find_similar(PLANE[:50], PLANE[50:52], k=3)
    display = SimilarDisplay.from_result(similar, STAMPS[:50], query_images=STAMPS[50:52])
    assert [row[0] for row in display.texts] == ["0", "1"]
    with pytest.raises(ValueError, match="pass their stamps as query_images="):
        SimilarDisplay.from_result(similar, STAMPS[:50])


def test_stamps_of_other_objects_are_refused():
    with pytest.raises(ValueError, match="pass the stamps of all objects"):
        SimilarDisplay.from_result(SIMILAR, STAMPS[:2])
    with pytest.raises(ValueError, match=r"y has shape \(1,\), but there are 50 objects"):
        SimilarDisplay.from_result(SIMILAR, STAMPS[:50], y=[0])
