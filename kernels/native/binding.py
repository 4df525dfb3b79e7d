"""The compiled library through ctypes: its structs, its functions, its instruction sets.

Calls release Python's lock, so threads run tasks side by side.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from maxsight.errors import BackendError

P, N = ctypes.c_void_p, ctypes.c_int64


def _fields(**kinds: type) -> list[tuple[str, type]]:
    return list(kinds.items())


# The structs are those of task.h, field by field.


class Matrix(ctypes.Structure):
    _fields_ = _fields(data=P, scale=P, allowed=P, allowed_stride=N, kind=N, dim=N)


class Packing(ctypes.Structure):
    _fields_ = _fields(
        source=P, source_kind=N, kind=N, count=N, dim=N, packed=P, scale=P, error=P, norm=P
    )


class Segments(ctypes.Structure):
    _fields_ = [
        *_fields(rows=Matrix, offsets=P, segments=P, first=N, last=N, packed=P, kind=N, queries=N),
        *_fields(group_offsets=P, groups=N, weight=P, output=P, places=P, places_stride=N),
        *_fields(failed=N),
    ]


class Scan(ctypes.Structure):
    _fields_ = [
        *_fields(rows=Matrix, first=N, last=N, queries=P, count=N, stride=N, candidates=P, width=N),
        *_fields(packed=P, kind=N, query_scale=P, query_error=P, query_norm=P),
        *_fields(k=N, scores=P, indices=P, rescored=N, failed=N),
    ]


# Those of late_task.h.
class Coded(ctypes.Structure):
    _fields_ = _fields(
        ids=P, id_bytes=N, centroids=P, centroid_count=N, data=P, bits=N, levels=P, scale=P,
        offsets=P, documents=N, dim=N,
    )  # fmt: skip


class Interaction(ctypes.Structure):
    _fields_ = [
        *_fields(
            coded=Coded, queries=P, query_offsets=P, first=N, last=N, allowed=P, allowed_stride=N
        ),
        *_fields(rows=P, width=N, keep=N, kept=P, failed=N),
    ]


class Pairs(ctypes.Structure):
    _fields_ = [
        *_fields(
            coded=Coded, queries=P, query_offsets=P, groups=N, pair_queries=P, pair_documents=P
        ),
        *_fields(first=N, last=N, fine=N, scores=P, failed=N),
    ]


# Kinds of numbers, as task.h numbers them.
FLOAT32, BFLOAT16, FLOAT16, INT8 = range(4)

_Task = Segments | Scan | Interaction | Pairs


def run(function: Any, tasks: Sequence[_Task]) -> None:
    """A thread a task; ``function`` takes the engine and a task.

    The threads are the library's own: starting Python's takes a tenth of a short search.
    """
    places = (ctypes.c_void_p * len(tasks))(*map(ctypes.addressof, tasks))
    called = ctypes.cast(function, ctypes.c_void_p)
    library().maxsight_run(called, engine(), places, len(tasks))
    if any(task.failed for task in tasks):
        raise MemoryError("no memory for what the native code needs beside its arguments")


@cache
def find_library() -> ctypes.CDLL | None:
    found = sorted(Path(__file__).parent.glob("_engines*.so"))
    if not found:
        return None
    library = ctypes.CDLL(os.fspath(found[0]))
    tasks = "pack reduce scan interact score_pairs"
    signatures: dict[str, tuple[list[Any], Any]] = {
        "engine": ([N], P),
        "name": ([P], ctypes.c_char_p),
        "lanes": ([P], N),
        "product_kind": ([P, N], N),
        "fits": ([P, N, N, N], N),
        "run": ([P, P, ctypes.POINTER(P), N], None),
        **dict.fromkeys(tasks.split(), ([P, P], None)),
    }
    for name, (arguments, result) in signatures.items():
        function = getattr(library, f"maxsight_{name}")
        function.argtypes, function.restype = arguments, result
    return library


def library() -> ctypes.CDLL:
    found = find_library()
    if found is None:
        raise BackendError(
            "maxsight.kernels.native was not compiled: install a C++ compiler (gcc 11 or newer) "
            "and install maxsight again, or use the functions in reference.py"
        )
    return found


@cache
def engine() -> int | None:
    """The best engine of this machine, or None without the library."""
    found = find_library()
    if found is None:
        return None
    best: int = found.maxsight_engine(0)
    return best
