"""Any sequence of steps leaves what a dictionary would hold."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

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

from maxsight.index.records import Changes, EncodedItem, Failure, FileState
from maxsight.index.snapshot import Snapshot
from maxsight.index.store import Store

PATHS = [f"/{name}" for name in "abcdef"] + ["/caf\udce9", "/caf\\xe9"]


class Library(RuleBasedStateMachine):
    samples: ClassVar[Any]

    @initialize()
    def create(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="maxsight-model-"))
        self.path = self.folder / "library"
        self.store = Store.create(self.path, encoder_uri="t", fingerprint="f", dim=self.samples.dim)
        self.reader = Store.open(self.path)
        self.items: dict[int, tuple[str, str]] = {}
        self.failed: dict[str, str] = {}
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
        split = draw.draw(st.integers(0, len(chosen)))
        contents = [self.content(draw) for _ in chosen[:split]]
        bad = [
            Failure(FileState(path, 1, self.step), f"bad {self.step}") for path in chosen[split:]
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
        live = {path for path, _ in items.values()}
        for path in [*forgotten, *live]:
            self.failed.pop(path, None)
        self.failed |= {failure.state.path: failure.reason for failure in bad}

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

    @invariant()
    def everyone_sees_the_same(self) -> None:
        if not hasattr(self, "store"):
            return
        for store in (self.store, self.reader):
            self.samples.check(store.snapshot(), self.items)
        known = self.store.known()
        assert {item.item_id: (path, item.content_hash) for path, item in known.items()} == (
            self.items
        )
        failures = self.reader.failures()
        assert {path: failure.reason for path, failure in failures.items()} == self.failed
        for snapshot, items in self.kept:
            self.samples.check(snapshot, items)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.reader.close()
            shutil.rmtree(self.folder)


@pytest.mark.slow
def test_any_sequence_of_steps(samples: Any) -> None:
    Library.samples = samples
    run_state_machine_as_test(
        Library,
        settings=settings(
            max_examples=20,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
