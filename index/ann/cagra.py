"""CAGRA: the graph that a GPU makes of all rows at once, as FAISS leaves it to a processor.

There it is an ``IndexHNSWCagra`` over float32: every row has its links on the bottom level, and of
the few rows of the levels above, which give a walk its start, FAISS links each while it copies. It
can be searched, saved, and added to, as one to which all rows were added on the processor.

FAISS can also leave float16 vectors, or the bottom level alone. Neither can be added to, and a walk
then starts from rows drawn by lot, differently at every search: neither is used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from maxsight.errors import UsageError
from maxsight.index import faiss_build
from maxsight.index.ann import faiss_calls
from maxsight.index.array_types import Floats

_LEAST_DEGREE, _MOST_DEGREE = 8, 256


def graph(dim: int, degree: int) -> Any:
    """An empty one by inner product.

    Args:
        degree: links of a row, all of them in use only where a GPU made it.

    Raises:
        UsageError: not an even number that cuVS and FAISS take.
    """
    if degree % 2 or not _LEAST_DEGREE <= degree <= _MOST_DEGREE:
        raise UsageError(
            f"'CAGRA{degree}': after CAGRA stand the links of a row, an even number from "
            f"{_LEAST_DEGREE} to {_MOST_DEGREE}; say CAGRA64"
        )
    faiss = faiss_build.load()
    index = faiss.IndexHNSWCagra(dim, degree // 2, faiss.METRIC_INNER_PRODUCT)
    # So many candidates for the links of a row that is inserted: of fewer not all could be filled.
    index.hnsw.efConstruction = max(index.hnsw.efConstruction, degree)
    return index


def degree(index: Any) -> int:
    """Most links of a row on the bottom level."""
    return int(index.hnsw.nb_neighbors(0))


def links(index: Any) -> npt.NDArray[np.int32]:
    """(rows, degree) of the bottom level; -1 where a row has fewer."""
    faiss = faiss_build.load()
    first = faiss.vector_to_array(index.hnsw.offsets)[: index.ntotal].astype(np.int64)
    neighbors = index.hnsw.neighbors
    held = faiss_calls.held(neighbors.data(), (neighbors.size(),))
    return np.asarray(held[first[:, None] + np.arange(degree(index))], dtype=np.int32)


def is_full(index: Any) -> bool:
    """Whether every row has all its links: a GPU reads no other graph."""
    return bool((links(index) >= 0).all())


def rows(index: Any) -> Floats:
    """(rows, d) vectors; a view, good until rows are added."""
    stored = faiss_build.load().downcast_index(index.storage)
    return faiss_calls.held(stored.get_xb(), (index.ntotal, index.d))
