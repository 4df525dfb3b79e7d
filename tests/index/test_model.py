"""Any sequence of steps leaves what a dictionary would hold."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from maxsight.index.building import vector_index
from maxsight.index.derived import generations, vector_folder
from maxsight.index.records import Changes, EncodedItem, Failure, FileState
from maxsight.index.snapshot import Snapshot
from maxsight.index.store import Store
from maxsight.index.verify.verify import verify

STARS = pa.schema([("path", pa.string()), ("stars", pa.int64())])
PATHS = [f"/{name}" for name in "abcdef"] + ["/caf\udce9", "/caf\\xe9"]


# Conditions, and what they come to: path, content and stars of an item -> is it meant.
CONDITIONS: dict[str, Callable[[str, str, int | None], bool]] = {
    "kind = 'video'": lambda path, content, stars: "*" in content,
    "glob(path, '/[a-c]')": lambda path, content, stars: path in ("/a", "/b", "/c"),
    "stars > 1": lambda path, content, stars: stars is not None and stars > 1,
    "stars IS NULL OR width < 0": lambda path, content, stars: stars is None,
    "duration_s >= 7 AND NOT path = '/a'": lambda path, content, stars: (
        content.endswith("*7") and path != "/a"
    ),
    "width < 0": lambda path, content, stars: False,
}


class Library(RuleBasedStateMachine):
    """Exact, until somebody makes an index."""

    samples: ClassVar[Any]
    is_exact = True

    @initialize()
    def create(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="maxsight-model-"))
        self.path = self.folder / "library"
        self.store = Store.create(self.path, encoder_uri="t", fingerprint="f", dim=self.samples.dim)
        self.reader = Store.open(self.path)
        self.items: dict[int, tuple[str, str]] = {}
        self.failed: dict[str, str] = {}
        self.stars: dict[int, int] = {}
        # Now there is the column, of nothing.
        self.store.annotate(pa.table({"path": [], "stars": []}, STARS))
        self.given: set[int] = set()
        self.step = 0
        self.kept: list[tuple[Snapshot, dict[int, tuple[str, str]]]] = []

    def content(self, draw: st.DataObject) -> str:
        self.step += 1
        return f"{self.step}{draw.draw(st.sampled_from(['', '*2', '*7']))}"

    @rule(draw=st.data())
    def apply(self, draw: st.DataObject) -> None:
        items = dict(self.items)
        ids = sorted(items)
        touched = draw.draw(st.lists(st.sampled_from(ids), unique=True)) if ids else []
        for item_id in touched:
            del items[item_id]
        taken = {path for path, _ in items.values()}
        removed: list[int] = []
        replaced: list[tuple[int, EncodedItem]] = []
        restated: list[tuple[int, FileState]] = []
        for item_id in touched:
            old_path, old_content = self.items[item_id]
            free = [path for path in PATHS if path not in taken]
            what = draw.draw(st.sampled_from(["remove", "replace", "restate"]))
            if what == "remove" or not free:
                removed.append(item_id)
                continue
            path = old_path if old_path in free else draw.draw(st.sampled_from(free))
            if what == "restate":
                path = draw.draw(st.sampled_from(free))
                restated.append((item_id, FileState(path, self.step, self.step)))
                items[item_id] = (path, old_content)
            else:
                content = self.content(draw)
                replaced.append((item_id, self.samples.item(path, content)))
                items[item_id] = (path, content)
            taken.add(path)
        free = [path for path in PATHS if path not in taken]
        chosen = draw.draw(st.lists(st.sampled_from(free), unique=True)) if free else []
        split = len(chosen)
        contents = [self.content(draw) for _ in chosen]
        # Beside items of the same path, too.
        bad = [
            Failure(FileState(path, 1, self.step), f"bad {self.step}")
            for path in draw.draw(st.lists(st.sampled_from(PATHS), unique=True))
        ]
        forgotten = draw.draw(st.lists(st.sampled_from(PATHS), unique=True))
        added = self.store.apply(
            Changes(
                added=[
                    self.samples.item(path, content)
                    for path, content in zip(chosen, contents, strict=False)
                ],
                replaced=replaced,
                restated=restated,
                removed=removed,
                failed=bad,
                forgotten=forgotten,
            )
        )
        assert len(added) == split
        assert not self.given & set(added)
        self.given |= set(added)
        for item_id, path, content in zip(added, chosen, contents, strict=False):
            items[item_id] = (path, content)
        self.items = items
        self.stars = {item_id: n for item_id, n in self.stars.items() if item_id in items}
        read = [item.state.path for _, item in replaced]
        read += [*chosen, *(state.path for _, state in restated)]
        for path in [*forgotten, *read]:
            self.failed.pop(path, None)
        self.failed |= {failure.state.path: failure.reason for failure in bad}

    @rule(draw=st.data())
    def annotate(self, draw: st.DataObject) -> None:
        # Of two files that show alike, the one whose name is UTF-8 is meant.
        plain = {path: i for i, (path, _) in self.items.items() if path.isascii()}
        paths = draw.draw(st.lists(st.sampled_from(PATHS[:6]), unique=True))
        stars = [draw.draw(st.one_of(st.none(), st.integers(0, 3))) for _ in paths]
        done = self.store.annotate(pa.table({"path": paths, "stars": stars}, STARS))
        assert set(done.unknown) == set(paths) - plain.keys()
        for path, count in zip(paths, stars, strict=True):
            if path not in plain:
                continue
            if count is None:
                self.stars.pop(plain[path], None)
            else:
                self.stars[plain[path]] = count

    @rule(
        where=st.sampled_from([None, *CONDITIONS]),
        k=st.integers(1, 20),
        seed=st.integers(0, 9),
        draw=st.data(),
    )
    def search(self, where: str | None, k: int, seed: int, draw: st.DataObject) -> None:
        """By the writer and by a reader, against a product with every vector there is."""
        without = draw.draw(st.lists(st.sampled_from(sorted(self.items)))) if self.items else []
        (query,) = self.samples.unit_vectors(1, seed)
        meant = CONDITIONS[where] if where else lambda path, content, stars: True
        scores: dict[tuple[int, float | None], float] = {}
        for item_id, (path, content) in self.items.items():
            if item_id not in without and meant(path, content, self.stars.get(item_id)):
                item = self.samples.item(path, content)
                starts = [None] if item.spans is None else item.spans[:, 0].tolist()
                products = item.vectors.astype(np.float16).astype(np.float32) @ query
                scores |= {(item_id, s): p for s, p in zip(starts, products.tolist(), strict=True)}
        for store in (self.store, self.reader):
            snapshot = store.snapshot()
            allowed = snapshot.allowed(where=where, without_items=without)
            (hits,) = snapshot.search(query[None], k, allowed=allowed)
            found = {(hit.item_id, hit.start): hit.score for hit in hits}
            assert found.keys() <= scores.keys()
            assert len(found) == len(hits)
            assert found == pytest.approx({place: scores[place] for place in found}, abs=1e-5)
            assert [hit.score for hit in hits] == sorted((h.score for h in hits), reverse=True)
            assert [hit.path for hit in hits] == [self.items[hit.item_id][0] for hit in hits]
            if self.is_exact:
                best = sorted(scores.values(), reverse=True)[:k]
                assert [hit.score for hit in hits] == pytest.approx(best, abs=1e-5)

    @rule()
    def verify(self) -> None:
        found = verify(self.path)
        assert found.problems == ()
        assert (found.unrecorded, found.items) == (0, len(self.items))

    @rule()
    def refuse(self) -> None:
        with pytest.raises(ValueError, match="no item"):
            self.store.apply(Changes(added=[self.samples.item("/new", "n")], removed=[10**6]))

    @rule(grace=st.sampled_from([0.0, 600.0]))
    def compact(self, grace: float) -> None:
        self.store.compact(grace_seconds=grace)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = Store.open(self.path, write=True)

    @rule()
    def keep(self) -> None:
        self.kept = [*self.kept[-2:], (self.reader.snapshot(), self.items)]

    def check(self, snapshot: Snapshot, items: dict[int, tuple[str, str]]) -> None:
        self.samples.check(snapshot, items)

    @invariant()
    def everyone_sees_the_same(self) -> None:
        if not hasattr(self, "store"):
            return
        for store in (self.store, self.reader):
            self.check(store.snapshot(), self.items)
        known = self.store.known()
        assert {item.item_id: (path, item.content_hash) for path, item in known.items()} == (
            self.items
        )
        failures = self.reader.failures()
        assert {path: failure.reason for path, failure in failures.items()} == self.failed
        for snapshot, items in self.kept:
            self.check(snapshot, items)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.reader.close()
            shutil.rmtree(self.folder)


class IndexedLibrary(Library):
    """Candidates come from an index of one list out of two, which misses some, and lags behind."""

    is_exact = False

    @rule()
    def build(self) -> None:
        if self.store.snapshot().unit_count >= 20:
            assert vector_index.build(self.store.snapshot(), "IVF2,Flat").action == "built"

    @rule()
    def drop(self) -> None:
        generations.remove(self.path, vector_folder.NAME)

    def check(self, snapshot: Snapshot, items: dict[int, tuple[str, str]]) -> None:
        """No search finds everything."""
        assert snapshot.item_count == len(items)
        for item_id, pair in items.items():
            vectors = self.samples.item(*pair).vectors.astype(np.float16)
            np.testing.assert_array_equal(snapshot.item_vectors(item_id), vectors)
        (hits,) = snapshot.search(self.samples.unit_vectors(1), 10)
        assert {(hit.item_id, hit.path) for hit in hits} <= {
            (item_id, path) for item_id, (path, _) in items.items()
        }


@pytest.mark.slow
@pytest.mark.parametrize("machine", [Library, IndexedLibrary])
def test_any_sequence_of_steps(samples: Any, machine: type[Library]) -> None:
    Library.samples = samples
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=20,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
