"""How many documents a second does MaxSim score on one core, against the best of the others?

Every contender holds the same tokens, prepared as it likes before the clock starts. Figures are per
second of processor time, with one and with two threads, and stand beside the fraction of torch's
bfloat16 product that they reach (:func:`maxsight.benchmarks.measure.peaks.gemm_peak`). Contenders
marked inexact answer with other scores; their error stands in a row of its own.
"""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from maxsight.benchmarks.measure.interleave import interleave, processor_stopwatch, ratio
from maxsight.benchmarks.measure.parity import ParityError
from maxsight.benchmarks.measure.peaks import gemm_peak, threads
from maxsight.benchmarks.measure.rows import Row
from maxsight.kernels import maxsim, shapes

OURS = "maxsight"
TORCH = "torch, bf16 product, float, amax"
_BLOCK_TOKENS = 12_288  # the strongest size of torch's blocks: 8k to 16k tokens do alike
_TOLERANCE = 2e-2  # of the largest score: bfloat16 storage, float32 sums
_INEXACT = {"numkong, packed"}

Score = Callable[[int], Tensor]


@dataclass(frozen=True, eq=False)
class Case:
    """Documents and one query; tokens are unit vectors, rounded to bfloat16.

    Attributes:
        documents: (sum L, d) float32. offsets: (B + 1,) int64.
        query: (Lq, d) float32.
    """

    name: str
    documents: Tensor
    offsets: Tensor
    query: Tensor

    @property
    def operations(self) -> float:
        return 2.0 * self.documents.numel() * len(self.query)

    def apart(self, documents: Tensor) -> tuple[Tensor, ...]:
        """Packed tokens as one tensor a document."""
        return torch.split(documents, self.offsets.diff().tolist())


def cases() -> list[Case]:
    """The shapes: reranking, ragged ColBERT passages, long documents, pages of patches, d = 512."""
    draw = torch.Generator().manual_seed(0)
    # Lengths are drawn before any token.
    lengths = [_lengths(shape, draw) for shape in shapes.PROCESSOR]
    return [_case(shape, each, draw) for shape, each in zip(shapes.PROCESSOR, lengths)]


def run(data: Path, *, rounds: int = 15) -> list[Row]:
    """Measure.

    Args:
        data: not needed.
        rounds: of every contender.
    """
    rows = []
    for case in cases():
        contenders = _contenders(case)
        rows += _assert_parity(case, contenders)
        for count in (1, 2):
            with threads(count):
                rows += _measure(case, contenders, count, rounds if count == 1 else rounds // 2)
    return rows


def _lengths(shape: shapes.Interaction, draw: torch.Generator) -> Tensor:
    if shape.shortest is None:
        return torch.full((shape.documents,), shape.document_tokens)
    most = shape.document_tokens + 1
    return torch.randint(shape.shortest, most, (shape.documents,), generator=draw)


def _case(shape: shapes.Interaction, lengths: Tensor, draw: torch.Generator) -> Case:
    """Tokens gather about topics as a document's do: a query's best match is one of many."""
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    topics = torch.randn(256, shape.dim, generator=draw)

    def tokens(count: int) -> Tensor:
        chosen = topics[torch.randint(len(topics), (count,), generator=draw)]
        noisy = chosen + torch.randn(count, shape.dim, generator=draw)
        return torch.nn.functional.normalize(noisy, dim=1).bfloat16().float()

    shortest = "" if shape.shortest is None else f"{shape.shortest}-"
    name = (
        f"{shape.documents:,} x {shortest}{shape.document_tokens:,} tokens, "
        f"Lq {shape.query_tokens:,}, d {shape.dim}"
    )
    return Case(name, tokens(int(offsets[-1])), offsets, tokens(shape.query_tokens))


def _contenders(case: Case) -> dict[str, Score]:
    found: dict[str, Score] = {OURS: _ours(case), TORCH: _torch_bfloat16(case)}
    found["maxsight, with the arg-max"] = _ours_with_argmax(case)
    found["torch, float32 in blocks"] = _torch_float32(case)
    lengths = case.offsets.diff()
    if (lengths == lengths[0]).all():
        found["naive einsum"] = _einsum(case)
        if importlib.util.find_spec("late_interaction_kernels"):
            found["late-interaction-kernels, its CPU path"] = _late_interaction_kernels(case)
    if importlib.util.find_spec("maxsim_cpu") and len(case.query) == 32:
        found["maxsim-cpu"] = _maxsim_cpu(case)
    if importlib.util.find_spec("numkong"):
        found["numkong, packed"] = _numkong(case)
    return found


def _ours(case: Case) -> Score:
    documents, query = case.documents.bfloat16(), case.query.bfloat16()
    ends = torch.tensor([0, len(query)])
    return lambda _: maxsim.score(query, ends, documents, case.offsets)[0]


def _ours_with_argmax(case: Case) -> Score:
    documents, query = case.documents.bfloat16(), case.query.bfloat16()
    ends = torch.tensor([0, len(query)])

    def score(_: int) -> Tensor:
        return maxsim.answers(query, ends, documents, case.offsets)[0][0]

    return score


def _torch_bfloat16(case: Case) -> Score:
    return _in_blocks(case, case.documents.bfloat16(), case.query.bfloat16().T.contiguous())


def _torch_float32(case: Case) -> Score:
    return _in_blocks(case, case.documents, case.query.T.contiguous())


def _in_blocks(case: Case, documents: Tensor, query: Tensor) -> Score:
    lengths = case.offsets.diff()
    even = bool((lengths == lengths[0]).all())
    each = max(1, _BLOCK_TOKENS // int(lengths.max()))
    ends = case.offsets.tolist()

    def score(_: int) -> Tensor:
        parts = []
        for first in range(0, len(lengths), each):
            last = min(first + each, len(lengths))
            scores = (documents[ends[first] : ends[last]] @ query).float()
            if even:
                best = scores.view(last - first, -1, scores.shape[1]).amax(1)
            else:
                best = torch.stack(
                    [part.amax(0) for part in torch.split(scores, lengths[first:last].tolist())]
                )
            parts.append(best.sum(1))
        return torch.cat(parts)

    return score


def _einsum(case: Case) -> Score:
    documents = case.documents.view(len(case.offsets) - 1, -1, case.documents.shape[1])
    return lambda _: torch.einsum("qd,btd->bqt", case.query, documents).amax(2).sum(1)


def _late_interaction_kernels(case: Case) -> Score:
    from late_interaction_kernels.reference import maxsim_reference

    documents = case.documents.bfloat16().view(len(case.offsets) - 1, -1, case.documents.shape[1])
    query = case.query.bfloat16()[None]

    def score(_: int) -> Tensor:
        with torch.inference_mode():
            found: Tensor = maxsim_reference(query, documents)[0]
            return found

    return score


def _maxsim_cpu(case: Case) -> Score:
    import maxsim_cpu

    documents = [part.numpy() for part in case.apart(case.documents)]
    query = case.query.numpy()
    return lambda _: torch.as_tensor(maxsim_cpu.maxsim_scores_variable(query, documents))


def _numkong(case: Case) -> Score:
    import numkong

    parts = case.apart(case.documents)
    documents = [numkong.maxsim_pack(numkong.Tensor(part.numpy()).astype("bf16")) for part in parts]
    query = numkong.maxsim_pack(numkong.Tensor(case.query.numpy()).astype("bf16"))
    length = len(case.query)  # its score is a sum of angular distances, 1 - cosine each

    def score(_: int) -> Tensor:
        distances = [numkong.maxsim_packed(query, document) for document in documents]
        return length - torch.tensor(distances)

    return score


def _assert_parity(case: Case, contenders: dict[str, Score]) -> list[Row]:
    """Exact contenders must agree with float64.

    Raises:
        ParityError: one does not.
    """
    query, documents = case.query.double(), case.documents.double()
    truth = torch.stack([(part @ query.T).amax(0).sum() for part in case.apart(documents)])
    rows = []
    for name, score in contenders.items():
        error = (score(0).double() - truth).abs().max().item()
        rows.append(Row("maxsim", case.name, name, "largest error", error))
        if name not in _INEXACT and not error <= _TOLERANCE * truth.abs().max():
            raise ParityError(f"{name} is off by {error:.3g} at {case.name}")
    return rows


def _measure(case: Case, contenders: dict[str, Score], count: int, rounds: int) -> list[Row]:
    timed = {name: processor_stopwatch(score) for name, score in contenders.items()}
    seconds = interleave(timed, rounds=rounds)
    name = f"{case.name}, {count} thread{'s' if count > 1 else ''}"
    peak = gemm_peak(torch.bfloat16)
    rows = []
    for contender, times in seconds.items():
        rates = [(len(case.offsets) - 1) / time for time in times]
        share = 100 * case.operations / statistics.median(times) / peak
        rows.append(Row.of("maxsim", name, contender, "rate", rates, "documents/CPU s"))
        rows.append(Row("maxsim", name, contender, "of the bf16 GEMM peak", share, "%"))
        if contender != OURS:
            rows.append(
                ratio(
                    times,
                    seconds[OURS],
                    benchmark="maxsim",
                    case=name,
                    contender=contender,
                    metric=f"processor time / {OURS}",
                )
            )
    return rows
