"""Which FAISS is installed, and whether it can be used.

Every FAISS distribution writes the same ``faiss`` folder: pip installs two without a word, the
last one wins, and removing either breaks the other.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

from maxsight.errors import BackendError

# For fewer queries FAISS's threads wait for each other longer than they work.
_FEW_QUERIES = 4

DISTRIBUTIONS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu11", "faiss-gpu-cu12", "faiss-gpu-cuvs")


def installed() -> dict[str, str]:
    """Versions of the FAISS distributions that are installed, by name."""
    versions = {}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


@functools.cache
def load() -> Any:
    """Import FAISS.

    Raises:
        BackendError: none is installed, two are, or the one there does not load.
    """
    found = installed()
    names = " and ".join(found)
    if len(found) > 1:
        raise BackendError(
            f"{names} are installed together and overwrite each other's files: "
            f"`pip uninstall -y {' '.join(found)}`, then `pip install 'maxsight[cpu]'` or "
            "`pip install 'maxsight[gpu]'`"
        )
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        if found:
            raise BackendError(
                f"{names} is installed and does not load ({error}): "
                f"`pip install --force-reinstall {names}`"
            ) from error
        raise BackendError(
            "FAISS is not installed: `pip install 'maxsight[cpu]'`, or `pip install "
            "'maxsight[gpu]'` on a machine with an NVIDIA GPU"
        ) from None


def has_gpu_code() -> bool:
    """Whether this FAISS is a GPU build; asks no driver."""
    # A CPU build defines most GPU names too, but as functions that raise NameError.
    return hasattr(load(), "StandardGpuResources")


def gpu_count() -> int:
    """GPUs this FAISS can search on: 0 for a CPU build or without a GPU."""
    return int(load().get_num_gpus()) if has_gpu_code() else 0


@contextmanager
def cores_for(queries: int) -> Iterator[None]:
    """Have FAISS keep to the calling core where there are few queries."""
    faiss = load()
    threads = int(faiss.omp_get_max_threads())
    if queries < _FEW_QUERIES:
        faiss.omp_set_num_threads(1)  # of the calling thread only
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
