import pytest

from maxsight.models.mix import TOKENS_ALONE, Mix


@pytest.mark.parametrize(
    "numbers",
    [
        (-1.0, 1.0, 0.0, 1.0),
        (1.0, float("inf"), 0.0, 1.0),
        (1.0, float("nan"), 0.0, 1.0),
        (1.0, 1.0, 0.5, 0.5),
        (1.0, 1.0, 0.8, 0.7),
        (1.0, 0.0, 0.0, 1.0),
    ],
)
def test_a_mix_that_makes_no_sense(numbers: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match=r"weights|mix|low"):
        Mix(*numbers)


def test_tokens_may_count_alone() -> None:
    assert TOKENS_ALONE.alike == TOKENS_ALONE.unlike == 0
