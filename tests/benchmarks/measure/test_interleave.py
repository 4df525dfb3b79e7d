import time
from collections.abc import Callable

import pytest

from maxsight.benchmarks.measure.interleave import interleave, ratio, stopwatch


def test_every_contender_runs_once_a_round_in_changing_order() -> None:
    calls: list[tuple[int, str]] = []

    def contender(name: str) -> Callable[[int], float]:
        def measure(number: int) -> float:
            calls.append((number, name))
            return float(number)

        return measure

    names = ["a", "b", "c"]
    seconds = interleave({name: contender(name) for name in names}, rounds=12)
    assert seconds == {name: [float(n) for n in range(12)] for name in names}
    rounds = [calls[start : start + 3] for start in range(0, len(calls), 3)]
    assert all({n for n, _ in one} == {number} for number, one in enumerate(rounds))
    assert all({name for _, name in one} == set(names) for one in rounds)
    assert len({tuple(name for _, name in one) for one in rounds}) > 1


def test_a_stopwatch_measures_the_call() -> None:
    assert 0.02 <= stopwatch(lambda _: time.sleep(0.02))(0) < 0.5


def test_ratios_are_taken_round_by_round() -> None:
    # The machine was ten times slower in half of the rounds: both were, so the ratio stays.
    baseline = [1.0, 10.0, 1.0, 10.0, 1.0]
    mine = [2 * seconds for seconds in baseline]
    row = ratio(mine, baseline, benchmark="b", case="c", contender="d", metric="e")
    assert (row.low, row.value, row.high, row.unit) == (2.0, 2.0, 2.0, "x")
    with pytest.raises(ValueError, match="pairs"):
        ratio([1.0], [1.0, 2.0], benchmark="b", case="c", contender="d", metric="e")
