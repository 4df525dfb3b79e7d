"""How many queries a second does late interaction answer, and with how many bytes a token?

Documents are those of :mod:`maxsight.benchmarks.material.token_topics`, of several topics each,
where the pooled vector fails. The truth is exact MaxSim in float32; recall is of its ten best.
Contenders run on one thread, figures are per second of processor time. What a user would write in
torch: exact scores; MUVERA encodings of 4,096 dimensions, or the mean of the tokens, for
    candidates, and exact
scores of these; tokens in bfloat16. fast-plaid is measured where ``--peers`` names the directory
that ``python -m maxsight.benchmarks.peers`` filled.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

from maxsight.benchmarks.material.token_topics import TokenTopics, token_topics
from maxsight.benchmarks.measure.interleave import interleave, processor_stopwatch, ratio
from maxsight.benchmarks.measure.parity import ParityError
from maxsight.benchmarks.measure.peaks import threads
from maxsight.benchmarks.measure.rows import Row
from maxsight.benchmarks.peers import tools as peer_tools
from maxsight.benchmarks.peers.tools import Peer
from maxsight.index.array_types import Floats, Rows
from maxsight.index.late.late_index import LateIndex
from maxsight.index.records import TokenTable
from maxsight.kernels import fde
from maxsight.kernels.maxsim import Int8Tokens

K = 10
_BATCH = 64
_BENCHMARK = "late-interaction"
_MUVERA = "torch: MUVERA 4,096 + 160"
# fast-plaid's documents scored in full and lists visited.
_PLAID = ((256, 8), (1024, 8), (1024, 32))
# The name that an index's codes have here, and what else it is built with.
_OURS: Mapping[str, tuple[str, str | None]] = {
    "maxsight, int8": ("int8", None),
    "maxsight, 5 bits": ("5bit", None),
    "maxsight, 4 bits": ("4bit", None),
    "maxsight, int8, MUVERA": ("int8", "auto"),
}

# Queries (B, l, d) -> (B, K) rows
Search = Callable[[Floats], Rows]


@dataclasses.dataclass(frozen=True)
class Contender:
    """A way of searching.

    Attributes:
        search: queries to rows.
        build: seconds of the processor that making it took.
        bytes: of a token, all included.
    """

    search: Search
    build: float
    bytes: float


def run(
    data: Path,
    *,
    documents: int = 3_000,
    queries: Annotated[int, typer.Option(help="A multiple of 64.")] = 192,
    rounds: int = 7,
    peers: Annotated[Path | None, typer.Option(help="Where peers are installed.")] = None,
) -> list[Row]:
    """Measure.

    Args:
        data: not needed.
        documents: of 70 tokens, d = 128.
        queries: of 32 tokens; asked 64 at once, and one at a time.
        rounds: of every contender.
        peers: the directory of ``maxsight.benchmarks.peers``.
    """
    topics = token_topics(documents, queries)
    case = f"{documents:,} x 70 tokens"
    with ExitStack() as stack, threads(1), one_core():
        truth = exact(topics)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        contenders = in_torch(topics) | ours(topics, folder)
        rows = []
        for name, contender in contenders.items():
            parts = np.split(topics.queries, queries // _BATCH)
            found = np.concatenate([contender.search(part) for part in parts])
            rows += described(case, name, contender, recall(found, truth), queries)
        check(rows)
        for asked in (_BATCH, 1):
            groups = np.split(topics.queries, queries // asked)
            calls = {
                name: processor_stopwatch(asking(contender.search, groups))
                for name, contender in contenders.items()
            }
            if peers is not None:
                for name, peer in plaid(stack, peers, folder, topics, groups).items():
                    calls[name] = peer_stopwatch(peer, len(groups))
                    if asked > 1:
                        ids = [peer.search(group, K).ids for group in range(len(groups))]
                        found = np.concatenate(ids).reshape(queries, K)
                        rows += peer_rows(case, name, peer, recall(found, truth), folder, topics)
            several = f"{case}, {asked} queries at once" if asked > 1 else f"{case}, one query"
            rows += timed(several, asked, interleave(calls, rounds=rounds))
    return rows


@contextmanager
def one_core() -> Iterator[None]:
    """Keep to one core: our own threads are as many as there are cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def asking(search: Search, groups: list[Floats]) -> Callable[[int], Rows]:
    """A search of another group each time."""
    return lambda number: search(groups[number % len(groups)])


def peer_stopwatch(peer: Peer, groups: int) -> Callable[[int], float]:
    """A peer's own seconds, of another group each time."""
    return lambda number: peer.search(number % groups, K).seconds


def exact(topics: TokenTopics) -> Rows:
    """(Q, K) the best by MaxSim in float32."""
    return best(maxsim(torch.from_numpy(topics.queries), torch.from_numpy(topics.documents)), K)


def maxsim(queries: Tensor, documents: Tensor) -> Tensor:
    """(B, N) of queries (B, l, d) and documents (N, L, d)."""
    flat, parts = queries.flatten(0, 1), []
    for part in torch.split(documents, 12_000 // documents.shape[1]):
        product = (part.flatten(0, 1) @ flat.T).float().view(len(part), part.shape[1], -1)
        parts.append(product.amax(1).view(len(part), len(queries), -1).sum(2))
    return torch.cat(parts).T


def best(scores: Tensor, k: int) -> Rows:
    """(B, k) rows of highest score."""
    rows: Rows = scores.topk(k).indices.numpy()
    return rows


def in_torch(topics: TokenTopics) -> dict[str, Contender]:
    """What a user would write."""
    documents = torch.from_numpy(topics.documents)
    per_token = documents.shape[1]
    start = time.process_time()
    low = documents.bfloat16()
    rounding = time.process_time() - start
    means = torch.nn.functional.normalize(documents.mean(1), dim=1)
    pooling = time.process_time() - start
    config = fde.Config(token_dim=documents.shape[2], repetitions=16)
    start = time.process_time()
    encoded = fde.encode_documents(documents.flatten(0, 1), edges(documents), config).bfloat16()
    encoding = rounding + time.process_time() - start
    stored = 2.0 * documents.shape[2]

    def scored(queries: Tensor, candidates: Tensor) -> Rows:
        found = []
        for query, rows in zip(queries.bfloat16(), candidates):
            product = (low[rows] @ query.T).float()
            found.append(rows[product.amax(1).sum(1).topk(K).indices])
        rows_found: Rows = torch.stack(found).numpy()
        return rows_found

    def by_muvera(count: int) -> Search:
        def search(given: Floats) -> Rows:
            queries = torch.from_numpy(given)
            asked = fde.encode_queries(queries.flatten(0, 1), edges(queries), config)
            return scored(queries, (asked.bfloat16() @ encoded.T).float().topk(count).indices)

        return search

    def by_mean(given: Floats) -> Rows:
        queries = torch.from_numpy(given)
        return scored(queries, (queries.mean(1) @ means.T).topk(320).indices)

    def all_of_them(given: Floats) -> Rows:
        return best(maxsim(torch.from_numpy(given).bfloat16(), low), K)

    with_muvera = stored + 2 * config.dim / per_token
    return {
        "torch: exact, bfloat16": Contender(all_of_them, rounding, stored),
        _MUVERA: Contender(by_muvera(160), encoding, with_muvera),
        "torch: MUVERA 4,096 + 240": Contender(by_muvera(240), encoding, with_muvera),
        "torch: mean + 320": Contender(by_mean, pooling, stored + 4 * 128 / per_token),
    }


def edges(sequences: Tensor) -> Tensor:
    """Offsets of sequences (B, L, d)."""
    return torch.arange(len(sequences) + 1) * sequences.shape[1]


def ours(topics: TokenTopics, folder: Path) -> dict[str, Contender]:
    """The index, in several forms."""
    count, length, dim = topics.documents.shape
    rounded = Int8Tokens.of(torch.from_numpy(topics.documents.reshape(-1, dim)))
    table = TokenTable(
        rounded.values.numpy(),
        rounded.scale.numpy(),
        np.ones(count * length, np.float32),
        np.arange(count + 1) * length,
    )
    found = {}
    for name, (codes, encodings) in _OURS.items():
        start = time.process_time()
        index = LateIndex.build(
            folder / name.replace(" ", "-"), [table], codes=codes, encodings=encodings
        )
        seconds = time.process_time() - start

        def search(queries: Floats, index: LateIndex = index) -> Rows:
            return np.stack([rows for rows, _ in index.search(list(queries), K)])

        found[name] = Contender(search, seconds, index.bytes() / len(table.tokens))
    return found


def plaid(
    stack: ExitStack,
    environments: Path,
    folder: Path,
    topics: TokenTopics,
    groups: list[Floats],
) -> dict[str, Peer]:
    """fast-plaid at work, once for each of its settings."""
    found = {}
    for full, probes in _PLAID:
        arguments = (str(folder / "fast-plaid"), str(full), str(probes))
        tool = dataclasses.replace(peer_tools.TOKEN_TOOLS[0], arguments=arguments)
        found[f"fast-plaid, {full} of {probes} lists"] = stack.enter_context(
            Peer(tool, environments, vectors=topics.documents, queries=np.stack(groups))
        )
    return found


def recall(found: Rows, truth: Rows) -> float:
    """The share of the true rows that was found."""
    return float((truth[:, :, None] == found[:, None, :]).any(2).mean())


def described(case: str, name: str, contender: Contender, found: float, queries: int) -> list[Row]:
    return [
        Row(_BENCHMARK, case, name, f"recall@{K}", found, runs=queries),
        Row(_BENCHMARK, case, name, "size", contender.bytes, "bytes/token"),
        Row(_BENCHMARK, case, name, "build", contender.build, "CPU s"),
    ]


def peer_rows(
    case: str, name: str, peer: Peer, found: float, folder: Path, topics: TokenTopics
) -> list[Row]:
    files = (folder / "fast-plaid" / "index").rglob("*")
    size = sum(file.stat().st_size for file in files if file.is_file())
    tokens = topics.documents.shape[0] * topics.documents.shape[1]
    contender = Contender(lambda queries: np.empty(0, np.int64), peer.setup, size / tokens)
    return described(case, name, contender, found, len(topics.queries))


def check(rows: list[Row]) -> None:
    """Exact search in bfloat16 must find nearly all, or the truth is not what contenders search."""
    for row in rows:
        if row.metric.startswith("recall") and "exact" in row.contender and row.value < 0.98:
            raise ParityError(f"{row.contender} finds {row.value:.3f} of the ten best")


def timed(case: str, asked: int, seconds: Mapping[str, list[float]]) -> list[Row]:
    rows = []
    for name, each in seconds.items():
        rates = [asked / one for one in each]
        rows.append(Row.of(_BENCHMARK, case, name, "rate", rates, "queries/CPU s"))
        for other in (_MUVERA, *(peer for peer in seconds if peer.startswith("fast-plaid"))):
            if name.startswith("maxsight"):
                rows.append(
                    ratio(
                        seconds[other],
                        each,
                        benchmark=_BENCHMARK,
                        case=case,
                        contender=name,
                        metric=f"rate / {other}",
                    )
                )
    return rows
