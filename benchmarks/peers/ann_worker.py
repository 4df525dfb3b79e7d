"""Other libraries' approximate indexes, answering over a pipe. Run by their environments' own
interpreters.

Usage: python ann_worker.py FOLDER LIBRARY OPTION=NUMBER...   with vectors.npy (N, D) float16 and
queries.npy (Q, D) float32 inside the folder; the options are the library's own, of making an index
by inner product. A request [count, at once, k, probes, shortlist] asks the first ``count`` queries,
so many at once, on one thread; the answer's seconds are of the processor, the median of its parts.
"""

from __future__ import annotations

import importlib.metadata
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

# queries (n, D), k, probes, shortlist -> rows (n, k), best first, and scores, however they are told
Search = Callable[[np.ndarray, int, int, int], tuple[Any, Any]]
# Writes all that a search needs into a folder.
Save = Callable[[pathlib.Path], object]


def main(folder: pathlib.Path, library: str, options: dict[str, int]) -> None:
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    queries = np.load(folder / "queries.npy")
    start = time.process_time()
    search, save = LIBRARIES[library](vectors, **options)
    setup = time.process_time() - start
    saved = folder / "saved"
    saved.mkdir()
    save(saved)
    files = [file for file in saved.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    for file in files:
        file.unlink()
    say({"version": importlib.metadata.version(library), "setup": setup, "bytes": size})
    for line in sys.stdin:
        count, at_once, *rest = json.loads(line)
        seconds, ids, scores = [], [], []
        for first in range(0, count, at_once):
            part = queries[first : min(count, first + at_once)]
            start = time.process_time()
            rows, found = search(part, *rest)
            seconds.append(time.process_time() - start)
            ids.append(np.asarray(rows).ravel())
            scores.append(np.asarray(found, dtype=np.float64).ravel())
        say(
            {
                "seconds": statistics.median(seconds),
                "ids": np.concatenate(ids).tolist(),
                "scores": np.concatenate(scores).tolist(),
            }
        )


def hnswlib(vectors: np.ndarray, **options: int) -> tuple[Search, Save]:
    """The graph over float32."""
    import hnswlib  # type: ignore[import-untyped]

    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), **options)
    index.add_items(vectors.astype(np.float32), num_threads=1)

    def search(queries: np.ndarray, k: int, probes: int, _: int) -> tuple[Any, Any]:
        index.set_ef(probes)
        rows, distances = index.knn_query(queries, k, num_threads=1)
        return rows, 1 - distances

    return search, lambda folder: index.save_index(str(folder / "index"))


def usearch(vectors: np.ndarray, **options: int) -> tuple[Search, Save]:
    """The graph over bfloat16."""
    from usearch.index import Index  # type: ignore[import-not-found]

    index = Index(ndim=vectors.shape[1], metric="ip", dtype="bf16", **options)
    index.add(np.arange(len(vectors)), vectors.astype(np.float32), threads=1)

    def search(queries: np.ndarray, k: int, probes: int, _: int) -> tuple[Any, Any]:
        index.expansion_search = probes
        found = index.search(queries if len(queries) > 1 else queries[0], k, threads=1)
        return found.keys, 1 - found.distances

    return search, lambda folder: index.save(str(folder / "index"))


def scalable_vs(vectors: np.ndarray, **options: int) -> tuple[Search, Save]:
    """SVS: Vamana over float16; LVQ and LeanVec end the process where the processor is AMD's."""
    import svs  # type: ignore[import-not-found]

    parameters = svs.VamanaBuildParameters(**options)
    index = svs.Vamana.build(parameters, np.asarray(vectors), svs.DistanceType.MIP, num_threads=1)

    def search(queries: np.ndarray, k: int, probes: int, _: int) -> tuple[Any, Any]:
        index.search_window_size = probes
        rows, scores = index.search(queries.astype(np.float16), k)
        return rows, scores

    def save(folder: pathlib.Path) -> None:
        index.save(*(str(folder / part) for part in ("config", "graph", "data")))

    return search, save


def scann_core(vectors: np.ndarray, **options: int) -> tuple[Search, Save]:
    """ScaNN's lists, 4-bit codes and bfloat16 rows: as it chooses by itself, or with ``block``
    numbers to a code and 4 sqrt(N) spherical lists."""
    from scann import scann_ops_pybind  # type: ignore[import-not-found]
    from scann.scann_ops.py.scann_builder import ReorderType  # type: ignore[import-not-found]

    rows = ReorderType.BFLOAT16
    builder = scann_ops_pybind.builder(vectors.astype(np.float32), 10, "dot_product")
    builder = builder.set_n_training_threads(1)
    if options:
        leaves = 2 ** round(np.log2(4 * len(vectors) ** 0.5))
        builder = builder.tree(leaves, leaves // 10, spherical=True)
        builder = builder.score_ah(options["block"]).reorder(100, quantize=rows)
    else:
        builder = builder.autopilot(quantize=rows)
    index = builder.build()
    index.set_num_threads(1)

    def search(queries: np.ndarray, k: int, probes: int, shortlist: int) -> tuple[Any, Any]:
        if len(queries) == 1:
            found = index.search(queries[0], k, shortlist, probes)
        else:
            found = index.search_batched(queries, k, shortlist, probes)
        return found[0], found[1]

    def save(folder: pathlib.Path) -> None:
        index.serialize(str(folder))

    return search, save


LIBRARIES: dict[str, Callable[..., tuple[Search, Save]]] = {
    "hnswlib": hnswlib,
    "usearch": usearch,
    "scalable-vs": scalable_vs,
    "scann-core": scann_core,
}


def say(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    directory, name, *given = sys.argv[1:]
    pairs = (option.split("=") for option in given)
    main(pathlib.Path(directory), name, {key: int(value) for key, value in pairs})
