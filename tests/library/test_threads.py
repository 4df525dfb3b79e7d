"""One library, many threads: they search at once while one adds, and another closes it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import maxsight
from maxsight.benchmarks.cases.faults import threads as threads_benchmark
from maxsight.errors import LibraryLocked
from maxsight.index.records import Kind
from maxsight.index.snapshot import Snapshot
from maxsight.pipelines.query.text_cache import TextCache

COLOURS = ("red", "green", "blue", "yellow")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures, and a cache without a text."""
    monkeypatch.setenv("MAXSIGHT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "pictures").mkdir()
    for colour in COLOURS:
        Image.new("RGB", (32, 32), colour).save(tmp_path / "pictures" / f"{colour}.png")
    return tmp_path


def test_a_library_is_used_in_any_thread(folder: Path) -> None:
    with maxsight.open(folder / "l.maxsight") as library:
        library.add(folder / "pictures")
        here = library.search("a red card")
        with ThreadPoolExecutor(1) as other:
            assert other.submit(library.search, "a red card").result() == here
            there = other.submit(library.search, "a new text").result()
            assert other.submit(library.moments, "another text").result() == []
        assert library.search("a new text") == there


def test_many_threads_search_while_one_adds_and_one_closes(folder: Path) -> None:
    with maxsight.open(folder / "l.maxsight") as library:
        library.add(folder / "pictures")
        alone = [library.search(f"a card {n}") for n in range(4)]
    fresh = maxsight.open(folder / "l.maxsight")
    done = threading.Event()

    def ask(number: int) -> list[list[maxsight.Hit]]:
        kinds: Kind | None = "image" if number % 2 else None
        where = "width > 1" if number % 3 else None
        answers = [fresh.search(f"a card {n % 4}", kinds=kinds, where=where) for n in range(8)]
        fresh.search(f"a text of thread {number}")
        return answers

    def close() -> None:
        while not done.wait(0.02):
            fresh.close()

    closing = threading.Thread(target=close)
    closing.start()
    try:
        with ThreadPoolExecutor(16) as threads:
            asked = [threads.submit(ask, number) for number in range(16)]
            more = folder / "more"
            more.mkdir()
            Image.new("RGB", (32, 32), "black").save(more / "black.png")
            assert fresh.add(more).added == 1
            answers = [each.result() for each in asked]
    finally:
        done.set()
        closing.join()
    old = [[hit.path for hit in hits] for hits in alone]
    for answer in answers:
        for number, hits in enumerate(answer):
            paths = [hit.path for hit in hits if not hit.path.endswith("black.png")]
            assert paths == old[number % 4]
    assert len(fresh.search("a card 1")) == 5
    fresh.close()


@pytest.mark.parametrize("writer", ["thread", "process"])
def test_every_answer_is_that_of_one_state(writer: threads_benchmark.Writer) -> None:
    """``python -m maxsight.benchmarks threads`` does it for a minute."""
    rows = threads_benchmark.measure(writer, seconds=1.5, threads=16)
    figures = {row.metric: row for row in rows}
    assert figures["answers of one state"].runs > 50
    assert figures["states"].value > 2


def test_files_come_change_and_go_while_threads_search(folder: Path) -> None:
    """With real files: each answer is that of a reader who was alone with one of the states."""
    texts = [f"a card {n}" for n in range(4)]
    done = threading.Event()
    with maxsight.open(folder / "l.maxsight") as library:
        library.add(folder / "pictures")
        alone: list[list[list[maxsight.Hit]]] = []

        def remember() -> None:
            with maxsight.open(library.path) as other:
                alone.append([other.search(text) for text in texts])

        def ask(number: int) -> list[tuple[int, int, list[maxsight.Hit], int]]:
            answers = []
            while not done.is_set():
                first = len(alone) - 1
                hits = library.search(texts[number % 4])
                answers.append((first, number % 4, hits, len(alone)))
                number += 1
            return answers

        remember()
        red, new = folder / "pictures" / "red.png", folder / "pictures" / "new.png"
        with ThreadPoolExecutor(16) as threads:
            asked = [threads.submit(ask, number) for number in range(16)]
            try:
                Image.new("RGB", (32, 32), "black").save(new)
                library.add(new)
                remember()
                Image.new("RGB", (48, 32), "white").save(red)
                library.add(red)
                remember()
                library.remove(new)
                remember()
            finally:
                done.set()
            answers = [answer for each in asked for answer in each.result(60)]
    assert len({str(state) for state in alone}) == 4
    # The state after the last that was remembered may be committed already.
    for first, text, hits, last in answers:
        assert hits in [state[text] for state in alone[first : last + 1]]
    assert len({first for first, *_ in answers}) > 1


def test_an_answer_of_no_state_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that keeps to one snapshot answers wrong, once there are other states."""
    from maxsight.index.store import Store

    first: dict[Path, Snapshot] = {}
    newest = Store.snapshot
    monkeypatch.setattr(
        Store, "snapshot", lambda store: first.setdefault(store.path, newest(store))
    )
    with pytest.raises(threads_benchmark.WrongAnswer, match="none of the states"):
        threads_benchmark.measure("process", seconds=1.0, threads=4)


def test_threads_of_one_library_write_in_turn(folder: Path) -> None:
    """Even where the first makes the library; another object is told that it is locked."""
    with maxsight.open(folder / "l.maxsight") as library, ThreadPoolExecutor(4) as threads:
        colours = [folder / "pictures" / f"{colour}.png" for colour in COLOURS]
        assert [report.added for report in threads.map(library.add, colours)] == [1] * 4
        assert sum(threads.map(library.remove, colours[:3])) == 3

        def write_too(_: object) -> None:
            with maxsight.open(library.path) as other, pytest.raises(LibraryLocked):
                other.compact()
            with pytest.raises(LibraryLocked):
                library.compact()  # which would wait for itself

        library.add(folder / "pictures", progress=write_too)
        assert len(library.items()) == 4


def test_closing_takes_nothing_from_a_search_in_another_thread(folder: Path) -> None:
    """A cache that is dropped serves who has it, and then lets go of its file."""
    cache = TextCache(folder / "texts.sqlite")
    cache.put("f", {"known": np.ones(4, np.float32)})
    inside, closed = threading.Event(), threading.Event()

    def texts() -> Iterator[str]:
        inside.set()
        assert closed.wait(10)
        yield "known"

    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(cache.get, "f", texts())  # type: ignore[arg-type]
        assert inside.wait(10)
        assert list(cache.get("f", ["known"])) == ["known"]  # beside the other, not after it
        cache.close()
        closed.set()
        assert list(asked.result()) == ["known"]
    assert cache.get("f", ["known"]) == {}


def test_the_cache_of_texts_takes_any_thread(tmp_path: Path) -> None:
    cache = TextCache(tmp_path / "texts.sqlite")

    def use(number: int) -> int:
        for n in range(20):
            cache.put("f", {f"{number} {n}": np.full(4, n, np.float32)})
            assert cache.get("f", [f"{number} {n}"])[f"{number} {n}"].tolist() == [n] * 4
        return len(cache.newest("f", 1000))

    with ThreadPoolExecutor(8) as threads:
        assert max(threads.map(use, range(8))) == 160
    cache.close()
    assert cache.get("f", ["0 0"]) == {}
