"""Local intrinsic dimensionality, and what the order of insertion does to a graph.

The recall of HNSW depends on the data's intrinsic dimensionality, and for one graph on the order in
which points are put into it: Elliott and Clark, "The impacts of data, ordering, and intrinsic
dimensionality on recall in hierarchical navigable small worlds" (ICTIR 2024), report differences of
several points between orders, descending local dimensionality being the best of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maxsight.index import faiss_build
from maxsight.index.ann import faiss_calls
from maxsight.index.array_types import Floats, Rows

# Of a local estimate; fewer are noisy, more are not local.
_NEIGHBOURS = 100
_GRAPH_LINKS = 16
_GRAPH_EFFORT = 64
_ASKED = 200


def local_dimensionality(distances: Floats) -> Floats:
    """The maximum-likelihood estimate of each point's local intrinsic dimensionality.

    Levina and Bickel (2004), as Amsaleg et al. (2015) use it: ``-1 / mean(log(r_i / r_k))``.

    Args:
        distances: (n, k) Euclidean distances to the k nearest neighbours, rising, the point itself
            left out.

    Returns:
        (n,) float32; infinite where all neighbours are equally far, 0 where one is at no distance.

    Example:
        >>> round(float(local_dimensionality(np.linspace(0.01, 1, 100, dtype=np.float32)[None])[0]))
        1
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(distances / distances[:, -1:])
        mean = logs.mean(axis=1)
        estimate = np.where(mean < 0, -1 / mean, np.inf)
    return estimate.astype(np.float32)


@dataclass(frozen=True)
class OrderEffect:
    """What intrinsic dimensionality and the order of insertion do to an HNSW graph of a sample.

    Attributes:
        rows: of the sample.
        dimensionality: the median local estimate.
        quartiles: of the local estimates.
        recall: order -> recall@10 of a graph built in it.
    """

    rows: int
    dimensionality: float
    quartiles: tuple[float, float]
    recall: dict[str, float]


def order_effect(sample: Floats, *, seed: int = 0) -> OrderEffect:
    """Build small graphs of a sample in several orders and compare their recall.

    Args:
        sample: (n, D) unit vectors in the order in which they were stored; some 10,000.

    Returns:
        Orders ``stored``, ``shuffled``, ``descending`` and ``ascending`` local dimensionality.
    """
    faiss = faiss_build.load()
    draw = np.random.default_rng(seed)
    asked = np.sort(draw.choice(len(sample), min(_ASKED, len(sample)), replace=False))
    flat = faiss.IndexFlatIP(sample.shape[1])
    flat.add(sample)
    depth = min(_NEIGHBOURS + 1, len(sample))
    scores, nearest = flat.search(sample, depth)
    # Of unit vectors; the first is the point itself.
    distances = np.sqrt(np.maximum(2 - 2 * scores[:, 1:], 1e-12))
    local = local_dimensionality(distances)
    orders = {
        "stored": np.arange(len(sample)),
        "shuffled": draw.permutation(len(sample)),
        "descending": np.argsort(-local, kind="stable"),
        "ascending": np.argsort(local, kind="stable"),
    }
    truth = nearest[asked, :10]
    recall = {name: _graph_recall(sample, order, asked, truth) for name, order in orders.items()}
    low, middle, high = np.percentile(local[np.isfinite(local)], [25, 50, 75]).tolist()
    return OrderEffect(len(sample), middle, (low, high), recall)


def _graph_recall(sample: Floats, order: Rows, asked: Rows, truth: Rows) -> float:
    faiss = faiss_build.load()
    graph = faiss.IndexHNSWFlat(sample.shape[1], _GRAPH_LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.add(np.ascontiguousarray(sample[order]))
    parameters = faiss.SearchParametersHNSW(efSearch=_GRAPH_EFFORT)
    _, near = faiss_calls.search(graph, sample[asked], 10, parameters)
    found = np.where(near >= 0, order[near], -1)
    hits = sum(len(np.intersect1d(a, b)) for a, b in zip(found, truth, strict=True))
    return hits / truth.size
