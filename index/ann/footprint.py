"""What an index will take, before anything is made: the formulas of docs/indexes.md."""

from __future__ import annotations

from dataclasses import dataclass

from maxsight.index.ann.contract import VectorIndex
from maxsight.index.ann.faiss_index import FaissIndex
from maxsight.index.ann.gpu_index import GpuIndex
from maxsight.index.ann.int8_rows import Int8Rows
from maxsight.index.ann.leanvec import LeanVec
from maxsight.index.ann.refined import Refined

# What k-means is given to place each centroid.
ROWS_A_LIST = 64
_LEAST_SAMPLE = 20_000
# Rows that are added at a time, as float16 and float32.
_ADDED_ROWS = 16_384
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
    held = held_bytes(index, rows)
    sample = sample_rows(index, rows)
    return Footprint(
        memory=held,
        disk=held,
        build=held + 4 * dim * sample + 6 * dim * min(rows, _ADDED_ROWS) + _BESIDES,
        # For a filter the list of each row is noted.
        search=held + 4 * rows + _WORK,
        sample_rows=sample,
    )


def held_bytes(index: VectorIndex, rows: int) -> int:
    """Memory of so many rows in an index."""
    if isinstance(index, Refined):
        return held_bytes(index.inner, rows) + Int8Rows(index.dim).bytes_for(rows)
    if isinstance(index, LeanVec):
        return held_bytes(index.inner, rows) + 8 * index.dim * index.inner.dim
    if isinstance(index, FaissIndex | GpuIndex):
        return index.bytes_for(rows)
    raise TypeError(f"no formula for a {type(index).__name__}")


def innermost(index: VectorIndex) -> VectorIndex:
    """The one that finds rows, behind what ranks them and what reduces them."""
    while isinstance(index, Refined | LeanVec):
        index = index.inner
    return index


def sample_rows(index: VectorIndex, rows: int) -> int:
    """How many rows training needs: enough for each centroid, all if there are fewer."""
    index = innermost(index)
    lists = index.lists if isinstance(index, FaissIndex | GpuIndex) else 0
    return min(rows, max(_LEAST_SAMPLE, ROWS_A_LIST * lists))
