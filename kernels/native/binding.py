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

# The structs are those of task.h, field by field.


class Rows(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("allowed", ctypes.c_void_p),
        ("allowed_stride", ctypes.c_int64),
        ("kind", ctypes.c_int64),
        ("dim", ctypes.c_int64),
        ("sums", ctypes.c_void_p),
        ("rise", ctypes.c_float),
        ("ids", ctypes.c_void_p),
        ("centroids", ctypes.c_void_p),
        ("centroid_count", ctypes.c_int64),
        ("weights", ctypes.c_void_p),
        ("bits", ctypes.c_int64),
        ("normalize", ctypes.c_int64),
    )


class Packing(ctypes.Structure):
    _fields_ = (
        ("source", ctypes.c_void_p),
        ("source_kind", ctypes.c_int64),
        ("kind", ctypes.c_int64),
        ("count", ctypes.c_int64),
        ("dim", ctypes.c_int64),
        ("packed", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("error", ctypes.c_void_p),
        ("norm", ctypes.c_void_p),
    )


class Segments(ctypes.Structure):
    _fields_ = (
        ("rows", Rows),
        ("offsets", ctypes.c_void_p),
        ("segments", ctypes.c_void_p),
        ("first", ctypes.c_int64),
        ("last", ctypes.c_int64),
        ("packed", ctypes.c_void_p),
        ("kind", ctypes.c_int64),
        ("queries", ctypes.c_int64),
        ("group_offsets", ctypes.c_void_p),
        ("groups", ctypes.c_int64),
        ("weight", ctypes.c_void_p),
        ("output", ctypes.c_void_p),
        ("places", ctypes.c_void_p),
        ("places_stride", ctypes.c_int64),
        ("failed", ctypes.c_int64),
    )


class Dithering(ctypes.Structure):
    _fields_ = (
        ("rows", Rows),
        ("first", ctypes.c_int64),
        ("last", ctypes.c_int64),
        ("seed", ctypes.c_uint64),
        ("values", ctypes.c_void_p),
        ("step", ctypes.c_void_p),
        ("norm", ctypes.c_void_p),
        ("failed", ctypes.c_int64),
    )


class Spectra(ctypes.Structure):
    _fields_ = (
        ("rows", Rows),
        ("offsets", ctypes.c_void_p),
        ("groups", ctypes.c_int64),
        ("bound", ctypes.c_void_p),
        ("failed", ctypes.c_int64),
    )


class Screen(ctypes.Structure):
    _fields_ = (
        ("rows", Rows),
        ("offsets", ctypes.c_void_p),
        ("documents", ctypes.c_int64),
        ("step", ctypes.c_void_p),
        ("length", ctypes.c_void_p),
    )


class Preparation(ctypes.Structure):
    _fields_ = (
        ("dithering", Dithering),
        ("offsets", ctypes.c_void_p),
        ("groups", ctypes.c_int64),
        ("screen", Screen),
        ("certainty", ctypes.c_double),
        ("spread", ctypes.c_void_p),
        ("margin", ctypes.c_void_p),
        ("rounding", ctypes.c_void_p),
        ("rise", ctypes.c_float),
        ("failed", ctypes.c_int64),
    )


class Search(ctypes.Structure):
    _fields_ = (
        ("queries", Rows),
        ("query_offsets", ctypes.c_void_p),
        ("groups", ctypes.c_int64),
        ("rows", Rows),
        ("screen", Screen),
        ("allowed", ctypes.c_void_p),
        ("allowed_stride", ctypes.c_int64),
        ("seed", ctypes.c_uint64),
        ("certainty", ctypes.c_double),
        ("threads", ctypes.c_int64),
        ("k", ctypes.c_int64),
        ("scores", ctypes.c_void_p),
        ("indices", ctypes.c_void_p),
        ("failed", ctypes.c_int64),
    )


class Scan(ctypes.Structure):
    _fields_ = (
        ("rows", Rows),
        ("first", ctypes.c_int64),
        ("last", ctypes.c_int64),
        ("queries", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("stride", ctypes.c_int64),
        ("candidates", ctypes.c_void_p),
        ("width", ctypes.c_int64),
        ("packed", ctypes.c_void_p),
        ("kind", ctypes.c_int64),
        ("query_scale", ctypes.c_void_p),
        ("query_error", ctypes.c_void_p),
        ("query_norm", ctypes.c_void_p),
        ("k", ctypes.c_int64),
        ("scores", ctypes.c_void_p),
        ("indices", ctypes.c_void_p),
        ("threshold", ctypes.c_void_p),
        ("hits", ctypes.c_void_p),
        ("hit_count", ctypes.c_int64),
        ("hit_capacity", ctypes.c_int64),
        ("rescored", ctypes.c_int64),
        ("failed", ctypes.c_int64),
    )


# Those of late_task.h.
class Store(ctypes.Structure):
    _fields_ = (
        ("ids", ctypes.c_void_p),
        ("id_bytes", ctypes.c_int64),
        ("centroids", ctypes.c_void_p),
        ("centroid_count", ctypes.c_int64),
        ("data", ctypes.c_void_p),
        ("bits", ctypes.c_int64),
        ("levels", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("offsets", ctypes.c_void_p),
        ("documents", ctypes.c_int64),
        ("dim", ctypes.c_int64),
    )


class Interaction(ctypes.Structure):
    _fields_ = (
        ("store", Store),
        ("queries", ctypes.c_void_p),
        ("query_offsets", ctypes.c_void_p),
        ("first", ctypes.c_int64),
        ("last", ctypes.c_int64),
        ("allowed", ctypes.c_void_p),
        ("allowed_stride", ctypes.c_int64),
        ("rows", ctypes.c_void_p),
        ("width", ctypes.c_int64),
        ("keep", ctypes.c_int64),
        ("kept", ctypes.c_void_p),
        ("failed", ctypes.c_int64),
    )


class Pairs(ctypes.Structure):
    _fields_ = (
        ("store", Store),
        ("queries", ctypes.c_void_p),
        ("query_offsets", ctypes.c_void_p),
        ("groups", ctypes.c_int64),
        ("pair_queries", ctypes.c_void_p),
        ("pair_documents", ctypes.c_void_p),
        ("first", ctypes.c_int64),
        ("last", ctypes.c_int64),
        ("fine", ctypes.c_int64),
        ("scores", ctypes.c_void_p),
        ("failed", ctypes.c_int64),
    )


NO_CENTROID = 2
# Kinds of rows, as task.h numbers them.
FLOAT32, BFLOAT16, FLOAT16, INT8, SIGN, CODES = range(6)

_Task = Segments | Scan | Dithering | Spectra | Preparation | Search | Interaction | Pairs


def run(function: Any, tasks: Sequence[_Task]) -> None:
    """A thread a task; ``function`` takes the engine and a task.

    The threads are the library's own: starting Python's takes a tenth of a short search.
    """
    places = (ctypes.c_void_p * len(tasks))(*map(ctypes.addressof, tasks))
    called = ctypes.cast(function, ctypes.c_void_p)
    library().maxsight_run(called, engine(), places, len(tasks))
    if any(task.failed == NO_CENTROID for task in tasks):
        raise ValueError("an id of coded rows is not that of a centroid")
    if any(task.failed for task in tasks):
        raise MemoryError("no memory for what the native code needs beside its arguments")


@cache
def find_library() -> ctypes.CDLL | None:
    found = sorted(Path(__file__).parent.glob("_native*.so"))
    if not found:
        return None
    library = ctypes.CDLL(os.fspath(found[0]))
    library.maxsight_engine.argtypes = [ctypes.c_int64]
    library.maxsight_engine.restype = ctypes.c_void_p
    library.maxsight_name.argtypes = [ctypes.c_void_p]
    library.maxsight_name.restype = ctypes.c_char_p
    library.maxsight_lanes.argtypes = [ctypes.c_void_p]
    library.maxsight_lanes.restype = ctypes.c_int64
    library.maxsight_product_kind.argtypes = [ctypes.c_void_p, ctypes.c_int64]
    library.maxsight_product_kind.restype = ctypes.c_int64
    library.maxsight_fits.argtypes = [ctypes.c_void_p, *[ctypes.c_int64] * 3]
    library.maxsight_fits.restype = ctypes.c_int64
    names = ("pack", "reduce", "scan", "dither", "bound", "prepare", "search")
    for name in (*names, "interact", "score_pairs"):
        function = getattr(library, f"maxsight_{name}")
        function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_void_p], None
    library.maxsight_run.argtypes = [
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.POINTER(ctypes.c_void_p),
        ctypes.c_int64,
    ]
    library.maxsight_run.restype = None
    library.maxsight_free.argtypes, library.maxsight_free.restype = [ctypes.c_void_p], None
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
