"""What is read in several parts is read from one state, whoever commits between the parts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import maxsight
from maxsight.index.records import Changes, Failure, FileState
from maxsight.index.store import Store
from maxsight.index.tables import lance_tables
from maxsight.pipelines.search import evaluate

PICTURES = Path(maxsight.__file__).parent / "demo" / "pictures"


@pytest.fixture
def library(tmp_path: Path) -> maxsight.Library:
    (tmp_path / "pictures").mkdir()
    for name in ("coffee.jpg", "bus.webp"):
        shutil.copy(PICTURES / name, tmp_path / "pictures")
    library = maxsight.open(tmp_path / "l.maxsight")
    library.add(tmp_path / "pictures")
    return library


def meanwhile(real: Callable[..., Any], change: Callable[[], None]) -> Callable[..., Any]:
    """``real``, and after its first call something else happens."""
    changes = [change]

    def call(*given: Any, **named: Any) -> Any:
        result = real(*given, **named)
        while changes:
            changes.pop()()
        return result

    return call


def test_answers_are_known_in_the_state_that_is_searched(
    library: maxsight.Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "queries.csv"
    table.write_text("text,path\na cup of coffee,pictures/coffee.jpg\n")

    def remove() -> None:
        with maxsight.open(library.path) as other:
            other.remove(tmp_path / "pictures/coffee.jpg")

    monkeypatch.setattr(evaluate, "require_known", meanwhile(evaluate.require_known, remove))
    with library:
        assert library.evaluate(table).success[1] == 1
        assert library.info().images == 1


def test_failures_are_told_from_one_state(
    library: maxsight.Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = str(tmp_path / "pictures/bus.webp")
    failure = Failure(FileState(bus, 1, 1), "too large")

    def apply(changes: Changes) -> None:
        with Store.open(library.path, write=True) as store:
            store.apply(changes)

    apply(Changes(failed=[failure]))
    with library:
        held = Store.open(library.path).known()[bus].item_id
        remove = Changes(removed=[held], forgotten=[bus])
        reading = meanwhile(lance_tables.open_table, lambda: apply(remove))
        monkeypatch.setattr(lance_tables, "open_table", reading)
        assert library.failures() == {bus: "kept as it was before: too large"}
        assert library.failures() == {}
