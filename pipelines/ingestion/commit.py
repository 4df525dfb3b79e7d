"""Writing to the library beside the encoding, in steps of a few seconds."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from maxsight.index.records import Changes, EncodedItem, Failure
from maxsight.index.writing.partial import Keeper, PartialFilm, Stretch

if TYPE_CHECKING:
    from maxsight.index.store import Store

# What an interruption may cost, and what a step's fixed cost is spread over.
COMMIT_SECONDS = 4.0
# Units (pictures and frames) after which a step is due whatever the time: it bounds the memory.
COMMIT_UNITS = 8192


@dataclass(eq=False)
class Outbox:
    """Changes that wait for the next step.

    Attributes:
        units: pictures and frames among them.
        kept: what is encoded of films that are not done.
        settled: films of which nothing need be kept any more.
    """

    added: list[EncodedItem] = field(default_factory=list)
    replaced: list[tuple[int, EncodedItem]] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    units: int = 0
    kept: list[tuple[PartialFilm, Stretch]] = field(default_factory=list)
    settled: list[PartialFilm] = field(default_factory=list)

    def changes(self) -> Changes:
        """All of them as one step."""
        return Changes(
            added=self.added,
            replaced=self.replaced,
            removed=self.removed,
            failed=self.failed,
            forgotten=self.forgotten,
        )


def is_empty(changes: Changes) -> bool:
    """Whether a step would change nothing."""
    return not any(vars(changes).values())


@dataclass(frozen=True)
class _Queued:
    changes: Changes
    kept: Sequence[tuple[PartialFilm, Stretch]]
    settled: Sequence[PartialFilm]


class Committer:
    """Applies changes to a store in a thread, in order.

    Attributes:
        busy_s: seconds spent on it.
    """

    def __init__(self, store: Store) -> None:
        self.busy_s = 0.0
        self._store = store
        self._error: BaseException | None = None
        # One step is written and one waits; a third would only hold memory.
        self._queue: queue.Queue[_Queued | None] = queue.Queue(maxsize=1)
        self._keeper = Keeper(store.path)
        # A daemon: a second Ctrl-C leaves at once. A step cut short has never happened.
        self._thread = threading.Thread(target=self._run, name="commit", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._put(None)  # what was handed over before an error is still written
        self._thread.join()

    @property
    def is_free(self) -> bool:
        """Whether a step would be taken without waiting."""
        return not self._queue.full()

    def commit(
        self,
        changes: Changes,
        *,
        kept: Sequence[tuple[PartialFilm, Stretch]] = (),
        settled: Sequence[PartialFilm] = (),
    ) -> None:
        """Hand over a step; waits if one is written and another one waits.

        Args:
            kept: what to keep of films that are not done.
            settled: films of which nothing need be kept once the changes are stored.

        Raises:
            MaxsightError, OSError: an earlier step failed.
        """
        if kept or settled or not is_empty(changes):
            self._put(_Queued(changes, kept, settled))
        self._raise()

    def finish(self) -> None:
        """Wait until everything is written.

        Raises:
            MaxsightError, OSError: a step failed.
        """
        self._put(None)
        self._thread.join()
        self._raise()

    def _put(self, queued: _Queued | None) -> None:
        while self._thread.is_alive():
            try:
                self._queue.put(queued, timeout=0.2)
                return
            except queue.Full:
                continue

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while (queued := self._queue.get()) is not None:
                began = time.perf_counter()
                for film, stretch in queued.kept:
                    self._keeper.append(film, stretch)
                if not is_empty(queued.changes):
                    self._store.apply(queued.changes)
                for film in queued.settled:
                    self._keeper.remove(film)
                self.busy_s += time.perf_counter() - began
        except BaseException as error:  # raised again in the thread that hands over or finishes
            self._error = error
