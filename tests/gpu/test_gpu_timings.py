"""How long the kernels take on this GPU, against the others; `make gpu-check` keeps the rows.

Contenders of one shape hold the same bfloat16 tokens, agree before they are timed, and take turns.
The predicted time of `maxsight kernels` stands beside the measured one where the GPU is one that it
knows.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from maxsight.benchmarks.measure.interleave import interleave, ratio
from maxsight.benchmarks.measure.rows import Row, save, timed
from maxsight.kernels import maxsim
from maxsight.kernels.report import OPERATIONS
from maxsight.kernels.shapes import PUBLISHED, Interaction
from maxsight.kernels.tuning import milliseconds
from maxsight.kernels.workloads import Workload, packed, workloads

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 15
BENCHMARK = "gpu-kernels"
OURS = "maxsight"
# Largest difference from the float32 truth as a part of the largest score: the peers' own contract.
TOLERANCE = 2e-2
Scores = Callable[[], Tensor]


@pytest.fixture(scope="module")
def rows() -> Iterator[list[Row]]:
    """Rows of this run, saved at its end under the GPU's name."""
    measured: list[Row] = []
    yield measured
    name = torch.cuda.get_device_name().lower().replace(" ", "-")
    folder = Path(os.environ.get("MAXSIGHT_GPU_RESULTS", ROOT / "benchmarks" / "results"))
    save(measured, folder / f"gpu-{name}.csv")


@pytest.mark.parametrize("shape", PUBLISHED, ids=lambda shape: shape.name)
def test_maxsim_against_the_others(shape: Interaction, rows: list[Row]) -> None:
    contenders = dict(_contenders(shape))
    truth = _naive_float32(shape)()
    for name, call in contenders.items():
        error = float((call().float().view_as(truth) - truth).abs().amax() / truth.abs().amax())
        assert error < TOLERANCE, f"{name} is off by {error:.3g} of the largest score"
    seconds = interleave(
        {name: partial(_one_round, call) for name, call in contenders.items()}, rounds=ROUNDS
    )
    case = str(shape)
    for name, times in seconds.items():
        rows.append(timed(times, benchmark=BENCHMARK, case=case, contender=name))
        rows.append(_peak(contenders[name], case=case, contender=name))
        if name != OURS:
            rows.append(
                ratio(
                    times,
                    seconds[OURS],
                    benchmark=BENCHMARK,
                    case=case,
                    contender=name,
                    metric="times ours",
                )
            )


@pytest.mark.parametrize(
    "workload",
    list(workloads(torch.device("cuda"), operations=OPERATIONS)),
    ids=lambda each: each.name,
)
def test_every_operation(workload: Workload, rows: list[Row]) -> None:
    call = workload.prepare()
    seconds = [time / 1e3 for time in milliseconds(call, rounds=ROUNDS)]
    case = f"{workload.operation}: {workload.name}"
    rows.append(timed(seconds, benchmark=BENCHMARK, case=case, contender=OURS))
    rows.append(_peak(call, case=case, contender=OURS))


def _one_round(call: Scores, _: int) -> float:
    return milliseconds(call, rounds=1)[0] / 1e3


def _peak(call: Callable[[], object], *, case: str, contender: str) -> Row:
    """Memory at the peak beside the inputs."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    extra = (torch.cuda.max_memory_allocated() - before) / 1e6
    return Row(BENCHMARK, case, contender, "extra memory", float(f"{extra:.5g}"), "MB")


def _contenders(shape: Interaction) -> Iterator[tuple[str, Scores]]:
    """Whoever is installed. Documents are of one length: none has to pad."""
    queries, starts, documents, begins = _inputs(shape)
    yield OURS, partial(maxsim.score, queries, starts, documents, begins)
    padded_queries = queries.view(shape.queries, shape.query_tokens, shape.dim)
    padded = documents.view(shape.documents, shape.document_tokens, shape.dim)
    yield "torch einsum", partial(_einsum, padded_queries, padded)
    compiled: Callable[[Tensor, Tensor], Tensor] = torch.compile(_einsum)
    yield "torch.compile", partial(compiled, padded_queries, padded)
    if importlib.util.find_spec("flash_maxsim") is not None:
        flash = importlib.import_module("flash_maxsim")

        one = partial(flash.flash_maxsim, padded_queries[0], padded)
        many = partial(flash.flash_maxsim_batched, padded_queries, padded)
        yield "flash-maxsim", one if shape.queries == 1 else many
    if importlib.util.find_spec("late_interaction_kernels") is not None:
        late = importlib.import_module("late_interaction_kernels")
        yield (
            "late-interaction-kernels",
            partial(late.maxsim, padded_queries, padded),
        )


def _inputs(shape: Interaction) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    device, dtype = torch.device("cuda"), torch.bfloat16
    return (
        *packed(shape.queries, shape.query_tokens, shape.dim, device=device, dtype=dtype),
        *packed(shape.documents, shape.document_tokens, shape.dim, device=device, dtype=dtype),
    )


def _einsum(queries: Tensor, documents: Tensor) -> Tensor:
    return torch.einsum("qmd,nkd->qnmk", queries, documents).float().amax(-1).sum(-1)


def _naive_float32(shape: Interaction) -> Scores:
    """The truth, a few documents at a time."""
    queries, _, documents, _ = _inputs(shape)
    padded_queries = queries.view(shape.queries, shape.query_tokens, shape.dim).float()
    padded = documents.view(shape.documents, shape.document_tokens, shape.dim)
    return lambda: torch.cat(
        [_einsum(padded_queries, part.float()) for part in torch.split(padded, 50)], dim=1
    )
