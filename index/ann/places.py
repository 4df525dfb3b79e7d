"""Where the lists of an inverted file are: a direction each, as int8 numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from maxsight.index import faiss_build
from maxsight.index.ann.contract import Floats, Rows
from maxsight.kernels.native import binding
from maxsight.kernels.native.scanning import topk_rows

_LARGEST = 127


class Places:
    """Lists 0, 1, ... with a direction of width p each.

    Rounding to int8 changes the order of lists by little, and both rows and queries are given
    theirs by the same numbers.

    Args:
        directions: (n, p), of norm 1.
    """

    def __init__(self, directions: Floats) -> None:
        scales = np.abs(directions).max(axis=1, initial=0) / _LARGEST
        self._scales: Floats = np.where(scales > 0, scales, 1).astype(np.float32)
        self._codes: npt.NDArray[np.int8] = np.rint(directions / self._scales[:, None]).astype(
            np.int8
        )

    def __len__(self) -> int:
        return len(self._codes)

    def nearest(self, vectors: Floats, width: int) -> tuple[Floats, Rows]:
        """``(scores, lists)``, each (n, width), of the largest products with (n, p), best first."""
        faiss = faiss_build.load()
        if binding.find_library() is not None:
            threads = faiss.omp_get_max_threads()
            return topk_rows(vectors, self._codes, self._scales, width, threads=threads)
        found: tuple[Floats, Rows] = faiss.knn(
            vectors, self.directions(), width, faiss.METRIC_INNER_PRODUCT
        )
        return found

    def directions(self) -> Floats:
        """(n, p) as they were rounded; ``Places`` of these are the same."""
        return self._codes * self._scales[:, None]

    def bytes(self) -> int:
        """Memory it holds."""
        return self._codes.nbytes + self._scales.nbytes
