"""How many queries a second does exact top-k answer on one core, against FAISS flat and torch?

Vectors are those of :mod:`maxsight.benchmarks.material.vectors`. Every contender holds them as it
likes before the clock starts; figures are per second of processor time. Recall is of the ten rows
that float64 finds; contenders that store fewer bits may lose some, and their row says how many.
"""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

from maxsight.benchmarks.material.vectors import Cloud, cloud
from maxsight.benchmarks.measure.interleave import interleave, processor_stopwatch, ratio
from maxsight.benchmarks.measure.parity import ParityError
from maxsight.benchmarks.measure.peaks import gemm_peak, threads
from maxsight.benchmarks.measure.rows import Row
from maxsight.kernels import shapes, similarity

K = 10
FLAT = "faiss flat"
_LEAST_RECALL = 0.999
_ROWS = 16_384  # of torch's chunks: scores of 1,024 queries take 64 MiB
# From so many pairs of a query and a row on, a round takes most of a minute: one thread, two rounds
# and without the contenders that need the longest.
_LARGE_CASE, _FEW_ROUNDS = 500_000_000, 2
_SLOW = ("torch, float32 in chunks", "numkong, bfloat16")

Search = Callable[[int], tuple[Tensor, Tensor]]


def run(
    data: Path,
    *,
    size: Annotated[list[int] | None, typer.Option(help="Vectors; may be repeated.")] = None,
    asked: Annotated[
        list[int] | None, typer.Option(help="Queries at once; may be repeated.")
    ] = None,
    dim: int = shapes.DIM,
    rounds: int = 9,
) -> list[Row]:
    """Measure.

    Args:
        data: not needed.
        size: how many vectors; 100,000 and 1,000,000 unless given.
        asked: how many queries at once; 1, 64 and 1,024 unless given.
        dim: of what width.
        rounds: of every contender.
    """
    asked = asked or list(shapes.QUERIES)
    rows = []
    for count in size or [100_000, 1_000_000]:
        vectors = cloud(count, dim, queries=max(asked))
        truth = _truth(vectors)
        for queries in asked:
            large = count * queries >= _LARGE_CASE
            for cores in (1,) if large else (1, 2):
                with threads(cores):
                    rows += _measure(vectors, truth[:queries], cores, rounds, large=large)
    return rows


def _truth(vectors: Cloud) -> Tensor:
    """(Q, K) the rows that float64 finds."""
    queries, database = torch.from_numpy(vectors.queries), torch.from_numpy(vectors.vectors)
    asked, scores, ids = queries.double(), [], []
    for start in range(0, len(database), _ROWS):
        part = (asked @ database[start : start + _ROWS].double().T).topk(K)
        scores.append(part.values)
        ids.append(part.indices + start)
    return torch.cat(ids, 1).gather(1, torch.cat(scores, 1).topk(K).indices)


def _measure(vectors: Cloud, truth: Tensor, cores: int, rounds: int, *, large: bool) -> list[Row]:
    asked, rounds = len(truth), min(rounds, _FEW_ROUNDS) if large else rounds
    database, queries = torch.from_numpy(vectors.vectors), torch.from_numpy(vectors.queries[:asked])
    contenders = _contenders(database, queries)
    if large:
        contenders = {name: search for name, search in contenders.items() if name not in _SLOW}
    plural = "s" if cores > 1 else ""
    case = f"{len(database):,} x {database.shape[1]}, {asked} queries, {cores} thread{plural}"
    case = case.replace(" 1 queries", " 1 query")
    rows = []
    for name, search in contenders.items():
        recall = _recall(search(0)[1], truth)
        rows.append(Row("topk", case, name, f"recall@{K}", recall, runs=asked))
        if name.startswith(("maxsight", FLAT)) and recall < _LEAST_RECALL:
            raise ParityError(f"{name} finds {recall:.4f} of the ten best at {case}")
    times = interleave(
        {name: processor_stopwatch(search) for name, search in contenders.items()}, rounds=rounds
    )
    operations = 2.0 * asked * database.numel()
    for name, seconds in times.items():
        rates = [asked / each for each in seconds]
        rows.append(Row.of("topk", case, name, "rate", rates, "queries/CPU s"))
        share = 100 * operations / statistics.median(seconds) / gemm_peak(torch.bfloat16)
        rows.append(Row("topk", case, name, "of the bf16 GEMM peak", share, "%"))
        for baseline in (FLAT, "torch, bfloat16 in chunks"):
            if name.startswith("maxsight"):
                rows.append(
                    ratio(
                        seconds,
                        times[baseline],
                        benchmark="topk",
                        case=case,
                        contender=name,
                        metric=f"processor time / {baseline}",
                    )
                )
    return rows


def _contenders(database: Tensor, queries: Tensor) -> dict[str, Search]:
    low = database.bfloat16()
    found: dict[str, Search] = {
        FLAT: _flat(database, queries),
        "torch, float32 in chunks": _chunked(database, queries),
        "torch, bfloat16 in chunks": _chunked(low, queries),
        "maxsight, float32": lambda _: similarity.topk(queries, database, K),
    }
    if importlib.util.find_spec("numkong"):
        found["numkong, bfloat16"] = _numkong(database, queries)
    return found


def _flat(database: Tensor, queries: Tensor) -> Search:
    import faiss

    index = faiss.IndexFlatIP(database.shape[1])
    index.add(database.numpy())
    asked = queries.numpy()

    def search(_: int) -> tuple[Tensor, Tensor]:
        scores, ids = index.search(asked, K)
        return torch.from_numpy(scores), torch.from_numpy(ids)

    return search


def _chunked(database: Tensor, queries: Tensor) -> Search:
    asked = queries.to(database.dtype)

    def search(_: int) -> tuple[Tensor, Tensor]:
        scores, ids = torch.empty(len(asked), 0), torch.empty(len(asked), 0, dtype=torch.int64)
        for start in range(0, len(database), _ROWS):
            part = (asked @ database[start : start + _ROWS].T).float().topk(K)
            scores = torch.cat([scores, part.values], 1)
            ids = torch.cat([ids, part.indices + start], 1)
            best = scores.topk(K)
            scores, ids = best.values, ids.gather(1, best.indices)
        return scores, ids

    return search


def _numkong(database: Tensor, queries: Tensor) -> Search:
    import numkong

    parts = torch.split(database, _ROWS)
    packed = [numkong.dots_pack(numkong.Tensor(part.numpy()).astype("bf16")) for part in parts]
    asked = numkong.Tensor(queries.numpy()).astype("bf16")

    def search(_: int) -> tuple[Tensor, Tensor]:
        parts = [np.asarray(numkong.dots_packed(asked, part)) for part in packed]
        best = torch.from_numpy(np.concatenate(parts, axis=1)).topk(K)
        return best.values, best.indices

    return search


def _recall(found: Tensor, truth: Tensor) -> float:
    return (found[:, :, None] == truth[:, None, :]).any(2).float().mean().item()
