"""What a call takes: of the device, of the host, and of both as a caller sees it.

A short call costs the host more than the device. Timed between two events alone, the device's
figure would be the host's: so the device first gets work that lasts longer than the host needs to
launch the call.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

ROUNDS = 20
_FLUSHED = 128 << 20  # bytes, twice the largest L2
_CYCLES = 2_000_000  # of a GPU, a millisecond: none runs faster than 2 GHz for long


def device_milliseconds(call: Callable[[], object], *, rounds: int = ROUNDS) -> list[float]:
    """Times on the device, one a round, each with a cold L2 cache, after two warm-up calls.

    The host is let run ahead, so that its launches do not count. Where the call itself waits for
    the device, they do. Without CUDA: the clock's.
    """
    if not torch.cuda.is_available():
        return [1e3 * _clock(call) for _ in range(rounds)]
    for _ in range(2):
        torch.cuda.synchronize()
        host = _clock(call)
    flush = torch.empty(_FLUSHED, dtype=torch.int8, device="cuda")
    # What a call finds there is not what a search over new data would find.
    return [
        _between_events(call, flush, head_start=int(_CYCLES * (1 + 2e3 * min(host, 0.05))))
        for _ in range(rounds)
    ]


def milliseconds(call: Callable[[], object], *, rounds: int = ROUNDS) -> list[float]:
    """Times as a caller waits for them: launches and device together, L2 as it is."""

    def waited() -> None:
        call()
        _wait()

    return [1e3 * _clock(waited) for _ in range(rounds)]


def host_milliseconds(call: Callable[[], object], *, rounds: int = ROUNDS) -> float:
    """The median of what a call costs the host, the device not waited for."""
    times = []
    for _ in range(rounds):
        _wait()
        times.append(1e3 * _clock(call))
    _wait()
    return statistics.median(times)


def _between_events(call: Callable[[], object], flush: torch.Tensor, *, head_start: int) -> float:
    flush.zero_()
    start, end = (
        torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        for _ in range(2)
    )
    torch.cuda._sleep(head_start)  # type: ignore[no-untyped-call]
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))


def _clock(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
