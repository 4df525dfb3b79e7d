import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxsight.mix import ALONE, TOKENS_ALONE, Mix

SEVERAL = np.full(10, 0.5)  # pictures found, all of several things
ONE = np.full(10, 0.9)

weights = st.floats(0, 1e9)
unities = st.lists(st.floats(0, 1), min_size=1, max_size=20).map(np.array)


@pytest.mark.parametrize(
    "numbers",
    [
        {"alike": -1.0},
        {"alike": float("inf")},
        {"unlike": float("nan")},
        {"low": 0.5, "high": 0.5},
        {"low": 0.8, "high": 0.7},
        {"few": 0.2, "many": 0.1},
        {"louder": -1.0},
    ],
)
def test_a_mix_that_makes_no_sense(numbers: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"mix|low|few"):
        Mix(**{"alike": 1.0, "unlike": 1.0} | numbers)


def test_a_picture_is_weighed_by_its_own_unity() -> None:
    mix = Mix(alike=ALONE, unlike=0.1, low=0.6, high=0.8, louder=5.0)
    shares = mix.shares(1, np.array([0.1, 0.6, 0.7, 0.8, 1.0]), found=SEVERAL)
    several, one = 1 / 1.1, 1 / 1.5
    np.testing.assert_allclose(shares, [several, several, (several + one) / 2, one, one], rtol=1e-6)
    np.testing.assert_allclose(mix.shares(3, np.array([0.1]), found=SEVERAL), 3 / 3.1, rtol=1e-6)


def test_the_pictures_found_decide_whether_tokens_count() -> None:
    mix = Mix(alike=2.0, unlike=0.1, several=0.68, few=0.1, many=0.3)
    unity = np.array([0.4, 0.9])
    opened = []
    for several in range(11):
        found = np.concatenate([SEVERAL[:several], ONE[several:]])
        shares = mix.shares(1, unity, found=found)
        assert shares[0] == shares[1]  # louder is 1
        opened.append((shares[0] - 1 / 3) / (1 / 1.1 - 1 / 3))
    np.testing.assert_allclose(opened, [0, 0, 0.5] + [1] * 8, atol=1e-6)


@given(
    alike=weights,
    unlike=st.floats(0, 10),
    louder=st.floats(1, 10),
    count=st.integers(1, 16),
    unity=unities,
    found=unities,
)
def test_the_more_alike_the_less_maxsim(
    alike: float, unlike: float, louder: float, count: int, unity: np.ndarray, found: np.ndarray
) -> None:
    mix = Mix(alike=alike, unlike=unlike, low=0.7, high=0.8, louder=louder)
    shares = mix.shares(count, np.sort(unity), found=found)
    assert (np.diff(shares) <= 1e-6).all()
    ends = [count / (count + weight) for weight in (alike, unlike, unlike * louder)]
    assert min(ends) - 1e-6 <= shares.min()
    assert shares.max() <= max(ends) + 1e-6


@given(count=st.integers(1, 16), unity=unities, found=unities)
def test_either_may_count_alone(count: int, unity: np.ndarray, found: np.ndarray) -> None:
    np.testing.assert_array_equal(TOKENS_ALONE.shares(count, unity, found=found), 1)
    pooled = Mix(alike=ALONE, unlike=0.1, louder=5.0).shares(count, unity, found=ONE)
    assert pooled.max() < 2e-8


@pytest.mark.parametrize(
    "recorded",
    [
        {"alike": 2.0, "unlike": 0.25, "low": 0.7, "high": 0.8},
        {"alike": ALONE, "unlike": 0.25, "low": 0.70, "high": 0.74},
        {"alike": 0.0, "unlike": 0.0, "low": 0.0, "high": 1.0},
    ],
)
def test_what_earlier_libraries_recorded_is_a_mix(recorded: dict[str, float]) -> None:
    mix = Mix(**recorded)
    unity = np.array([0.4, 0.9])
    for name, found in (("alike", ONE), ("unlike", SEVERAL)):
        np.testing.assert_allclose(
            mix.shares(1, unity, found=found), 1 / (1 + recorded[name]), rtol=1e-6
        )
