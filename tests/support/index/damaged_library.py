"""Ways to damage a library of known contents, and to find all of it again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maxsight.index.records import Changes
from maxsight.index.store import Store

CONTENTS = {
    f"/{name}": f"{name}{star}" for name, star in zip("abcdef", ["", "*2"] * 3, strict=True)
}


def expected(without: set[str] = frozenset()) -> dict[int, tuple[str, str]]:  # type: ignore[assignment]
    held = CONTENTS | {"/a": "a2"}
    return {i: (path, held[path]) for i, path in enumerate(CONTENTS) if path not in without}


def flip(file: Path, offset: int = -1) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2 if offset < 0 else offset] ^= 0x10
    file.write_bytes(bytes(content))


def index_again(library: Path, samples: Any) -> None:
    """What the next ingestion does: read the files that are not in the library, or not as is."""
    with Store.open(library, write=True) as store:
        held = CONTENTS | {"/a": "a2"}
        known = store.known()
        stale = [
            (i.item_id, held.get(p)) for p, i in known.items() if i.content_hash != held.get(p)
        ]
        replaced = [(i, samples.item("/a", content)) for i, content in stale if content]
        removed = [item_id for item_id, content in stale if not content]
        missing = [samples.item(*pair) for pair in held.items() if pair[0] not in known]
        store.apply(Changes(added=missing, replaced=replaced, removed=removed))
        assert {path: item.content_hash for path, item in store.known().items()} == held
        snapshot = store.snapshot()
        samples.check(
            snapshot,
            {item.item_id: (path, item.content_hash) for path, item in store.known().items()},
        )
        assert snapshot.search(samples.item("/f", held["/f"]).vectors[:1], 1)[0][0].path == "/f"


def every_file(library: Path) -> Iterator[Path]:
    return (file for file in sorted(library.rglob("*")) if file.is_file())
