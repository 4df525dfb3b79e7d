"""What the writer must know to check a step and to number its rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from maxsight.index.records import Changes, Failure
from maxsight.index.tables import lance_tables, schema, table_rows


@dataclass(frozen=True)
class Step:
    """What a set of changes comes to, checked against the library.

    Attributes:
        new_failures: files that failed for the first time; each gets a row.
        old_failures: files that failed again, with the item id of their row.
        settled_failures: item ids of failures that are no more.
        vacated: paths that no longer hold what they held.
        claimed: paths and the item id they hold now.
        items, units: ids used up.
    """

    new_failures: list[Failure]
    old_failures: list[tuple[int, Failure]]
    settled_failures: list[int]
    vacated: list[str]
    claimed: dict[str, int]
    items: int
    units: int


class Ids:
    """Which paths are taken, by whom, and the next free ids.

    Attributes:
        next_item, next_unit: above every id any file or unit was ever found under.
    """

    def __init__(
        self, live: dict[str, int], failed: dict[str, int], next_item: int, next_unit: int
    ) -> None:
        self._live = live
        self._failed = failed
        self._paths = {item_id: path for path, item_id in live.items()}
        self.next_item = next_item
        self.next_unit = next_unit

    @classmethod
    def read(cls, library: Path) -> Ids:
        """Those of the library's newest state."""
        items = lance_tables.open_table(library, schema.ITEMS)
        units = lance_tables.open_table(library, schema.UNITS)
        columns = ["item_id", "status", "path", "path_bytes", "first_unit", "unit_count"]
        with lance_tables.storage_errors(library):
            rows = items.to_table(columns=columns)
            # Units a killed writer left behind count too: their ids are in the table.
            last_unit = pc.max(units.to_table(columns=["unit_id"])["unit_id"]).as_py()
        last_item = pc.max(rows["item_id"]).as_py()
        claimed = pc.max(pc.add(rows["first_unit"], rows["unit_count"])).as_py()
        paths: dict[str, dict[str, int]] = {}
        for status in (schema.LIVE, schema.FAILED):
            chosen = rows.filter(pc.equal(rows["status"], status))
            ids = chosen["item_id"].to_pylist()
            paths[status] = dict(zip(table_rows.decode_paths(chosen), ids, strict=True))
        return cls(
            paths[schema.LIVE],
            paths[schema.FAILED],
            0 if last_item is None else last_item + 1,
            max(claimed or 0, 0 if last_unit is None else last_unit + 1),
        )

    def plan(self, changes: Changes) -> Step:
        """Check ``changes``.

        Raises:
            ValueError: an id the library does not hold, an id changed twice, or two files at one
                path.
        """
        changed = [item_id for item_id, _ in changes.replaced]
        changed += [item_id for item_id, _ in changes.restated]
        changed += changes.removed
        if len(set(changed)) < len(changed):
            twice = next(item_id for item_id in changed if changed.count(item_id) > 1)
            raise ValueError(f"item {twice} is changed twice in one step")
        for item_id in changed:
            if item_id not in self._paths:
                raise ValueError(f"the library holds no item {item_id}: read known() again")
        vacated = {self._paths[item_id] for item_id in changed}

        claims = [
            (item.state.path, item_id) for item_id, item in enumerate(changes.added, self.next_item)
        ]
        claims += [(item.state.path, item_id) for item_id, item in changes.replaced]
        claims += [(state.path, item_id) for item_id, state in changes.restated]
        claimed = dict(claims)
        failed = {failure.state.path: failure for failure in changes.failed}
        _check_paths((path for path, _ in claims), self._live.keys() - vacated)
        _check_paths((failure.state.path for failure in changes.failed), set())
        settled = [path for path in {*changes.forgotten, *claimed} if path not in failed]
        new = [failure for path, failure in failed.items() if path not in self._failed]
        encoded = [*changes.added, *(item for _, item in changes.replaced)]
        return Step(
            new_failures=new,
            old_failures=[
                (self._failed[path], failure)
                for path, failure in failed.items()
                if path in self._failed
            ],
            settled_failures=sorted(self._failed[path] for path in settled if path in self._failed),
            vacated=sorted(vacated),
            claimed=claimed,
            items=len(changes.added) + len(new),
            units=sum(len(item.vectors) for item in encoded),
        )

    def advance(self, changes: Changes, step: Step) -> None:
        """Take note that ``step`` is on disk."""
        for path in step.vacated:
            del self._paths[self._live.pop(path)]
        self._live |= step.claimed
        self._paths |= {item_id: path for path, item_id in step.claimed.items()}
        gone = set(step.settled_failures)
        self._failed = {path: row for path, row in self._failed.items() if row not in gone}
        first = self.next_item + len(changes.added)
        self._failed |= {
            failure.state.path: item_id for item_id, failure in enumerate(step.new_failures, first)
        }
        self.next_item += step.items
        self.next_unit += step.units


def _check_paths(paths: Iterable[str], taken: set[str]) -> None:
    seen: set[str] = set()
    for path in paths:
        if path in seen or path in taken:
            raise ValueError(
                f"{table_rows.encode_path(path)[0]} would be in the library twice: replace the "
                "item that is there, or remove it in the same step"
            )
        seen.add(path)
