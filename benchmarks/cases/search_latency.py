"""How long does a warm search take, against FAISS flat and other tools?

One query at a time, ten hits, over synthetic vectors (:mod:`maxsight.benchmarks.material.vectors`)
that every contender holds with the same numbers. FAISS flat is ``IndexFlatIP.search`` and nothing
else: row numbers, no files; with all cores, as it comes, and with one, which is often faster on a
busy machine: ratios are to the better of the two. maxsight is measured whole, from a text whose
vector is cached to hits with paths, and also from a vector to units. Peers run their own code in
their own processes; what of each runs offline is said in ``peers/*_worker.py``.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

import maxsight
from maxsight import settings
from maxsight.benchmarks.material.vectors import Cloud, cloud
from maxsight.benchmarks.measure.interleave import interleave, processor_stopwatch, ratio, stopwatch
from maxsight.benchmarks.measure.parity import assert_same_hits
from maxsight.benchmarks.measure.rows import Row, timed
from maxsight.benchmarks.peers import tools as peer_tools
from maxsight.errors import BackendError
from maxsight.index.records import Changes, EncodedItem, FileState
from maxsight.index.store import Store
from maxsight.pipelines.query.language import Query, Term
from maxsight.pipelines.query.text_cache import TextCache

if TYPE_CHECKING:
    from maxsight.library import Library

K = 10
# Every contender sums D products of float32 or float64 in its own order.
TOLERANCE = 1e-4
_FLAT, _FLAT_ONE = "faiss flat, all cores", "faiss flat, one core"
_FINGERPRINT = "synthetic"
_ADDED_AT_ONCE = 50_000
_PEER_PARITY = 8  # queries; one takes rclip half a minute at a million vectors

Search = Callable[[int], tuple[list[int], list[float]]]


def run(
    data: Path,
    *,
    size: Annotated[list[int] | None, typer.Option(help="Vectors; may be repeated.")] = None,
    dim: Annotated[list[int] | None, typer.Option(help="Their width; may be repeated.")] = None,
    peers: Annotated[
        Path | None, typer.Option(help="What `python -m maxsight.benchmarks.peers` filled.")
    ] = None,
    queries: int = 64,
) -> list[Row]:
    """Measure.

    Args:
        data: not needed.
        size: how many vectors; 1,000, 10,000 and 100,000 unless given.
        dim: of what width; 512 unless given.
        peers: directory of other tools' environments. Without it they are left out.
        queries: different ones, asked in turn.

    Returns:
        Latency of each contender, and how many times FAISS flat's it is, by wall clock and (of
        those in this process) by processor time: a search on all cores is no cheaper for being
        sooner.
    """
    rows = []
    for width in dim or [512]:
        for count in size or [1_000, 10_000, 100_000]:
            rounds = max(11, min(200, 5_000_000 // count))
            rows += measure(cloud(count, width, queries=queries), rounds=rounds, peers=peers)
            gc.collect()
    return rows


def measure(vectors: Cloud, *, rounds: int, peers: Path | None = None) -> list[Row]:
    """The rows of one set of vectors. Parity of all contenders is asserted first.

    Args:
        rounds: searches of each contender.
        peers: as in :func:`run`.

    Raises:
        ParityError: a contender that searches exactly gave another answer than FAISS flat.
    """
    import faiss

    count, dim = vectors.vectors.shape
    case = f"{_short(count)} x {dim}"
    asked = len(vectors.queries)
    with ExitStack() as stack:
        searches: dict[str, Search] = {}
        flat = faiss.IndexFlatIP(dim)
        flat.add(vectors.vectors)
        library = stack.enter_context(synthetic_library(vectors))
        tools = _start_peers(stack, peers, vectors)
        queries = vectors.queries
        del vectors  # two gigabytes at a million; the contenders hold their own now

        snapshot_of = _Reader(library)
        searches[_FLAT] = lambda i: _flat_search(flat, queries[i % asked])
        searches[_FLAT_ONE] = lambda i: _flat_search(flat, queries[i % asked], threads=1)
        searches["maxsight"] = lambda i: _face_search(library, i % asked)
        searches["maxsight, index alone"] = lambda i: snapshot_of.search(queries[i % asked])
        rows = _assert_parity(case, searches, tools, asked)

        contenders = {name: stopwatch(search) for name, search in searches.items()}
        contenders |= {name: _asked_of(peer, asked) for name, peer in tools.items()}
        seconds = interleave(contenders, rounds=rounds)
        processor = interleave(
            {name: processor_stopwatch(search) for name, search in searches.items()}, rounds=rounds
        )
    rows += [
        timed(times, benchmark="latency", case=case, contender=name, metric="latency")
        for name, times in seconds.items()
    ]
    for metric, measured in (("latency", seconds), ("processor time", processor)):
        best = min((_FLAT, _FLAT_ONE), key=lambda name: statistics.median(measured[name]))
        rows += [
            ratio(
                times,
                measured[best],
                benchmark="latency",
                case=case,
                contender=name,
                metric=f"{metric} / faiss flat",
            )
            for name, times in measured.items()
            if name not in (_FLAT, _FLAT_ONE)
        ]
    return rows


@contextmanager
def synthetic_library(vectors: Cloud) -> Iterator[Library]:
    """A library on disk whose pictures have the given vectors, and that knows their queries.

    Picture ``i`` is ``/pictures/{i:08}.jpg``; the text ``query i`` has the vector of query ``i``
    in the cache, so that no encoder is ever loaded.
    """
    count, dim = vectors.vectors.shape
    with tempfile.TemporaryDirectory(prefix="maxsight-latency-") as scratch, cache_in(scratch):
        path = Path(scratch) / "synthetic.maxsight"
        with Store.create(
            path, encoder_uri="builtin", fingerprint=_FINGERPRINT, dim=dim, token_dim=None
        ) as store:
            for start in range(0, count, _ADDED_AT_ONCE):
                block = vectors.vectors[start : start + _ADDED_AT_ONCE].astype(np.float16)
                store.apply(Changes(added=[_item(start + i, v) for i, v in enumerate(block)]))
        cache = TextCache(settings.cache_directory() / "texts.sqlite")
        cache.put(_FINGERPRINT, {f"query {i}": v for i, v in enumerate(vectors.queries)})
        cache.close()
        with maxsight.open(path) as library:
            yield library


def _item(number: int, vector: np.ndarray) -> EncodedItem:
    return EncodedItem(
        FileState(f"/pictures/{number:08}.jpg", 1, number),
        kind="image",
        content_hash=f"{number:064x}",
        width=1,
        height=1,
        vectors=vector[None],
    )


@contextmanager
def cache_in(folder: str) -> Iterator[None]:
    """Have this process, and those that it starts, keep their cache in ``folder``."""
    before = os.environ.get("MAXSIGHT_CACHE")
    os.environ["MAXSIGHT_CACHE"] = folder
    try:
        yield
    finally:
        if before is None:
            del os.environ["MAXSIGHT_CACHE"]
        else:
            os.environ["MAXSIGHT_CACHE"] = before


class _Reader:
    """The library's index without the face around it."""

    def __init__(self, library: Library) -> None:
        with Store.open(library.path) as store:
            self._snapshot = store.snapshot()

    def search(self, query: np.ndarray) -> tuple[list[int], list[float]]:
        (hits,) = self._snapshot.search(query[None], K)
        return [_number(hit.path) for hit in hits], [hit.score for hit in hits]


def _face_search(library: Library, number: int) -> tuple[list[int], list[float]]:
    hits = library.query(Query((Term(text=f"query {number}"),), k=K)).hits
    return [_number(hit.path) for hit in hits], [hit.score for hit in hits]


def _flat_search(
    flat: Any, query: np.ndarray, *, threads: int | None = None
) -> tuple[list[int], list[float]]:
    import faiss

    usual = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads or usual)
    scores, ids = flat.search(query[None], K)
    faiss.omp_set_num_threads(usual)
    return ids[0].tolist(), scores[0].tolist()


def _number(path: str) -> int:
    return int(path[-12:-4])


def _asked_of(peer: peer_tools.Peer, asked: int) -> Callable[[int], float]:
    return lambda number: peer.search(number % asked, K).seconds


def _start_peers(
    stack: ExitStack, environments: Path | None, vectors: Cloud
) -> dict[str, peer_tools.Peer]:
    """Those peers that can hold these vectors. Of the others the reason is printed."""
    started = {}
    count, dim = vectors.vectors.shape
    for tool in peer_tools.TOOLS:
        if environments is None:
            reason = "no --peers directory was given"
        elif tool.dims is not None and dim not in tool.dims:
            reason = f"it holds vectors of {tool.dims[0]} numbers only"
        elif count > tool.most:
            reason = f"building it is not tried above {tool.most:,} vectors"
        else:
            try:
                peer = peer_tools.Peer(
                    tool, environments, vectors=vectors.vectors, queries=vectors.queries
                )
            except BackendError as error:
                reason = str(error)
            else:
                started[f"{tool.name} ({peer.version})"] = stack.enter_context(peer)
                continue
        print(f"left out at {count:,} x {dim}: {tool.name}: {reason}", file=sys.stderr)
    return started


def _assert_parity(
    case: str, searches: dict[str, Search], tools: dict[str, peer_tools.Peer], asked: int
) -> list[Row]:
    """Every exact contender must answer as FAISS flat does; of the others recall is returned."""
    truths = [searches[_FLAT](number) for number in range(asked)]
    for name, search in searches.items():
        for number, truth in enumerate(truths):
            assert_same_hits(name, search(number), truth, tolerance=TOLERANCE)
    rows = []
    for name, peer in tools.items():
        if peer.tool.is_exact:
            for number, truth in enumerate(truths[:_PEER_PARITY]):
                answer = peer.search(number, K)
                found = (answer.ids, answer.scores)
                assert_same_hits(name, found, truth, tolerance=TOLERANCE)
            continue
        answers = [peer.search(number, K) for number in range(asked)]
        shares = [len({*answer.ids} & {*ids}) / K for answer, (ids, _) in zip(answers, truths)]
        rows.append(Row("latency", case, name, f"recall@{K}", float(np.mean(shares)), runs=asked))
    return rows


def _short(count: int) -> str:
    if count % 1_000_000 == 0:
        return f"{count // 1_000_000}M"
    return f"{count // 1_000}k" if count % 1_000 == 0 else str(count)
