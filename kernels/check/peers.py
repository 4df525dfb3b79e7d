"""Late interaction by others on the same tokens: whoever is installed, nobody is fetched."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from statistics import median

import torch
from torch import Tensor

from maxsight.kernels import maxsim
from maxsight.kernels.check.bench import Bench
from maxsight.kernels.shapes import PUBLISHED, RERANK
from maxsight.kernels.timing import device_milliseconds, milliseconds
from maxsight.kernels.workloads import packed

# Largest difference from the float32 truth as a part of the largest score: the peers' own contract.
_TOLERANCE = 2e-2
_Scores = Callable[[], Tensor]


def peers(bench: Bench) -> None:
    """Agreement first, then the times of ours and theirs."""
    tiny = replace(RERANK, documents=3, document_tokens=9)
    for shape in (tiny,) if bench.dry else PUBLISHED:
        dtype = torch.float16 if bench.dry else torch.bfloat16
        pack = partial(packed, device=bench.device, dtype=dtype)
        queries, starts = pack(shape.queries, shape.query_tokens, shape.dim)
        documents, begins = pack(shape.documents, shape.document_tokens, shape.dim)
        asked = queries.view(shape.queries, shape.query_tokens, shape.dim)
        padded = documents.view(shape.documents, shape.document_tokens, shape.dim)
        parts = torch.split(padded, 50)
        truth = torch.cat([_einsum(asked.float(), part.float()) for part in parts], 1)
        ours: _Scores = partial(maxsim.score, queries, starts, documents, begins)
        for name, call in [("maxsight", ours), *_others(bench, asked, padded)]:
            bench.attempt(f"{name}, {shape.name}", partial(_measured, bench, call, truth))
        for package in ("flash_maxsim", "late_interaction_kernels"):
            if importlib.util.find_spec(package) is None:
                bench.skipped(f"{package}, {shape.name}", "not installed")


def _others(bench: Bench, asked: Tensor, padded: Tensor) -> Iterator[tuple[str, _Scores]]:
    yield "torch einsum", partial(_einsum, asked, padded)
    if bench.dry:
        return
    compiled: Callable[[Tensor, Tensor], Tensor] = torch.compile(_einsum)
    yield "torch.compile", partial(compiled, asked, padded)
    # Their first call times many tiles of theirs: last, so that the others' rows are there.
    if importlib.util.find_spec("late_interaction_kernels") is not None:
        late = importlib.import_module("late_interaction_kernels")
        yield "late-interaction-kernels", partial(late.maxsim, asked, padded)
    if importlib.util.find_spec("flash_maxsim") is not None:
        flash = importlib.import_module("flash_maxsim")
        one = partial(flash.flash_maxsim, asked[0], padded)
        many = partial(flash.flash_maxsim_batched, asked, padded)
        yield "flash-maxsim", one if len(asked) == 1 else many


def _measured(bench: Bench, call: _Scores, truth: Tensor) -> dict[str, object]:
    error = float((call().float().view_as(truth) - truth).abs().amax() / truth.abs().amax())
    assert error <= _TOLERANCE, f"an error of {error:.2g} where {_TOLERANCE} is allowed"
    rounds = 1 if bench.dry else 15
    return {
        "device_ms": round(median(device_milliseconds(call, rounds=rounds)), 4),
        "together_ms": round(median(milliseconds(call, rounds=rounds)), 4),
    }


def _einsum(queries: Tensor, documents: Tensor) -> Tensor:
    return torch.einsum("qmd,nkd->qnmk", queries, documents).float().amax(-1).sum(-1)
