"""How fast a run goes and when it will be done."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

from maxsight.pipelines.decoding.orders import Job
from maxsight.pipelines.ingestion.report import Progress, Stage

_TELL_EVERY_S = 0.1
_RATE_OVER_S = 10.0

# What a film is guessed to weigh before it is decoded: at 8 Mbit/s a megabyte is a second.
_FILM_BYTES_PER_S = 1e6


class Pace:
    """Turns counts into progress reports, about ten a second.

    Args:
        tell: receives them.
    """

    def __init__(self, tell: Callable[[Progress], None]) -> None:
        self._tell = tell
        self._told: tuple[Stage, float] | None = None
        self._began = time.monotonic()
        self._expected = 0.0
        self._weight_done = 0.0
        self._fps = 1.0
        self._total = 0
        self._recent: deque[tuple[float, int]] = deque()

    def count(self, stage: Stage, done: int, total: int | None = None) -> None:
        """A stage that only counts files."""
        if self._is_due(stage):
            self._tell(Progress(stage, done=done, total=total))

    def begin(self, jobs: Sequence[Job], *, fps: float) -> None:
        """Decoding and encoding of these files begins; of more files, where some were before."""
        self._fps = fps
        self._total += len(jobs)
        self._expected += sum(map(self._weight, jobs))
        if not self._recent:
            self._began = time.monotonic()
            self._recent.append((self._began, 0))

    def finish_file(self, job: Job) -> None:
        """One of them is done with."""
        self._weight_done += self._weight(job)

    def read(self, *, done: int, failed: int, units: int, busy_s: float) -> None:
        """Where decoding and encoding stand."""
        if not self._is_due("read"):
            return
        now = time.monotonic()
        self._recent.append((now, units))
        while self._recent[0][0] < now - _RATE_OVER_S:
            self._recent.popleft()
        since, units_then = self._recent[0]
        left = self._expected - self._weight_done
        self._tell(
            Progress(
                "read",
                done=done,
                total=self._total,
                failed=failed,
                rate=(units - units_then) / (now - since) if now > since else 0.0,
                eta_s=(now - self._began) * left / self._weight_done if self._weight_done else None,
                device_idle_share=self.idle_share(busy_s),
            )
        )

    def idle_share(self, busy_s: float) -> float:
        """Part of the time since ``begin`` in which the device did not compute."""
        elapsed = time.monotonic() - self._began
        return min(1.0, max(0.0, 1.0 - busy_s / elapsed)) if elapsed else 0.0

    def end(self, *, done: int, failed: int) -> None:
        """The last report."""
        self._tell(Progress("done", done=done, total=self._total, failed=failed, eta_s=0.0))

    def _weight(self, job: Job) -> float:
        """How many pictures or frames a file will probably give."""
        if job.kind != "video":
            return 1.0
        return max(1.0, job.state.bytes / _FILM_BYTES_PER_S * self._fps)

    def _is_due(self, stage: Stage) -> bool:
        now = time.monotonic()
        if self._told and self._told[0] == stage and now - self._told[1] < _TELL_EVERY_S:
            return False
        self._told = (stage, now)
        return True
