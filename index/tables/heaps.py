"""The C library's heaps, where memory is short."""

from __future__ import annotations

import ctypes
import functools
import os

_M_ARENA_MAX = -8  # malloc.h


@functools.cache
def share() -> None:
    """Let all threads allocate from two heaps; to be called before Lance starts its own.

    glibc gives each thread a heap, and what Lance has read into them is freed but not given back:
    some 200 MB more than is in use. Who sets ``MAXSIGHT_MEMORY`` wants that less than the little
    time it saves.
    """
    libc = ctypes.CDLL(None)
    if "MAXSIGHT_MEMORY" in os.environ and hasattr(libc, "mallopt"):
        libc.mallopt(_M_ARENA_MAX, 2)
