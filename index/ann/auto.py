"""What ``--index`` takes, the index it makes, and what ``auto`` takes it to be.

exact                           every row, by float16
IVF1024,PQ64x4fs                any factory string of FAISS
CAGRA64                         a graph of 64 links a row, made by a GPU where there is one
leanvec:160/IVF1024,PQ80x4fs    over 160 dimensions learned from rows and queries
leanvec-id:160/...              the same, learned from rows alone
...+int8                        candidates of the index before it, ranked by int8 rows
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from maxsight.errors import BudgetError, UsageError
from maxsight.index.ann import devices, footprint
from maxsight.index.ann.contract import VectorIndex
from maxsight.index.ann.devices import Device, DeviceLike, Form
from maxsight.index.ann.faiss_index import ROWS_A_LIST, FaissIndex
from maxsight.index.ann.footprint import Footprint
from maxsight.index.ann.gpu_index import LEAST_GRAPH_ROWS, GpuIndex
from maxsight.index.ann.leanvec import LeanVec
from maxsight.index.ann.refined import SUFFIX, Refined

EXACT, AUTO = "exact", "auto"
# What FAISS calls it.
_EXACT_FAISS = "SQfp16"
# Numbers that a scan reads in about 10 ms on one core: 100,000 rows of 512.
_EXACT_NUMBERS = 51_200_000
# A GPU of 2 TB/s reads so many in about 10 ms.
_EXACT_GPU_NUMBERS = 10_000_000_000
# What is on a GPU grows by doubling, and what it needs to make a graph lies beside it.
_GPU_SLACK = 2
_MOST_LISTS = 16_384
# Narrower vectors have no dimensions to spare.
_LEAST_REDUCED = 128

_log = logging.getLogger("maxsight.index")


@dataclass(frozen=True)
class Choice:
    """An index for a library.

    Attributes:
        spec: as :func:`make` takes it.
        why: a sentence.
        footprint: bytes.
    """

    spec: str
    why: str
    footprint: Footprint


def make(spec: str, dim: int, *, device: DeviceLike = "cpu") -> VectorIndex:
    """The empty index of a spec.

    Args:
        dim: D.
        device: a GPU does of making and searching what it can (:class:`GpuIndex`); what is saved
            loads on either.

    Raises:
        UsageError: not a spec, or not one for that width.
    """
    if spec == AUTO:
        raise UsageError("'auto' stands for a whole index: write it alone, or name another")
    if spec.endswith(SUFFIX):
        inner = make(spec.removesuffix(SUFFIX), dim, device=device)
        if isinstance(inner, Refined):
            raise UsageError(f"{spec!r}: {SUFFIX} once is enough")
        return Refined(inner)
    if spec == EXACT:
        spec = _EXACT_FAISS
    if not spec.startswith("leanvec"):
        index = FaissIndex(spec, dim)
        gpu = devices.find(device)
        return GpuIndex(index, gpu) if gpu and gpu.form(index.index) else index
    match = re.fullmatch(r"leanvec(-id)?:([1-9][0-9]*)/(.+)", spec)
    if not match or int(match[2]) > dim:
        raise UsageError(
            f"{spec!r}: write leanvec:D/SPEC or leanvec-id:D/SPEC with D from 1 to {dim}, say "
            f'"leanvec:{max(1, dim // 3)}/IVF1024,SQ8+int8"'
        )
    inner = make(match[3], int(match[2]), device=device)
    if isinstance(inner, LeanVec):
        raise UsageError(f"{spec!r}: reduce once, to as many dimensions as you want")
    return LeanVec(inner, dim, kind="id" if match[1] else "ood")


def check(spec: str, dim: int) -> None:
    """Refuse early what :func:`make` or :func:`choose` would refuse after long work.

    Raises:
        UsageError: not a spec, or not one for vectors of that width.
    """
    if not isinstance(spec, str) or not spec.isascii():
        raise UsageError(f"an index is named by a text, say auto or exact, got {spec!r}")
    if spec != AUTO:
        make(spec, dim)


def device_for(
    choice: Choice, rows: int, dim: int, *, device: DeviceLike, budget: int
) -> Device | None:
    """The GPU that makes an index, or None: the processor does. Why a GPU does not, is logged.

    Args:
        choice: of an index, not ``exact``.
        rows: N, to be added.
        device: what may be used.
        budget: bytes of memory of the machine that making it may take.
    """
    gpu = devices.find(device)
    if gpu is None or not gpu.is_there():
        return None
    index = make(choice.spec, dim, device=gpu).innermost
    if index.device != gpu.name:
        if index.form is Form.GRAPH:
            _log.warning(
                "%s is made on the processor, which takes long: FAISS has CAGRA on a GPU where it "
                "is built with cuVS (pip install 'maxsight[cuvs]')",
                choice.spec,
            )
        return None
    if index.form is Form.GRAPH and rows < LEAST_GRAPH_ROWS:
        return None
    needed, free = _GPU_SLACK * index.bytes_for(rows), gpu.free()
    if index.form is not Form.LISTS and free is not None and needed > free:
        _log.warning(
            "%s is made on the processor: it needs up to %s MiB of %s, where %s are free",
            *(choice.spec, f"{needed / 2**20:,.0f}", gpu.name, f"{free / 2**20:,.0f}"),
        )
        return None
    # All rows in float16 and float32, beside the graph that comes back.
    waiting = 6 * index.dim * rows if index.form is Form.GRAPH else 0
    if choice.footprint.build + waiting > budget:
        _log.warning(
            "%s is made on the processor: to hand its rows to %s takes %s MiB of memory, and "
            "MAXSIGHT_MEMORY allows %s",
            *(choice.spec, gpu.name),
            *(f"{(choice.footprint.build + waiting) / 2**20:,.0f}", f"{budget / 2**20:,.0f}"),
        )
        return None
    return gpu


def choose(
    rows: int,
    dim: int,
    *,
    spec: str = AUTO,
    budget: int,
    device: DeviceLike = "cpu",
    texts: bool = False,
) -> Choice:
    """The index for so many rows; docs/indexes.md has the table.

    Args:
        rows: N.
        dim: D.
        spec: what the user asked for; anything but ``auto`` is taken.
        budget: bytes of memory that making it and searching it may take.
        device: what makes it, and is taken to search it.
        texts: whether there are vectors of texts to learn from.

    Raises:
        BudgetError: ``auto``, and no index is small enough.
        UsageError: not a spec, or not one for that width.
    """
    if spec != AUTO:
        # Without an index the vectors themselves are held.
        index = None if spec == EXACT else make(spec, dim)
        return Choice(spec, "it was asked for", footprint.of(index, rows, dim))
    exact = Choice(EXACT, "", footprint.of(None, rows, dim))
    on_gpu = _holds_all(devices.find(device), rows, dim)
    most = (_EXACT_GPU_NUMBERS if on_gpu else _EXACT_NUMBERS) // dim
    if rows <= most and exact.footprint.memory <= budget:
        where = "a GPU" if on_gpu else "a processor"
        why = f"up to {most:,} rows of {dim} numbers {where} scores all in about 10 ms"
        return Choice(EXACT, why, exact.footprint)
    found = None
    for name, what in _candidates(rows, dim, texts):
        found = Choice(name, "", footprint.of(make(name, dim), rows, dim))
        if max(found.footprint.build, found.footprint.search) <= budget:
            why = f"{rows:,} rows of {dim} numbers are too many to score all in 10 ms"
            if rows <= most:
                why = f"{rows:,} rows of {dim} numbers are more than the memory allowed holds"
            return Choice(name, f"{why}; {what}", found.footprint)
    if found is None:
        why = f"{rows:,} rows are too few to learn an index from"
        return Choice(EXACT, why, exact.footprint)
    raise BudgetError(
        f"the smallest index over {rows:,} rows of {dim} numbers, {found.spec}, needs "
        f"{max(found.footprint.build, found.footprint.search) / 2**20:,.0f} MiB to make and "
        f"search, and {budget / 2**20:,.0f} MiB are allowed: allow more with MAXSIGHT_MEMORY"
    )


def _holds_all(gpu: Device | None, rows: int, dim: int) -> bool:
    """Whether all vectors fit on a GPU as float16."""
    if gpu is None or not gpu.is_there():
        return False
    free = gpu.free()
    return free is None or _GPU_SLACK * 2 * dim * rows <= free


def _candidates(rows: int, dim: int, texts: bool) -> Iterator[tuple[str, str]]:
    """Specs, the better first, and why."""
    lists = 2 ** round(math.log2(4 * math.sqrt(max(1, rows))))
    lists = min(lists, _MOST_LISTS)
    if rows < ROWS_A_LIST * 16:
        return
    while ROWS_A_LIST * lists > rows:
        lists //= 2
    if texts and dim >= _LEAST_REDUCED:
        reduced = round(3 * dim / 64) * 8
        learned = f"leanvec:{reduced}/IVF{lists},PQ{reduced // 2}x4fsr"
        what = f"of {reduced} numbers, learned from texts and rows,"
        yield learned + SUFFIX, f"4-bit codes {what} propose rows and int8 rows rank them"
        yield learned, f"only 4-bit codes {what} fit into memory: what they propose is on disk"
    whole = -(-dim // 8) * 8
    pad = f"Pad{whole}," if whole != dim else ""
    fine = f"{pad}IVF{lists},PQ{whole // 4}x4fs"
    yield fine + SUFFIX, "4-bit codes propose rows and int8 rows rank them, all in memory"
    yield fine, "only 4-bit codes fit into memory: what they propose is read from disk"
    coarse = f"{pad}IVF{lists},PQ{whole // 8}x4fs"
    yield coarse, "only the smallest codes fit into memory: what they propose is read from disk"
