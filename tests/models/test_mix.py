import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxsight.models.mix import ALONE, TOKENS_ALONE, Mix


@pytest.mark.parametrize(
    "numbers",
    [
        (-1.0, 1.0, 0.0, 1.0),
        (1.0, float("inf"), 0.0, 1.0),
        (1.0, float("nan"), 0.0, 1.0),
        (1.0, 1.0, 0.5, 0.5),
        (1.0, 1.0, 0.8, 0.7),
    ],
)
def test_a_mix_that_makes_no_sense(numbers: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match=r"mix|low"):
        Mix(*numbers)


def test_the_share_of_maxsim_follows_the_unity() -> None:
    mix = Mix(alike=2.0, unlike=0.25, low=0.6, high=0.8)
    assert mix.share(1, 0.1) == mix.share(1, 0.6) == pytest.approx(1 / 1.25)
    assert mix.share(1, 0.8) == mix.share(1, 1.0) == pytest.approx(1 / 3)
    assert mix.share(1, 0.7) == pytest.approx((1 / 1.25 + 1 / 3) / 2)
    assert mix.share(3, 0.1) == pytest.approx(3 / 3.25)


@given(
    weights=st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)).map(sorted),
    count=st.integers(1, 16),
    unities=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
)
def test_the_more_alike_the_less_maxsim(
    weights: list[float], count: int, unities: list[float]
) -> None:
    unlike, alike = weights
    mix = Mix(alike=alike, unlike=unlike, low=0.7, high=0.8)
    first, second = (mix.share(count, unity) for unity in unities)
    assert 0 <= second <= first <= 1


def test_either_may_count_alone() -> None:
    assert TOKENS_ALONE.share(1, 0.0) == TOKENS_ALONE.share(1, 1.0) == 1
    assert Mix(alike=ALONE, unlike=0.25).share(16, 1.0) < 2e-8


def test_what_the_first_libraries_recorded_is_a_mix() -> None:
    recorded = {"alike": 2.0, "unlike": 0.25, "low": 0.7, "high": 0.8}
    assert Mix(**recorded).share(1, 0.8) == pytest.approx(1 / 3)
