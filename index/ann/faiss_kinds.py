"""What a FAISS factory string makes: which dial it has, whether it knows masks, what it weighs."""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from maxsight.errors import UsageError
from maxsight.index import faiss_build
from maxsight.index.ann import cagra, faiss_calls
from maxsight.index.array_types import Floats, Mask

_EXAMPLES = '"IVF1024,PQ64x4fs", "IVF1024,Flat", "HNSW32,SQ8", "OPQ64,IVF1024,PQ64x4fsr", "SQ8"'
# An id beside each code of an inverted list.
_ID_BYTES = 8


class Dial(Enum):
    """What makes a search look harder: lists visited, candidates kept by a graph, or nothing."""

    LISTS = "nprobe"
    GRAPH = "efSearch"
    NONE = ""


def factory(spec: str, dim: int) -> Any:
    """The untrained FAISS index of a factory string, by inner product.

    ``CAGRA64`` is a word of ours (:mod:`maxsight.index.ann.cagra`).

    Raises:
        UsageError: not a factory string, not one for that width, or one that cannot serve here.
    """
    faiss = faiss_build.load()
    if match := re.fullmatch(r"CAGRA([0-9]+)", spec):
        return cagra.graph(dim, int(match[1]))
    try:
        index = faiss.index_factory(dim, spec, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise UsageError(
            f"{spec!r} makes no index of {dim} dimensions: {reason(error)}; FAISS factory strings "
            f"are, for example, {_EXAMPLES}"
        ) from None
    if isinstance(index, faiss.IndexRefine):
        raise UsageError(
            f"{spec!r}: searches score again by themselves; write +int8 after the rest"
        )
    if isinstance(core_of(index), faiss.IndexNSG | faiss.IndexNNDescent):
        raise UsageError(f"{spec!r}: FAISS cannot add rows to such a graph later; HNSW grows")
    if isinstance(index, faiss.IndexIDMap):
        raise UsageError(f"{spec!r}: rows are numbered by the library; leave the IDMap away")
    _quieten(core_of(index))
    return index


def reason(error: Exception) -> str:
    """A FAISS error without its source file."""
    last = (str(error).strip() or type(error).__name__).splitlines()[-1]
    return re.sub(r"^(Error in .*? at \S+:\d+: )?(.*failed: )?", "", last) or last


def core_of(index: Any) -> Any:
    """The index behind rotations and the like: the one with the dial."""
    faiss = faiss_build.load()
    return (
        faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index
    )


def dial_of(core: Any) -> Dial:
    faiss = faiss_build.load()
    if isinstance(core, faiss.IndexIVF):
        return Dial.LISTS
    return Dial.GRAPH if isinstance(core, faiss.IndexHNSW) else Dial.NONE


def knows_masks(core: Any) -> bool:
    """Whether FAISS's search of it leaves out rows by itself."""
    faiss = faiss_build.load()
    if isinstance(core, faiss.IndexIVF | faiss.IndexHNSW | faiss.IndexFlat):
        return True
    return isinstance(core, faiss.IndexScalarQuantizer | faiss.IndexRaBitQ)


def transformed(index: Any, queries: Floats) -> Floats:
    """``queries`` as the core sees them."""
    faiss = faiss_build.load()
    if isinstance(index, faiss.IndexPreTransform):
        for step in range(index.chain.size()):
            queries = faiss.downcast_VectorTransform(index.chain.at(step)).apply(queries)
    return queries


def selector(allowed: Mask) -> Any:
    return faiss_build.load().IDSelectorBitmap(np.packbits(allowed, bitorder="little"))


def centroids(core: Any) -> Floats | None:
    """(nlist, d) of a trained inverted file whose lists are in no graph; else None."""
    faiss = faiss_build.load()
    quantizer = faiss.downcast_index(core.quantizer)
    if not isinstance(quantizer, faiss.IndexFlat) or quantizer.ntotal != core.nlist:
        return None
    return faiss_calls.held(quantizer.get_xb(), (core.nlist, core.d))


def list_sizes(core: Any) -> npt.NDArray[np.int64]:
    """(nlist,) rows in each inverted list."""
    lists = core.invlists
    return np.array([lists.list_size(number) for number in range(core.nlist)], dtype=np.int64)


def owners(core: Any, rows: int) -> npt.NDArray[np.int32]:
    """(rows,) the inverted list that holds each row."""
    owner = np.empty(rows, dtype=np.int32)
    for number, size in enumerate(list_sizes(core).tolist()):
        if size:
            owner[faiss_calls.held(core.invlists.get_ids(number), (size,))] = number
    return owner


def code_bytes(core: Any) -> int:
    """Of one row's code."""
    faiss = faiss_build.load()
    if isinstance(core, faiss.IndexHNSW):
        core = faiss.downcast_index(core.storage)
    return int(core.sa_code_size())


def held_bytes(core: Any, rows: int) -> int:
    """Memory of ``rows`` rows: codes, ids or links, and the centroids."""
    faiss = faiss_build.load()
    dial = dial_of(core)
    total = rows * code_bytes(core)
    if dial is Dial.LISTS:
        # Centroids, and again as int8 numbers with a factor.
        total += rows * _ID_BYTES + 4 * core.nlist * core.d + core.nlist * (core.d + 4)
        if isinstance(core, faiss.IndexIVFFastScan):
            # Their lists take powers of two: of what is taken a third is empty, as a rule.
            total += rows * code_bytes(core) // 2
    if dial is Dial.GRAPH:
        # 2 M links at the bottom, as FAISS lays them out, M on each level above, which one row in
        # M reaches; a level and an offset a row.
        links = core.hnsw.nb_neighbors(1)
        total += int(rows * (4 * (core.hnsw.nb_neighbors(0) + links / max(1, links - 1)) + 4 + 8))
    return total


def _quieten(core: Any) -> None:
    """FAISS prints a warning for samples below 39 rows a centroid; ours are chosen on purpose."""
    faiss = faiss_build.load()
    parts = [core]
    if isinstance(core, faiss.IndexHNSW):
        parts.append(faiss.downcast_index(core.storage))
    for part in parts:
        if hasattr(part, "cp"):
            part.cp.min_points_per_centroid = 1
        if hasattr(part, "pq"):
            part.pq.cp.min_points_per_centroid = 1
