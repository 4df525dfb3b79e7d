"""The border to FAISS: what its searches and its memory hold leaves here with a type."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from maxsight.index import faiss_build
from maxsight.index.array_types import Floats, Rows


def search(index: Any, queries: Floats, k: int, parameters: Any = None) -> tuple[Floats, Rows]:
    """``(scores, rows)``, each (Q, k), of any FAISS index; rows of -1 where there are fewer."""
    scores, rows = index.search(queries, k, params=parameters)
    return scores, rows


def search_lists(
    core: Any, queries: Floats, k: int, near: Floats, lists: Rows, chosen: Any
) -> tuple[Floats, Rows]:
    """Search the lists named for each query, nothing else.

    Args:
        near, lists: (Q, P) scores and numbers of the lists; -1 is none.
        chosen: a selector, or None.
    """
    faiss = faiss_build.load()
    scores = np.empty((len(queries), k), dtype=np.float32)
    rows = np.empty((len(queries), k), dtype=np.int64)
    # The Python face takes no parameters here. All is kept by name while addresses are in use.
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    near, lists = np.ascontiguousarray(near), np.ascontiguousarray(lists)
    core.search_preassigned_c(
        len(queries),
        faiss.swig_ptr(queries),
        k,
        faiss.swig_ptr(lists),
        faiss.swig_ptr(near),
        faiss.swig_ptr(scores),
        faiss.swig_ptr(rows),
        False,
        faiss.SearchParametersIVF(nprobe=lists.shape[1], sel=chosen),
    )
    return scores, rows


def held(address: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """The numbers at an address of FAISS's: a view, good until rows are added."""
    return np.asarray(faiss_build.load().rev_swig_ptr(address, math.prod(shape))).reshape(shape)
