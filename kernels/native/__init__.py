"""Compiled arithmetic for the CPU, shared by similarity search and late interaction.

``segment_max`` and ``segment_max_sum`` multiply packed rows with queries and keep only the maximum
of each segment; ``topk`` and ``above`` scan a database, ``rescore`` scores some of its rows;
``dither``, ``gram_bound``, ``prepare`` and ``screened_topk`` are what a MaxSim screen needs. The
C++ beside this file is compiled for several instruction sets at installation; the best one of the
machine is taken at the first call.
Where it could not be compiled, :func:`available` is None and every other function raises.
"""

from __future__ import annotations

from maxsight.kernels.native import binding
from maxsight.kernels.native.rounding import dither, gram_bound
from maxsight.kernels.native.screening import Coarse, Prepared, prepare, screened_topk
from maxsight.kernels.native.search import above, rescore, topk
from maxsight.kernels.native.segments import segment_max, segment_max_sum
from maxsight.kernels.native.tensors import CodedRows, multiplies

__all__ = [
    "Coarse",
    "CodedRows",
    "Prepared",
    "above",
    "available",
    "dither",
    "gram_bound",
    "multiplies",
    "prepare",
    "rescore",
    "screened_topk",
    "segment_max",
    "segment_max_sum",
    "topk",
]


def available() -> str | None:
    """The instruction set in use (``avx512_bf16``, ``avx512_vnni``, ``avx2`` or ``portable``).

    None where the library was not compiled: installing without a C++ compiler leaves it out.
    """
    engine = binding.engine()
    if engine is None:
        return None
    name: bytes = binding.library().maxsight_name(engine)
    return name.decode()
