"""Whether the rows of a library's two tables agree with each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maxsight.errors import LibraryError
from maxsight.index.tables import lance_tables, schema, table_rows
from maxsight.index.tables.lance_tables import numbers
from maxsight.index.tables.unit_reader import owners
from maxsight.index.tables.versions import TableState

_COLUMNS = ["item_id", "status", "path", "path_bytes", "first_unit", "unit_count"]
_NAMED = 3


@dataclass
class RowReport:
    """What the rows say.

    Attributes:
        problems: ``(table, what is wrong)``.
        unreadable: table -> ids of fragments that could not be read.
        broken_items: ids of live files whose units cannot be trusted.
        orphans: units no live file owns.
        last_unit: the highest unit id ever given, -1 if none was; None if that cannot be read.
        items, units: live.
    """

    problems: list[tuple[str, str]] = field(default_factory=list)
    unreadable: dict[str, frozenset[int]] = field(default_factory=dict)
    broken_items: tuple[int, ...] = ()
    orphans: int = 0
    last_unit: int | None = None
    items: int = 0
    units: int = 0


def check(
    library: Path, states: Mapping[str, TableState], progress: Callable[[int, int], None]
) -> RowReport:
    """Read ids, claims and vectors of all sound fragments, and compare them.

    Args:
        progress: called with the units read and how many there are.
    """
    report = RowReport()
    if any(state.opened is None for state in states.values()):
        return report
    reader = _Reader(library, states, report)
    parts = list(reader.batches(schema.ITEMS, _COLUMNS))
    items = pa.Table.from_batches(parts, schema=_schema(states[schema.ITEMS].opened, _COLUMNS))
    live = items.filter(pc.equal(items["status"], schema.LIVE)).sort_by("first_unit")
    first, count = numbers(live, "first_unit"), numbers(live, "unit_count")
    item_ids = numbers(live, "item_id")
    broken = np.zeros(len(live), dtype=np.bool_)

    every = numbers(items, "item_id")
    if len(np.unique(every)) < len(every):
        ids, times = np.unique(every, return_counts=True)
        broken |= np.isin(item_ids, ids[times > 1])
        report.problems.append((schema.ITEMS, f"{np.sum(times > 1):,} item ids are used twice"))
    overlaps = np.flatnonzero(first[1:] < first[:-1] + count[:-1])
    if len(overlaps):
        broken[overlaps] = broken[overlaps + 1] = True
        report.problems.append((schema.ITEMS, f"{len(overlaps):,} files claim units of another"))

    claims = first, count
    found = np.zeros(len(live), dtype=np.int64)
    total = states[schema.UNITS].opened.count_rows()
    seen, last, wrong_order, foreign, bad = 0, -1, 0, 0, 0
    for batch in reader.batches(schema.UNITS, ["unit_id", "item_id", "vector"]):
        if not len(batch):
            continue
        unit_ids = numbers(batch, "unit_id")
        owner = owners(unit_ids, *claims)
        claimed = owner >= 0
        steps = np.diff(unit_ids, prepend=last) <= 0
        others = claimed & (numbers(batch, "item_id") != np.append(item_ids, -1)[owner])
        norms = np.linalg.norm(
            table_rows.vectors_of(batch["vector"], batch["vector"].type.list_size).astype(
                np.float32
            ),
            axis=1,
        )
        odd = claimed & ~table_rows.is_one(norms)
        broken[owner[(steps & claimed) | others | odd]] = True
        np.add.at(found, owner[claimed & ~others], 1)
        wrong_order += int(steps.sum())
        foreign += int(others.sum())
        bad += int(odd.sum())
        last = max(last, int(unit_ids.max()))
        seen += len(unit_ids)
        report.orphans += int(np.sum(~claimed))
        progress(seen, max(seen, total))
    for number, text in (
        (wrong_order, "units are there twice or out of order"),
        (foreign, "units are claimed by a file they were not made from"),
        (bad, "vectors are not finite or not of length 1"),
    ):
        if number:
            report.problems.append((schema.UNITS, f"{number:,} {text}"))
    lacking = found != count
    if lacking.any():
        names = table_rows.decode_paths(live.filter(pa.array(lacking)).slice(0, _NAMED))
        more = ", ..." if lacking.sum() > _NAMED else ""
        report.problems.append(
            (
                schema.UNITS,
                f"units of {lacking.sum():,} files are missing or double: {', '.join(names)}{more}",
            )
        )
    claimed_to = numbers(items, "first_unit") + numbers(items, "unit_count")
    report.broken_items = tuple(sorted(item_ids[broken | lacking].tolist()))
    report.last_unit = max(last, int(claimed_to.max(initial=0)) - 1)
    report.items, report.units = len(live), int(found.sum())
    return report


class _Reader:
    """Reads sound fragments, and takes note of those that turn out not to be."""

    def __init__(self, library: Path, states: Mapping[str, TableState], report: RowReport) -> None:
        self._library = library
        self._states = states
        self._report = report

    def batches(self, name: str, columns: list[str]) -> Any:
        """The rows of one table, a piece at a time."""
        state = self._states[name]
        unreadable = set()
        for fragment in state.opened.get_fragments():
            if fragment.fragment_id in state.damaged_fragments:
                continue
            try:
                with lance_tables.storage_errors(self._library / name):
                    yield from fragment.to_batches(columns=columns, batch_size=4096)
            except LibraryError as error:
                unreadable.add(fragment.fragment_id)
                self._report.problems.append((name, str(error)))
        self._report.unreadable[name] = frozenset(unreadable)


def _schema(opened: Any, columns: list[str]) -> pa.Schema:
    return pa.schema([opened.schema.field(name) for name in columns])
