"""Tile sizes of the Triton kernels, by architecture and shape.

``tiles.json`` ships with the package; ``maxsight tune`` measures on a real GPU and writes a file of
the same form into the cache folder, whose entries go first.

    {"maxsim.score/bfloat16": {"90": {"long": {"blocks": {"ROWS": 64}, "warps": 4, "stages": 3}}}}
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from maxsight import settings, strict_json
from maxsight.errors import BackendError

ARCHITECTURES = (80, 90, 100)
SHIPPED = Path(__file__).with_name("tiles.json")

# Of `recorded` and `forced`, which measurements use.
_listeners: list[set[tuple[str, str]]] = []
_forced: dict[tuple[str, str], Tile] = {}


@dataclass(frozen=True)
class Tile:
    """How a kernel cuts its work.

    Attributes:
        blocks: its ``tl.constexpr`` block sizes, by argument name.
        warps, stages: as Triton takes them.
    """

    blocks: Mapping[str, int]
    warps: int
    stages: int


def tile(kernel: str, *, architecture: int, bucket: str) -> Tile:
    """The tile of a kernel.

    Args:
        kernel: operation, kernel and dtype, say ``maxsim.score/bfloat16``.
        architecture: compute capability, say 90. One that is not in the table takes the next lower.
        bucket: the shape's class; each ``gpu.py`` defines its own.

    Raises:
        BackendError: the table has no such kernel or bucket, or no architecture so low.
    """
    for asked in _listeners:
        asked.add((kernel, bucket))
    if (kernel, bucket) in _forced:
        return _forced[kernel, bucket]
    return _found(kernel, architecture, bucket, SHIPPED, os.environ.get("MAXSIGHT_CACHE"))


@cache
def _found(
    kernel: str, architecture: int, bucket: str, shipped: Path, cache_folder: str | None
) -> Tile:
    """The tile in the files, kept: a call asks for several, and a look at a file costs 10 us.

    Args:
        cache_folder: what ``tuned_path`` depends on.
    """
    for path in (tuned_path(), shipped):
        rows = _table(path).get(kernel, {})
        for known in sorted(rows, key=int, reverse=True):
            if int(known) <= architecture and bucket in rows[known]:
                return _tile(rows[known][bucket])
    raise BackendError(
        f"no tile for {kernel}, {bucket}, on sm_{architecture}: Triton kernels need sm_80 "
        "(NVIDIA A100) or newer; set MAXSIGHT_KERNELS=reference to compute without them"
    )


def shipped(kernel: str) -> Iterator[tuple[int, str, Tile]]:
    """Every tile of a kernel in the package: architecture, bucket, tile."""
    for architecture, buckets in _table(SHIPPED)[kernel].items():
        for bucket, row in buckets.items():
            yield int(architecture), bucket, _tile(row)


@contextmanager
def recorded() -> Iterator[set[tuple[str, str]]]:
    """The kernels and buckets whose tiles are asked for meanwhile."""
    asked: set[tuple[str, str]] = set()
    _listeners.append(asked)
    try:
        yield asked
    finally:
        _listeners.remove(asked)


@contextmanager
def forced(kernel: str, bucket: str, tile: Tile) -> Iterator[None]:
    """Give a kernel this tile meanwhile, whatever the tables say."""
    _forced[kernel, bucket] = tile
    try:
        yield
    finally:
        del _forced[kernel, bucket]


def tuned_path() -> Path:
    """Where ``maxsight tune`` writes."""
    return settings.cache_directory() / "tiles.json"


def forget() -> None:
    """Read the files of tiles again: for who has written one."""
    _table.cache_clear()
    _found.cache_clear()


@cache
def _table(path: Path) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    """A file of tiles, kept."""
    return read(path) if path.exists() else {}


def read(path: Path) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    """A file of tiles: kernel -> architecture -> bucket -> tile.

    Raises:
        BackendError: it holds something else, or a tile that no GPU could take.
    """
    try:
        table = strict_json.read(path)
        for kernel, rows in table.items():
            for architecture, buckets in rows.items():
                int(architecture)
                for bucket, row in buckets.items():
                    if not _is_tile(row):
                        raise ValueError(f"{kernel}, {architecture}, {bucket}: {repr(row)[:120]}")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise BackendError(
            f"{path} is no table of tiles ({error}): delete it, or `maxsight tune` on a GPU writes "
            "it anew"
        ) from error
    return table


def _is_tile(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and set(row) == {"blocks", "warps", "stages"}
        and isinstance(row["blocks"], dict)
        and all(_is_whole(size, 0, 1 << 16) for size in row["blocks"].values())
        and _is_whole(row["warps"], 1, 32)
        and _is_whole(row["stages"], 1, 16)
    )


def _is_whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _tile(row: Mapping[str, Any]) -> Tile:
    return Tile(row["blocks"], row["warps"], row["stages"])
