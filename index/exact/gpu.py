"""Candidates from a GPU: FAISS flat search over float16 copies of the vectors."""

from __future__ import annotations

import logging
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from maxsight.index import faiss_build

# The most neighbours FAISS's GPU search returns.
MAX_FETCH = 2048
# Copying a million vectors to a GPU takes longer than searching them on the CPU a few times, and
# most processes ask one question only.
WARM_UP_QUERIES = 64

_log = logging.getLogger("maxsight.index")


class GpuFlat:
    """Follows an index that only grows, and answers for the rows it was last shown.

    Args:
        index: an empty FAISS index whose ``add`` and ``search`` take float32; by default a flat
            one on GPU 0 that stores float16.
    """

    def __init__(self, dim: int, index: Any = None) -> None:
        self._dim = dim
        self._index = index
        self._asked = 0
        self._broken = False
        # FAISS's GPU indexes are not to be used by two threads at once.
        self._turn = threading.Lock()

    def ready(self, queries: int) -> bool:
        """Whether asking it pays; counts ``queries`` towards that."""
        if self._broken:
            return False
        self._asked += queries
        if self._asked < WARM_UP_QUERIES:
            return False
        return self._index is not None or faiss_build.gpu_count() > 0

    def search(
        self, queries: npt.NDArray[np.float32], fetch: int, blocks: tuple[npt.NDArray[Any], ...]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]] | None:
        """``(scores, rows)``, each (Q, fetch), best first, over at least the rows of ``blocks``.

        None, from then on, if the GPU has no memory for them. Queries are rounded to float16
        there: a score is off by less than ``2^-11 + D * 2^-23`` times the query's norm.
        """
        with self._turn:
            try:
                if self._index is None:
                    self._index = _flat(self._dim)
                self._catch_up(blocks)
                scores, rows = self._index.search(queries, fetch)
            except RuntimeError as error:  # the only class FAISS raises
                self._broken = True
                self._index = None
                reason = str(error).splitlines()[-1]
                _log.warning("searching on the CPU, the GPU refuses: %s", reason)
                return None
        return scores, rows

    def _catch_up(self, blocks: tuple[npt.NDArray[Any], ...]) -> None:
        first = 0
        for block in blocks:
            missing = block[max(0, self._index.ntotal - first) :]
            if len(missing):
                self._index.add(missing.astype(np.float32))
            first += len(block)


def _flat(dim: int) -> Any:
    faiss = faiss_build.load()
    config = faiss.GpuIndexFlatConfig()
    config.useFloat16 = True
    config.device = 0
    resources = faiss.StandardGpuResources()
    index = faiss.GpuIndexFlatIP(resources, dim, config)
    index.referenced_objects = [resources]
    return index
