"""Similarity and top-k: which rows of a database are nearest to each query.

``topk`` is the plain torch truth that tests and benchmarks compare with.
"""

from maxsight.kernels.similarity.reference import topk

__all__ = ["topk"]
