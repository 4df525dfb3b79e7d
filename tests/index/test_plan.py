"""What is held in memory, what is read from disk, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maxsight import settings
from maxsight.errors import BudgetError, UsageError
from maxsight.index.ann.indexed_vectors import IndexedVectors
from maxsight.index.exact.disk import DiskVectors
from maxsight.index.exact.memory import ExactIndex
from maxsight.index.plan import plan
from maxsight.index.records import Changes, EncodedItem, FileState
from maxsight.index.store import Store

Create = Callable[..., Store]


def test_vectors_are_held_where_they_fit() -> None:
    whole = plan(rows=1_000_000, items=1_000_000, dim=512, budget=2**40)
    assert whole.in_memory
    assert whole.vectors == 2 * 512 * 1_000_000
    assert plan(rows=1_000_000, items=1_000_000, dim=512, budget=whole.peak) == whole
    lean = plan(rows=1_000_000, items=1_000_000, dim=512, budget=whole.peak - 1)
    assert not lean.in_memory
    assert lean.peak == whole.peak - whole.vectors
    with pytest.raises(BudgetError, match=r"needs 3\d\d MiB .* allows 300 MiB"):
        plan(rows=1_000_000, items=1_000_000, dim=512, budget=300 * 2**20)


def test_an_index_and_its_tail_count() -> None:
    sizes = {"rows": 1000, "items": 1000, "dim": 64, "budget": 2**40}
    without, with_index = plan(**sizes), plan(**sizes, index=5_000_000, tail=100)
    assert with_index.held - without.held == 5_000_000 + 2 * 64 * 100


@pytest.mark.parametrize(
    ("text", "count"),
    [("1GiB", 2**30), ("800MB", 800_000_000), ("2g", 2_000_000_000), ("64 KiB", 2**16), ("5", 5)],
)
def test_sizes_are_read(monkeypatch: pytest.MonkeyPatch, text: str, count: int) -> None:
    monkeypatch.setenv("MAXSIGHT_MEMORY", text)
    assert settings.memory() == count


@pytest.mark.parametrize("text", ["", "much", "-1", "0", "1.2.3GB", "1PB"])
def test_what_is_no_size_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("MAXSIGHT_MEMORY", text)
    with pytest.raises(UsageError, match="is not a size; say 2GiB"):
        settings.memory()


@pytest.mark.parametrize("indexed", [False, True])
def test_the_same_answers_from_memory_and_from_disk(
    create: Create, samples: Any, monkeypatch: pytest.MonkeyPatch, indexed: bool
) -> None:
    from maxsight.index.building import vector_index

    store = create()
    names = [f"{number}{'*3' if number % 4 == 0 else ''}" for number in range(60)]
    store.apply(Changes(added=[samples.item(f"/{name}", name) for name in names]))
    if indexed:
        vector_index.build(store.snapshot(), "SQfp16")
    store.apply(
        Changes(
            added=[samples.item("/new", "new*2")],
            replaced=[(3, samples.item("/3", "3b"))],
            removed=[1, 8],
        )
    )
    queries = samples.unit_vectors(7, seed=5)
    with Store.open(store.path) as reader:
        held = reader.snapshot()
    even = held.allowed(where="item_id % 2 = 0")
    whole = store.snapshot().state.plan
    assert whole.in_memory
    monkeypatch.setenv("MAXSIGHT_MEMORY", str(whole.peak - 1))
    with Store.open(store.path) as reader:
        read = reader.snapshot()
        assert not read.state.plan.in_memory
        kind: type = IndexedVectors if indexed else DiskVectors
        assert isinstance(read.state.vectors, kind)
        assert isinstance(held.state.vectors, IndexedVectors if indexed else ExactIndex)
        for allowed in (None, even):
            assert read.search(queries, 9, allowed=allowed) == held.search(
                queries, 9, allowed=allowed
            )
        rows = np.array([5, 0, 5, 40])
        np.testing.assert_array_equal(read.vectors(rows), held.vectors(rows))
        np.testing.assert_array_equal(
            read.scores(queries[0], slice(3, 50, 7)), held.scores(queries[0], slice(3, 50, 7))
        )
        store.apply(Changes(added=[samples.item("/later", "later")]))
        assert reader.snapshot().unit_count == held.unit_count + 1
        assert reader.snapshot().search(samples.item("/later", "later").vectors, 1)[0][0].path == (
            "/later"
        )
        # A limit holds for what a library has grown to, too.
        assert not store.snapshot().state.plan.in_memory


@pytest.mark.parametrize("indexed", [False, True])
def test_what_is_held_is_not_asked_for_again(
    create: Create, samples: Any, monkeypatch: pytest.MonkeyPatch, indexed: bool
) -> None:
    """Without a limit, half of what is free counts, and what is loaded is not free any more."""
    from maxsight.index.building import vector_index

    store = create()
    store.apply(Changes(added=[samples.item(f"/{n}", str(n)) for n in range(400)]))
    if indexed:
        vector_index.build(store.snapshot(), "SQfp16")
    with Store.open(store.path) as reader:
        plan = reader.snapshot().state.plan
        assert plan.in_memory
        assert bool(plan.index) == indexed
        store.apply(Changes(added=[samples.item("/new", "new")]))
        # A KiB more than what is not loaded by now needs.
        free = 2 * (plan.peak - plan.vectors - plan.index + 2**10)
        monkeypatch.setattr(settings, "available_memory", lambda: (free, 2**40))
        grown = reader.snapshot()
        assert grown.unit_count == 401
        assert grown.state.plan.in_memory
    with Store.open(store.path) as reader:  # an index is loaded before there is a plan
        assert not reader.snapshot().state.plan.in_memory


def test_rows_on_disk_that_a_compaction_deleted(
    create: Create, samples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stay rows of a reader for a while, the last of them at no place in the table."""
    from maxsight.index.building import vector_index

    store = create()
    store.apply(Changes(added=[samples.item(f"/{n}", str(n)) for n in range(100)]))
    vector_index.build(store.snapshot(), "SQfp16")
    store.apply(Changes(added=[samples.item(f"/{n}", str(n)) for n in range(100, 104)]))
    with Store.open(store.path) as reader:
        plan = reader.snapshot().state.plan
    monkeypatch.setenv("MAXSIGHT_MEMORY", str(plan.peak - plan.vectors))
    with Store.open(store.path) as reader:
        assert not reader.snapshot().state.plan.in_memory
        store.apply(Changes(removed=[50, 101, 103]))
        store.compact(grace_seconds=0)
        vector_index.tune(store.snapshot())  # so that the rows the index lacks are read anew
        snapshot = reader.snapshot()
        assert not snapshot.state.plan.in_memory
        assert (snapshot.row_count, snapshot.unit_count) == (104, 101)
        for name in ("0", "49", "51", "100", "102"):
            hits = snapshot.search(samples.item("", name).vectors, 200)[0]
            assert hits[0].path == f"/{name}"
            assert len(hits) == 101
            assert hits[0].score == pytest.approx(1, abs=2e-3)


_SEARCH = """
import os, resource, sys
import numpy as np
import faiss, lance  # what every search loads; its memory is not the library's

limit = int(sys.argv[2])
def private():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
def data():
    for line in open("/proc/self/status"):
        if line.startswith("VmData"):
            return int(line.split()[1]) * 1024
from maxsight.index.store import Store
before, mapped = private(), data()
resource.setrlimit(resource.RLIMIT_DATA, (mapped + limit + 2**28, mapped + limit + 2**28))
os.environ["MAXSIGHT_MEMORY"] = str(limit)
with Store.open(sys.argv[1]) as store:
    snapshot = store.snapshot()
    assert not snapshot.state.plan.in_memory
    hits = snapshot.search(np.load(sys.argv[3]), 10)
    assert private() - before < limit, (private() - before, limit)
    print([hit.item_id for hit in hits[0]])
"""


def test_a_library_four_times_its_limit_is_searched(create: Create, tmp_path: Path) -> None:
    """Its memory is capped by the system: what exceeded it would fail."""
    dim, rows = 512, 720_000
    limit = 2 * dim * rows // 4
    draw = np.random.default_rng(0)
    store = create(dim=dim)
    best = []
    query = draw.standard_normal((1, dim)).astype(np.float32)
    query /= np.linalg.norm(query)
    # Films: many vectors in few items.
    drawn = draw.standard_normal((rows // 12, dim), dtype=np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    starts = np.arange(len(drawn), dtype=np.float64)
    for film in range(12):
        half = np.roll(drawn, film, axis=1).astype(np.float16)
        best.append(np.sort(half.astype(np.float32) @ query[0])[-10:])
        store.apply(
            Changes(
                added=[
                    EncodedItem(
                        state=FileState(f"/{film}.mp4", 1, 1),
                        kind="video",
                        content_hash=str(film),
                        width=1,
                        height=1,
                        vectors=half,
                        spans=np.stack([starts, starts + 1], axis=1),
                        duration_s=float(len(half)),
                    )
                ]
            )
        )
    np.save(tmp_path / "query.npy", query)
    done = subprocess.run(
        [sys.executable, "-c", _SEARCH, str(store.path), str(limit), str(tmp_path / "query.npy")],
        env={**os.environ, "MAXSIGHT_MEMORY": str(limit)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    scores = np.concatenate(best)
    owners = np.repeat(np.arange(12), 10)[np.argsort(-scores)[:10]]
    assert found == owners.tolist()
