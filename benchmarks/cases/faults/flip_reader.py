"""A library to damage, and a process that reads it: a path a line in, a JSON object a line out.

``{"answers": {search: what it found, or null where it was refused}, "problems": [...]}``. Whatever
is not a MaxsightError ends the process.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from maxsight.benchmarks.cases.faults import crash_writer
from maxsight.errors import MaxsightError
from maxsight.index import snapshot_tokens
from maxsight.index.building import vector_index
from maxsight.index.records import Changes, EncodedItem, TokenTable
from maxsight.index.snapshot import Snapshot
from maxsight.index.store import Store
from maxsight.index.verify.verify import verify

_WIDTH = 16
_QUERIES = 4


def make(library: Path) -> None:
    """A library of pictures and films with tokens, rows that were removed, and both indexes."""
    snapshot_tokens.HELD_TOKEN_BYTES = 0  # so that a library this small gets an index of tokens
    with Store.create(
        library, encoder_uri="flips", fingerprint="f", dim=crash_writer.DIM, token_dim=_WIDTH
    ) as store:
        for step in range(3):
            added = [_item(f"{step}.{n}{'*5' if n % 5 == 0 else ''}") for n in range(100)]
            ids = store.apply(Changes(added=added))
        vector_index.bring_up_to_date(store.snapshot(), crash_writer.INDEX)
        store.apply(Changes(removed=ids[:7]))


def read(library: Path) -> dict[str, Any]:
    """Search a library in several ways, and verify it."""
    answers: dict[str, Any] = dict.fromkeys(_SEARCHES)
    try:
        with Store.open(library) as store:
            held = store.snapshot()
            for name, search in _SEARCHES.items():
                answers[name] = _tried(lambda search=search: search(held))  # type: ignore[misc]
    except MaxsightError as error:
        answers["error"] = str(error)[:200]
    problems = _tried(lambda: [f"{found.kind} {found.place}" for found in verify(library).problems])
    return {"answers": answers, "problems": ["refused"] if problems is None else problems}


def _item(content: str) -> EncodedItem:
    item = crash_writer.item(f"/{content}", content)
    draw = np.random.default_rng(len(content) + sum(content.encode()))
    offsets = np.concatenate([[0], np.cumsum(draw.integers(2, 9, len(item.vectors)))])
    total = int(offsets[-1])
    item_tokens = TokenTable(
        tokens=draw.integers(-127, 128, (total, _WIDTH)).astype(np.int8),
        scales=np.full(total, 1 / 400, np.float32),
        sizes=np.ones(total, np.float32),
        offsets=offsets,
    )
    return EncodedItem(**{**vars(item), "tokens": item_tokens})


def _queries(width: int) -> np.ndarray:
    queries = np.random.default_rng(7).standard_normal((_QUERIES, width)).astype(np.float32)
    rows: np.ndarray = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    return rows


def _search(held: Snapshot, **allowed: Any) -> list[Any]:
    mask = held.allowed(**allowed)
    found = held.search(_queries(crash_writer.DIM), 10, allowed=mask)
    return [[[hit.path, hit.start, hit.score] for hit in hits] for hits in found]


def _moments(held: Snapshot) -> list[Any]:
    query = _queries(crash_writer.DIM)[0]
    films = held.films()
    return [[film.path, *map(float, held.scores(query, film.rows))] for film in films]


def _tokens(held: Snapshot) -> list[Any]:
    rows = held.tokens.best_rows(list(_queries(_WIDTH)[None]), 10)
    chosen = held.live_rows[:10] if rows is None else rows
    table = held.tokens.of_rows(chosen)
    return [chosen.tolist(), table.tokens.tolist(), table.scales.tolist(), table.sizes.tolist()]


_SEARCHES: dict[str, Callable[[Snapshot], list[Any]]] = {
    "all": _search,
    "filtered": lambda held: _search(held, where="width = 64 AND path LIKE '%.1%'"),
    "moments": _moments,
    "tokens": _tokens,
}


def _tried(call: Callable[[], list[Any]]) -> list[Any] | None:
    """What it returns; None where it is refused."""
    try:
        return call()
    except MaxsightError:
        return None


def main() -> None:
    """Answer until the input ends."""
    logging.disable()
    snapshot_tokens.HELD_TOKEN_BYTES = 0
    for line in sys.stdin:
        print(json.dumps(read(Path(line.rstrip("\n")))), flush=True)


if __name__ == "__main__":
    main()
