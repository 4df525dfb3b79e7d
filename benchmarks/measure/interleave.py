"""Contenders measured in turns, so that whatever else the machine does hits all of them alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence

from maxsight.benchmarks.measure.rows import Row

_SPIN_SECONDS = 0.03


def interleave(
    contenders: Mapping[str, Callable[[int], float]], *, rounds: int, seed: int = 0
) -> dict[str, list[float]]:
    """Run every contender once a round, in an order drawn anew each round.

    Args:
        contenders: name -> a function of the round's number that returns its own seconds, so that
            one living in another process can leave out the way there and back.
        rounds: how many.

    Returns:
        Seconds of each contender, one a round and in the rounds' order: figures at one place were
        measured within moments of each other.
    """
    shuffled = random.Random(seed)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in shuffled.sample(list(contenders), len(contenders)):
            seconds[name].append(contenders[name](number))
    return seconds


def stopwatch(call: Callable[[int], object]) -> Callable[[int], float]:
    """A contender of :func:`interleave` out of a plain function."""

    def measure(number: int) -> float:
        start = time.perf_counter()
        call(number)
        return time.perf_counter() - start

    return measure


def processor_stopwatch(call: Callable[[int], object]) -> Callable[[int], float]:
    """Like :func:`stopwatch`, in seconds of all the process's threads together.

    OpenMP's threads go on spinning for some milliseconds after their work: each contender waits
    until those of the one before have gone to sleep.
    """

    def measure(number: int) -> float:
        time.sleep(_SPIN_SECONDS)
        start = time.process_time()
        call(number)
        return time.process_time() - start

    return measure


def ratio(
    seconds: Sequence[float],
    baseline: Sequence[float],
    *,
    benchmark: str,
    case: str,
    contender: str,
    metric: str,
) -> Row:
    """How many times the baseline's time, taken round by round: noise shared by both drops out.

    Args:
        seconds, baseline: of the same rounds, in the same order.
    """
    if len(seconds) != len(baseline):
        raise ValueError(f"{len(seconds)} rounds against {len(baseline)}: they come in pairs")
    rounds = [mine / other for mine, other in zip(seconds, baseline)]
    return Row.of(benchmark, case, contender, metric, rounds, "x")
