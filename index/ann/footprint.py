"""What an index will take, before anything is made: the formulas of docs/indexes.md."""

from __future__ import annotations

from dataclasses import dataclass

from maxsight.index.ann.contract import WIDENED_ROWS, VectorIndex

# What k-means, FAISS's buffers and the allocator take besides.
_BESIDES = 16 * 2**20
# Working memory of a search, unless told otherwise.
_WORK = 128 * 2**20


@dataclass(frozen=True)
class Footprint:
    """Bytes.

    Attributes:
        memory: held between searches.
        disk: of the saved index.
        build: of memory, while it is made.
        search: of memory, while a search runs.
        sample_rows: rows to train on.
    """

    memory: int
    disk: int
    build: int
    search: int
    sample_rows: int


def of(index: VectorIndex | None, rows: int, dim: int) -> Footprint:
    """What an index takes once it holds so many rows.

    Args:
        index: made for D, empty or not. None: no index, all vectors in memory.
    """
    if index is None:
        held = 2 * dim * rows
        return Footprint(held, 0, 0, held + _WORK, 0)
    held = index.bytes_for(rows)
    sample = index.sample_rows(rows)
    return Footprint(
        memory=held,
        disk=held,
        # What is added at a time is there as float16 and float32.
        build=held + 4 * dim * sample + 6 * dim * min(rows, WIDENED_ROWS) + _BESIDES,
        # For a filter the list of each row is noted.
        search=held + 4 * rows + _WORK,
        sample_rows=sample,
    )
