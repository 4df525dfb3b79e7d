"""How many queries a second does an approximate index answer at a recall, against FAISS's?

Queries are out of distribution, as texts are for pictures
(:mod:`maxsight.benchmarks.material.ann_data`). Every contender's search settings are swept for
each recall wanted, the fastest that reaches it taken, and these then run in turns on one thread:
all queries at once, and one at a time. Figures are of processor time. Bytes are all that an index
holds in memory, whatever ranks its shortlist included. hnswlib, usearch, SVS and ScaNN are
measured where ``--peers`` names the directory that ``python -m maxsight.benchmarks.peers``
filled; their bytes are those of the index they save.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from maxsight.benchmarks.material.ann_data import Collection, Gap, made
from maxsight.benchmarks.measure.interleave import interleave, ratio
from maxsight.benchmarks.measure.parity import ParityError
from maxsight.benchmarks.measure.peaks import threads
from maxsight.benchmarks.measure.rows import Row
from maxsight.benchmarks.peers import tools as peer_tools
from maxsight.benchmarks.peers.tools import Peer
from maxsight.errors import BackendError
from maxsight.index import faiss_build
from maxsight.index.ann import auto, faiss_calls, faiss_kinds
from maxsight.index.ann.contract import Effort, VectorIndex
from maxsight.index.array_types import Floats, Rows
from maxsight.kernels.halves import unpack

K = 10
RECALLS = (0.90, 0.95, 0.99)
BASELINE = "FAISS IVF-PQ fast-scan + SQ8"
# Queries that settings are tried on, and single ones.
_SWEPT = 1_000
_SINGLES = 200
_SINGLE_ROUNDS = 3
_SHORTLISTS = (20, 30, 40, 60, 80, 100, 130, 160, 200, 300, 500)
# Rows to learn from for each list.
_ROWS_A_LIST = 64
_WIDENED_ROWS = 65_536
# What scores may be off that a peer computed of bfloat16 numbers.
_SCORE_ERROR = 0.01
# The answers that are timed may fall this much short of the recall that a setting had in the sweep.
_RECALL_ERROR = 0.01

Search = Callable[[Floats, Effort], Rows]


@dataclass(frozen=True, eq=False)
class Asked:
    """Some queries, answered.

    Attributes:
        rows: (Q, K), -1 where none was found.
        seconds: of the processor; the median of the parts in which they were asked.
    """

    rows: Rows
    seconds: float


# The first so many queries, so many of them at once.
Ask = Callable[[int, int, Effort], Asked]


@dataclass(frozen=True, eq=False)
class Built:
    """An index over a collection.

    Attributes:
        name: of the contender; several builds of one contender compete for its best.
        spec: what was built.
        ask: for the ten best of the first queries.
        probes, shortlists: settings to sweep, each rising.
        bytes: of memory a row. build: CPU seconds.
    """

    name: str
    spec: str
    ask: Ask
    probes: list[int]
    shortlists: tuple[int, ...]
    bytes: float
    build: float


@dataclass(frozen=True, eq=False)
class Tuned:
    """The fastest setting of a contender that reaches a recall."""

    built: Built
    effort: Effort
    recall: float
    seconds: float


def run(
    data: Path,
    *,
    size: Annotated[int, typer.Option(help="Vectors.")] = 200_000,
    dim: int = 512,
    gap: Annotated[str, typer.Option(help="none, mild or strong.")] = "strong",
    queries: int = 1_000,
    rounds: int = 7,
    graphs: Annotated[bool, typer.Option(help="FAISS's HNSW too, slow to build.")] = True,
    spec: Annotated[list[str] | None, typer.Option(help="Ours; may be repeated.")] = None,
    peers: Annotated[Path | None, typer.Option(help="Where peers are installed.")] = None,
) -> list[Row]:
    """Measure.

    Args:
        data: not needed.
        size: how many vectors.
        dim: of what width.
        gap: how far queries are from them.
        queries: how many, in one batch.
        rounds: of every contender at every recall.
        graphs: whether FAISS's HNSW competes.
        spec: what competes for us, as ``maxsight index --index`` takes it; what auto chooses unless
            given.
        peers: the directory of ``maxsight.benchmarks.peers``. Without it they are left out.
    """
    chosen: dict[str, Gap] = {"none": "none", "mild": "mild", "strong": "strong"}
    collection = made(size, dim, chosen[gap], queries=queries)
    _, truth = collection.truth(K)
    lists = 2 ** round(np.log2(4 * size**0.5))
    with ExitStack() as stack, threads(1):
        built = [
            *_ours(collection, lists, spec),
            *_kinds_of_faiss(collection, lists, graphs),
            *_peers(stack, peers, collection, lists),
        ]
        rows = [row for index in built for row in _sizes(collection, index)]
        sweeps = [_Sweep(collection, truth, index) for index in built]
        for recall in RECALLS:
            rows += _measure(collection, truth, sweeps, recall, rounds)
    return rows


def _ours(collection: Collection, lists: int, specs: list[str] | None) -> Iterator[Built]:
    count, dim = collection.vectors.shape
    chosen = auto.choose(count, dim, budget=2**40, texts=True).spec
    if chosen == auto.EXACT:
        # Too few to need an index: the one that more of them would get.
        chosen = f"leanvec:{3 * dim // 8}/IVF{lists},PQ{3 * dim // 16}x4fsr+int8"
    for spec in specs or [chosen]:
        start = time.process_time()
        index = auto.make(spec, dim)
        index.train(_sample(collection, lists), collection.known)
        index.add(collection.vectors)
        seconds = time.process_time() - start

        def search(queries: Floats, effort: Effort, index: VectorIndex = index) -> Rows:
            return index.search(queries, K, effort=effort)[1]

        ask, size = _here(collection, search), index.bytes() / count
        yield Built("maxsight", spec, ask, _probes(lists // 4), _SHORTLISTS, size, seconds)


def _kinds_of_faiss(collection: Collection, lists: int, graphs: bool) -> Iterator[Built]:
    dim = collection.vectors.shape[1]
    wanted = [
        (BASELINE, f"IVF{lists},PQ{dim // 4}x4fsr", True),
        (BASELINE, f"IVF{lists},PQ{dim // 8}x4fsr", True),
        ("FAISS IVF-RaBitQ + SQ8", f"IVF{lists},RaBitQ", True),
        ("FAISS IVF-SQ8", f"IVF{lists},SQ8", False),
    ]
    wanted += [("FAISS HNSW SQ8", "HNSW32,SQ8", False)] if graphs else []
    for name, spec, refined in wanted:
        yield _faiss(collection, lists, name, spec, refined)


def _faiss(collection: Collection, lists: int, name: str, spec: str, refined: bool) -> Built:
    faiss = faiss_build.load()
    count, dim = collection.vectors.shape
    full = f"{spec},Refine(SQ8)" if refined else spec
    start = time.process_time()
    index = faiss.index_factory(dim, full, faiss.METRIC_INNER_PRODUCT)
    index.train(_sample(collection, lists))
    for first in range(0, count, _WIDENED_ROWS):
        index.add(unpack(collection.vectors[first : first + _WIDENED_ROWS]))
    seconds = time.process_time() - start
    core = faiss.downcast_index(index.base_index) if refined else index
    graph = spec.startswith("HNSW")

    def search(queries: Floats, effort: Effort) -> Rows:
        if graph:
            parameters = faiss.SearchParametersHNSW(efSearch=effort.probes)
        else:
            parameters = faiss.SearchParametersIVF(nprobe=effort.probes)
        if refined:
            parameters = faiss.IndexRefineSearchParameters(
                k_factor=effort.shortlist / K, base_index_params=parameters
            )
        return faiss_calls.search(index, queries, K, parameters)[1]

    probes = _probes(4096 if graph else lists // 4)
    shortlists = _SHORTLISTS if refined else (K,)
    size = faiss_kinds.held_bytes(core, count) / count + (dim if refined else 0)
    return Built(name, full, _here(collection, search), probes, shortlists, size, seconds)


def _peers(
    stack: ExitStack, environments: Path | None, collection: Collection, lists: int
) -> Iterator[Built]:
    """Those that are installed, at work. Of the others the reason is printed."""
    count = len(collection.vectors)
    for tool in peer_tools.INDEX_TOOLS:
        try:
            if environments is None:
                raise BackendError("no --peers directory was given")
            peer = Peer(tool, environments, vectors=collection.vectors, queries=collection.queries)
        except BackendError as error:
            print(f"left out at {collection.name}: {tool.name}: {error}", file=sys.stderr)
            continue
        stack.enter_context(peer)
        spec = " ".join([peer.version, *tool.arguments[1:]])
        has_lists = tool.environment == "scann-core"
        probes = _probes(lists // 2) if has_lists else [p for p in _probes(4096) if p >= K]
        shortlists = _SHORTLISTS if has_lists else (K,)
        ask, size = _there(collection, peer), peer.bytes / count
        yield Built(tool.name, spec, ask, probes, shortlists, size, peer.setup)


def _here(collection: Collection, search: Search) -> Ask:
    def ask(count: int, at_once: int, effort: Effort) -> Asked:
        rows, seconds = [], []
        for first in range(0, count, at_once):
            queries = collection.queries[first : min(count, first + at_once)]
            start = time.process_time()
            rows.append(search(queries, effort))
            seconds.append(time.process_time() - start)
        return Asked(np.concatenate(rows), statistics.median(seconds))

    return ask


def _there(collection: Collection, peer: Peer) -> Ask:
    """Of a peer in its own process; its scores must be those of the rows that it names."""

    def ask(count: int, at_once: int, effort: Effort) -> Asked:
        answer = peer.ask(count, at_once, K, effort.probes, effort.shortlist)
        scores = np.array(answer.scores).reshape(count, K)
        rows = np.where(np.isnan(scores), -1, np.array(answer.ids).reshape(count, K))
        products = np.einsum("qd,qkd->qk", collection.queries[:count], collection.vectors[rows])
        off = np.abs(products - scores)[rows >= 0].max(initial=0)
        if off > _SCORE_ERROR:
            raise ParityError(f"{peer.tool.name}: a score is {off:.3f} from that of its row")
        return Asked(rows, answer.seconds)

    return ask


def _sample(collection: Collection, lists: int) -> Floats:
    return unpack(collection.vectors[: max(20_000, _ROWS_A_LIST * lists)])


def _probes(most: int) -> list[int]:
    """Powers of two and what lies halfway between."""
    found = [
        step for power in range(2, 13) for step in (2**power, 3 * 2 ** (power - 1)) if step <= most
    ]
    return sorted(found)


def _measure(
    collection: Collection, truth: Rows, sweeps: list[_Sweep], recall: float, rounds: int
) -> list[Row]:
    case = f"{collection.name}, recall@{K} {recall:.2f}"
    best: dict[str, Tuned] = {}
    rows = []
    for sweep in sweeps:
        tuned = sweep.fastest(recall)
        known = best.get(tuned.built.name) if tuned else None
        if tuned and (known is None or tuned.seconds < known.seconds):
            best[tuned.built.name] = tuned
    asked = len(collection.queries)
    batch = interleave(
        {name: _stopwatch(tuned, asked, asked) for name, tuned in best.items()}, rounds=rounds
    )
    few = min(_SINGLES, asked)
    singles = interleave(
        {name: _stopwatch(tuned, few, 1) for name, tuned in best.items()}, rounds=_SINGLE_ROUNDS
    )
    for sweep in sweeps:
        most = sweep.best()
        if most.built.name not in best:
            metric = f"recall@{K} at most: {_setting(most)}"
            rows.append(Row("ann", case, most.built.name, metric, most.recall, runs=asked))
    for name, tuned in best.items():
        reached = _recall(tuned.built.ask(asked, asked, tuned.effort).rows, truth)
        if reached < recall - _RECALL_ERROR:
            raise ParityError(f"{name} is timed at recall {reached:.3f} instead of {recall}")
        metric = f"recall@{K}: {_setting(tuned)}"
        rows.append(Row("ann", case, name, metric, reached, runs=asked))
        rates = [asked / each for each in batch[name]]
        rows.append(Row.of("ann", case, name, "rate", rates, "queries/CPU s"))
        times = [1000 * each for each in singles[name]]
        rows.append(Row.of("ann", case, name, "one query", times, "CPU ms"))
    for name in best:
        if name != "maxsight" and "maxsight" in best:
            for metric, seconds in (("batch", batch), ("one query", singles)):
                rows.append(
                    ratio(
                        seconds["maxsight"],
                        seconds[name],
                        benchmark="ann",
                        case=case,
                        contender="maxsight",
                        metric=f"{metric}: processor time / {name}",
                    )
                )
    return rows


class _Sweep:
    """What the settings of an index reach and cost; each is tried once, on some of the queries."""

    def __init__(self, collection: Collection, truth: Rows, index: Built) -> None:
        self._count = min(_SWEPT, len(collection.queries))
        self._truth = truth[:_SWEPT]
        self._index = index
        self._tried: dict[Effort, Tuned] = {}

    def tuned(self, effort: Effort) -> Tuned:
        if effort not in self._tried:
            asked = self._index.ask(self._count, self._count, effort)
            recall = _recall(asked.rows, self._truth)
            self._tried[effort] = Tuned(self._index, effort, recall, asked.seconds)
        return self._tried[effort]

    def best(self) -> Tuned:
        """Of all that was tried."""
        return max(self._tried.values(), key=lambda tuned: tuned.recall)

    def fastest(self, recall: float) -> Tuned | None:
        """Of the settings that reach a recall; None if none does.

        At each number of probes the least shortlist that reaches it; more probes until that takes
        twice as long as the best so far.
        """
        best: Tuned | None = None
        for probes in self._index.probes:
            low, high = 0, len(self._index.shortlists) - 1
            efforts = [Effort(probes, wide) for wide in self._index.shortlists]
            if self.tuned(efforts[high]).recall < recall:
                continue
            while low < high:
                middle = (low + high) // 2
                if self.tuned(efforts[middle]).recall < recall:
                    low = middle + 1
                else:
                    high = middle
            found = self.tuned(efforts[low])
            if best is None or found.seconds < best.seconds:
                best = found
            elif found.seconds > 2 * best.seconds:
                break
        return best


def _stopwatch(tuned: Tuned, count: int, at_once: int) -> Callable[[int], float]:
    return lambda _: tuned.built.ask(count, at_once, tuned.effort).seconds


def _setting(tuned: Tuned) -> str:
    effort = tuned.effort
    return f"{tuned.built.spec}, probes {effort.probes}, shortlist {effort.shortlist}"


def _sizes(collection: Collection, index: Built) -> list[Row]:
    case = collection.name
    return [
        Row("ann", case, f"{index.name}: {index.spec}", "memory", index.bytes, "bytes a vector"),
        Row("ann", case, f"{index.name}: {index.spec}", "build", index.build, "CPU s"),
    ]


def _recall(rows: Rows, truth: Rows) -> float:
    return float((rows[:, :, None] == truth[:, None, :]).any(axis=2).mean())
