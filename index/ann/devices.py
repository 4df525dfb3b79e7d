"""A GPU as a place where indexes are made and searched, and what FAISS can do there."""

from __future__ import annotations

import functools
import re
from enum import Enum
from typing import Any, Protocol

import numpy as np

from maxsight.errors import UsageError
from maxsight.index import faiss_build
from maxsight.index.ann import cagra, faiss_calls, faiss_kinds
from maxsight.index.array_types import Floats, Rows

# Candidates that a walk keeps in one block of threads; above, cuVS changes to slower kernels.
MOST_KEPT = 512
_KEPT_STEP = 32


class Form(Enum):
    """How much of an index a GPU can take over."""

    WHOLE = "made and searched there"
    GRAPH = "made there of all rows at once, and searched there"
    LISTS = "where its lists are is learned there"


def form_of(index: Any) -> Form | None:
    """What a GPU can do for a FAISS index; None: nothing.

    Only kinds that come back as the class they left as count as whole: float16 codes outside of
    lists (``SQfp16``), for one, come back as float32.
    """
    faiss = faiss_build.load()
    core = faiss_kinds.core_of(index)
    if isinstance(core, faiss.IndexHNSWCagra):
        return Form.GRAPH if core is index else None
    if type(core) in (faiss.IndexFlat, faiss.IndexFlatIP):
        return Form.WHOLE
    if not isinstance(core, faiss.IndexIVF):
        return None
    if not isinstance(faiss.downcast_index(core.quantizer), faiss.IndexFlat):
        return None
    codes_of_a_byte = type(core) is faiss.IndexIVFPQ and core.pq.nbits == 8
    if codes_of_a_byte or type(core) in (faiss.IndexIVFFlat, faiss.IndexIVFScalarQuantizer):
        return Form.WHOLE
    return Form.LISTS


class Device(Protocol):
    """Where an index can be moved to, and back. FAISS's refusals are ``RuntimeError``.

    Attributes:
        name: ``cuda:0``.
    """

    name: str

    def is_there(self) -> bool: ...

    def form(self, index: Any) -> Form | None:
        """What it can do for a FAISS index here, at most :func:`form_of`."""
        ...

    def free(self) -> int | None:
        """Bytes of its memory that nobody has taken; None where that cannot be told."""
        ...

    def take(self, index: Any) -> Any:
        """A copy there of a FAISS index here.

        The copy of a graph may read the vectors of ``index`` as long as it is used; that of an
        empty one takes all its rows by one ``train``, and holds to the memory they are in.
        """
        ...

    def give(self, index: Any) -> Any:
        """A copy here of a FAISS index there."""
        ...

    def flat(self, dim: int) -> Any:
        """An empty index there, exact by inner product in float32."""
        ...

    def search(self, index: Any, queries: Floats, k: int, probes: int) -> tuple[Floats, Rows]:
        """``(scores, rows)``, each (Q, k), of an index there; rows of -1 where there are fewer."""
        ...


class Cuda:
    """One GPU; nothing of it is touched before it is used.

    Args:
        number: of the GPU.
    """

    def __init__(self, number: int = 0) -> None:
        self.name = f"cuda:{number}"
        self._number = number

    def is_there(self) -> bool:
        """Whether this FAISS can compute on it."""
        return faiss_build.gpu_count() > self._number

    def form(self, index: Any) -> Form | None:
        """As :func:`form_of`; CAGRA is in builds with cuVS alone."""
        form = form_of(index)
        return form if form is not Form.GRAPH or _has_cuvs() else None

    def free(self) -> int | None:
        """As :meth:`Device.free`; FAISS itself does not tell."""
        import torch

        return torch.cuda.mem_get_info(self._number)[0] if torch.cuda.is_available() else None

    def take(self, index: Any) -> Any:
        """As :meth:`Device.take`."""
        faiss = faiss_build.load()
        if not isinstance(index, faiss.IndexHNSWCagra) or (index.ntotal and cagra.is_full(index)):
            return self._copied(index)
        config = faiss.GpuIndexCagraConfig()
        config.device = self._number
        config.graph_degree = cagra.degree(index)
        config.intermediate_graph_degree = 2 * config.graph_degree  # as by default of 64
        there = faiss.GpuIndexCagra(self._resources, index.d, index.metric_type, config)
        if index.ntotal:
            there.train(cagra.rows(index))
        return there

    def give(self, index: Any) -> Any:
        return faiss_build.load().index_gpu_to_cpu(index)

    def flat(self, dim: int) -> Any:
        faiss = faiss_build.load()
        config = faiss.GpuIndexFlatConfig()
        config.device = self._number
        return faiss.GpuIndexFlatIP(self._resources, dim, config)

    def search(self, index: Any, queries: Floats, k: int, probes: int) -> tuple[Floats, Rows]:
        faiss = faiss_build.load()
        parameters = None
        if _has_cuvs() and isinstance(index, faiss.GpuIndexCagra):
            kept = -(-max(k, probes) // _KEPT_STEP) * _KEPT_STEP
            parameters = faiss.SearchParametersCagra(itopk_size=kept)
        elif isinstance(faiss_kinds.core_of(index), faiss.GpuIndexIVF):
            parameters = faiss.SearchParametersIVF(nprobe=probes)
            if isinstance(index, faiss.IndexPreTransform):
                parameters = faiss.SearchParametersPreTransform(index_params=parameters)
        return faiss_calls.search(index, np.ascontiguousarray(queries), k, parameters)

    def _copied(self, index: Any) -> Any:
        faiss = faiss_build.load()
        options = faiss.GpuClonerOptions()
        options.useFloat16 = True
        return faiss.index_cpu_to_gpu(self._resources, self._number, index, options)

    @functools.cached_property
    def _resources(self) -> Any:
        return faiss_build.load().StandardGpuResources()


def _has_cuvs() -> bool:
    return hasattr(faiss_build.load(), "GpuIndexCagra")


# ``auto``, ``cpu``, ``cuda``, ``cuda:N``, or the GPU itself.
DeviceLike = str | Device


def find(device: DeviceLike) -> Device | None:
    """The GPU that is meant; None is the processor.

    A GPU that is found need not be there: a process that asks one question should not wake the
    driver to learn that.

    Raises:
        UsageError: not a device.
    """
    if not isinstance(device, str):
        return device
    match = re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", device)
    if not match:
        raise UsageError(f"device={device!r} must be auto, cpu, cuda or cuda:N")
    if device == "cpu" or not faiss_build.has_gpu_code():
        return None
    return Cuda(int((match[1] or ":0")[1:]))
