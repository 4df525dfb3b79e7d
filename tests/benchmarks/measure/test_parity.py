import math

import pytest

from maxsight.benchmarks.measure.parity import ParityError, assert_same_hits

TRUTH = ([7, 3, 9], [0.9, 0.5, 0.4])


@pytest.mark.parametrize(
    "found",
    [
        TRUTH,
        ([7, 3, 9], [0.90005, 0.5, 0.4]),  # the last bits of another order of summing
        ([7, 3, 8], [0.9, 0.5, 0.39995]),  # a tie at the last place
        ([3, 7, 9], [0.9, 0.5, 0.4]),  # the same set; their own scores decide the places
    ],
)
def test_equal_answers_pass(found: tuple[list[int], list[float]]) -> None:
    assert_same_hits("x", found, TRUTH, tolerance=1e-4)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (([7, 3], [0.9, 0.5]), "2 hits, not 3"),
        (([7, 3, 9], [0.9, 0.51, 0.4]), "place 2"),
        (([7, 3, 9], [0.9, math.nan, 0.4]), "place 2"),
        (([7, 4, 9], [0.9, 0.5, 0.4]), r"missed \[3\]"),
        (([7, 3, 3], [0.9, 0.5, 0.4]), "twice"),
    ],
)
def test_different_answers_are_refused(found: tuple[list[int], list[float]], message: str) -> None:
    with pytest.raises(ParityError, match=message):
        assert_same_hits("x", found, TRUTH, tolerance=1e-4)


def test_no_hits_equal_no_hits() -> None:
    assert_same_hits("x", ([], []), ([], []), tolerance=1e-4)
