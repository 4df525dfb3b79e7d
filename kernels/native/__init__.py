"""Compiled arithmetic for the CPU, shared by similarity search and late interaction.

``segment_max_sum`` multiplies packed rows with queries and keeps only the maximum of each segment;
``topk`` scans a database. ``topk_rows``, ``rescore_rows``, ``interact`` and ``score_pairs`` take
NumPy's arrays and need no torch. The C++ beside this file is compiled for several instruction sets
at installation; the best one of the machine is taken at the first call.
Where it could not be compiled, :func:`available` is None and every other function raises.
"""

from __future__ import annotations

import importlib
import logging
from functools import cache
from typing import TYPE_CHECKING, Any

from maxsight.kernels.native import binding

if TYPE_CHECKING:
    from maxsight.kernels.native.late import interact, score_pairs
    from maxsight.kernels.native.rescoring import rescore_rows
    from maxsight.kernels.native.scanning import topk_rows
    from maxsight.kernels.native.search import topk
    from maxsight.kernels.native.segments import segment_max_sum
    from maxsight.kernels.native.tensors import fits

__all__ = [
    "available",
    "fits",
    "interact",
    "is_compiled",
    "rescore_rows",
    "score_pairs",
    "segment_max_sum",
    "topk",
    "topk_rows",
]

# Where a name is; imported when it is asked for, since most need torch.
_PLACES = {
    "late": ("interact", "score_pairs"),
    "rescoring": ("rescore_rows",),
    "scanning": ("topk_rows",),
    "search": ("topk",),
    "segments": ("segment_max_sum",),
    "tensors": ("fits",),
}


def __getattr__(name: str) -> Any:
    for place, names in _PLACES.items():
        if name in names:
            found = getattr(importlib.import_module(f"{__name__}.{place}"), name)
            globals()[name] = found
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def available() -> str | None:
    """The instruction set in use (``avx512_bf16``, ``avx512_vnni``, ``avx2`` or ``portable``).

    None where the library was not compiled: installing without a C++ compiler leaves it out.
    """
    engine = binding.engine()
    return None if engine is None else _name(engine)


def is_compiled() -> bool:
    """Whether there is a library; says once in the log what its absence costs."""
    if available() is None:
        _say_once()
        return False
    return True


@cache
def _say_once() -> None:
    logging.getLogger(__name__).warning(
        "maxsight.kernels.native is not compiled: search runs in NumPy and torch, slower (of "
        "tokens hundreds of times) but with the same answers; install a C++ compiler and install "
        "maxsight again"
    )


@cache
def _name(engine: int) -> str:
    name: bytes = binding.library().maxsight_name(engine)
    return name.decode()
