"""Do threads that share a library each see one state of it, while it changes?

Threads search one open library, another closes it again and again, and a writer adds, replaces and
removes files, in this process or in another. Afterwards every answer is compared with brute force
over every state that was committed, or about to be, while its search ran. An answer of no such
state, or of two, ends the benchmark with an error, it does not become a row.
"""

from __future__ import annotations

import bisect
import functools
import multiprocessing
import random
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

import maxsight
from maxsight import settings
from maxsight.benchmarks.cases.faults import crash_writer
from maxsight.benchmarks.cases.search_latency import cache_in
from maxsight.benchmarks.measure.rows import Row, timed
from maxsight.index.records import Changes, EncodedItem, Kind
from maxsight.index.store import Store
from maxsight.pipelines.query.text_cache import TextCache

_BENCHMARK = "threads"
_K = 10
_QUERIES = 64
_FILES = 400
_PATIENCE_S = 60.0
# Scores are sums of 24 products of float32; brute force adds float64.
_TOLERANCE = 1e-5
# How a search is restricted, and the kinds that it may find.
_KINDS: tuple[tuple[Kind, ...], ...] = (("image", "video"), ("image",), ("video",))

Writer = Literal["thread", "process"]


class WrongAnswer(AssertionError):
    """A search saw no state that was committed, or did not end."""


@dataclass(frozen=True)
class Committed:
    """A state of the library, which readers may see between two moments of the monotonic clock.

    Attributes:
        held: path -> content, as :func:`crash_writer.item` takes them.
        begin: before the step that made it.
        end: after the step that ended it.
    """

    held: Mapping[str, str]
    begin: float
    end: float


@dataclass(frozen=True)
class Answer:
    """What one search found, and when it ran.

    Attributes:
        query: its number.
        kinds: what it was restricted to.
        found: path and score, best first.
    """

    query: int
    kinds: tuple[Kind, ...]
    found: Sequence[tuple[str, float]]
    begin: float
    end: float


def run(data: Path, *, seconds: float = 60.0, threads: int = 16) -> list[Row]:
    """Search and write.

    Args:
        data: not used.
        seconds: for how long, with each kind of writer.
        threads: that search.
    """
    return [
        row
        for writer in ("thread", "process")
        for row in measure(writer, seconds=seconds, threads=threads)
    ]


def measure(writer: Writer, *, seconds: float, threads: int = 16) -> list[Row]:
    """The rows of one kind of writer.

    Raises:
        WrongAnswer: an answer is not that of one committed state, or a thread hangs.
    """
    draw = np.random.default_rng(0)
    queries = draw.standard_normal((_QUERIES, crash_writer.DIM)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    with tempfile.TemporaryDirectory(prefix="maxsight-threads-") as folder, cache_in(folder):
        path = Path(folder) / "library"
        dim = crash_writer.DIM
        with Store.create(path, encoder_uri="none", fingerprint="f", dim=dim) as store:
            store.apply(Changes(added=_items("first", _FILES)))
        cache = TextCache(settings.cache_directory() / "texts.sqlite")
        cache.put("f", {f"query {number}": vector for number, vector in enumerate(queries)})
        cache.close()
        with maxsight.open(path) as library:
            states, answers = _search_beside(library, writer, seconds, threads)
    _check(answers, states, queries)
    case = f"{threads} threads, written by another {writer}"
    taken = [answer.end - answer.begin for answer in answers]

    def row(metric: str, value: float, unit: str = "", runs: int = 1) -> Row:
        return Row(_BENCHMARK, case, "maxsight", metric, value, unit, runs=runs)

    return [
        row("answers of one state", 100, "%", len(answers)),
        row("states", len(states)),
        timed(taken, benchmark=_BENCHMARK, case=case, contender="maxsight", metric="latency"),
        row("longest search", 1e3 * max(taken), "ms", len(answers)),
    ]


def write(path: Path, seconds: float) -> list[Committed]:
    """Change the library without a pause; the states it went through, in their order."""
    draw = random.Random(0)
    with Store.open(path, write=True) as store:
        known = store.known()
        states = [{held.state.path: held.content_hash for held in known.values()}]
        ids = {held.state.path: held.item_id for held in known.values()}
        begun, ended = [float("-inf")], []
        stop = time.monotonic() + seconds
        while time.monotonic() < stop:
            added = _items(f"{len(states)}", 8)
            chosen = draw.sample(sorted(ids), 12)
            gone, changed = chosen[:8], chosen[8:]
            other = [
                crash_writer.item(path, f"{len(states)}.changed.{units}*{units}")
                for units, path in enumerate(changed, start=1)
            ]
            begun.append(time.monotonic())
            new = store.apply(
                Changes(
                    added=added,
                    replaced=[(ids[item.state.path], item) for item in other],
                    removed=[ids.pop(path) for path in gone],
                )
            )
            ended.append(time.monotonic())
            ids |= {item.state.path: item_id for item, item_id in zip(added, new, strict=True)}
            kept = {path: content for path, content in states[-1].items() if path not in gone}
            states.append(kept | {item.state.path: item.content_hash for item in (*added, *other)})
            if len(states) % 25 == 0:
                store.compact()
    ended.append(float("inf"))
    return [Committed(*each) for each in zip(states, begun, ended, strict=True)]


def _items(name: str, count: int) -> list[EncodedItem]:
    """Pictures and films in turn."""
    contents = [f"{name}.{n}" + f"*{n % 8}" * (n % 2) for n in range(count)]
    return [crash_writer.item(f"/{content}", content) for content in contents]


def _search_beside(
    library: maxsight.Library, writer: Writer, seconds: float, threads: int
) -> tuple[list[Committed], list[Answer]]:
    """Search in ``threads`` threads, and close in another, until the writer ends."""
    end = threading.Event()

    def ask(number: int) -> list[Answer]:
        answers = []
        while not end.is_set():
            number += 1
            query, kinds = number % _QUERIES, _KINDS[number % len(_KINDS)]
            begin = time.monotonic()
            where = f"kind = '{kinds[0]}'" if number % 5 == 0 and len(kinds) == 1 else None
            hits = library.search(
                f"query {query}", k=_K, where=where, kinds=None if where else kinds
            )
            found = [(hit.path, hit.score) for hit in hits]
            answers.append(Answer(query, kinds, found, begin, time.monotonic()))
        return answers

    def close() -> None:
        while not end.wait(0.2):
            library.close()

    writing: ProcessPoolExecutor | ThreadPoolExecutor = ThreadPoolExecutor(1)
    if writer == "process":
        writing = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    with writing, ThreadPoolExecutor(threads + 1) as searching:
        asked = [searching.submit(ask, 1_000 * number) for number in range(threads)]
        closing = searching.submit(close)
        try:
            states = writing.submit(write, library.path, seconds).result(seconds + _PATIENCE_S)
        finally:
            end.set()
        if hanging := wait(asked, _PATIENCE_S).not_done:
            raise WrongAnswer(f"{len(hanging)} threads hang")
        closing.result(_PATIENCE_S)
        return states, [answer for each in asked for answer in each.result()]


class _Truth:
    """What brute force answers in one state."""

    def __init__(self, state: Committed, queries: np.ndarray) -> None:
        items = [crash_writer.item(*pair) for pair in state.held.items()]
        vectors = np.concatenate([item.vectors for item in items]).astype(np.float16)
        starts = np.cumsum([0, *(len(item.vectors) for item in items[:-1])])
        self._places = {path: place for place, path in enumerate(state.held)}
        self._kinds = np.array([item.kind for item in items])
        # (Q, files) float64: the best unit of each.
        self._scores = np.maximum.reduceat(
            queries.astype(np.float64) @ vectors.astype(np.float64).T, starts, axis=1
        )

    def is_of(self, answer: Answer) -> bool:
        """Whether an answer is one of this state; files whose scores differ by less than the
        tolerance may change places."""
        paths = [path for path, _ in answer.found]
        if len(set(paths)) != len(paths) or not self._places.keys() >= set(paths):
            return False
        scores = self._scores[answer.query]
        allowed = np.isin(self._kinds, answer.kinds)
        best = np.sort(scores[allowed])[::-1][:_K]
        places = [self._places[path] for path in paths]
        given = np.array([score for _, score in answer.found])
        return bool(
            len(given) == len(best)
            and allowed[places].all()
            and np.allclose(given, best, rtol=0, atol=_TOLERANCE)
            and np.allclose(given, scores[places], rtol=0, atol=_TOLERANCE)
        )


def _check(answers: Sequence[Answer], states: Sequence[Committed], queries: np.ndarray) -> None:
    """Compare every answer with every state that it may be of.

    Raises:
        WrongAnswer: it is of none.
    """

    @functools.lru_cache(maxsize=256)
    def truth(number: int) -> _Truth:
        return _Truth(states[number], queries)

    begins, ends = [state.begin for state in states], [state.end for state in states]
    for answer in sorted(answers, key=lambda answer: answer.begin):
        first = bisect.bisect_left(ends, answer.begin)
        possible = range(first, bisect.bisect_right(begins, answer.end))
        if not any(truth(number).is_of(answer) for number in possible):
            raise WrongAnswer(f"{answer} is of none of the states {possible}")
