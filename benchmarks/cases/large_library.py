"""Can a library be searched that is larger than the memory it may take?

A library of pictures and films is made, with an index, and searched by processes whose resident
memory the system caps, Python, Lance, FAISS and the cached pages of the library's files included: a
control group of their own, which only root may make. What needs more is killed. Recall is against
exact search, times are of one query after the other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from maxsight.benchmarks.material import ann_data
from maxsight.benchmarks.measure.rows import Row, spread
from maxsight.errors import UsageError
from maxsight.index.building import vector_index
from maxsight.index.records import Changes, EncodedItem, FileState
from maxsight.index.store import Store

_BENCHMARK = "large-library"
_FRAMES = 1_000  # of a film
_STEP = 50_000
_DEPTH = 10
_GROUPS = Path("/sys/fs/cgroup")
# Of the limit, what Python, NumPy, Arrow, Lance and FAISS take.
_PROGRAMS = 128 * 2**20

# Run with the library and the queries.
_SEARCH = """
import json, sys, time
import numpy as np
from maxsight.index.store import Store

queries = np.load(sys.argv[2])
with Store.open(sys.argv[1]) as store:
    start = time.perf_counter()
    snapshot = store.snapshot()
    opened = time.perf_counter() - start
    found, seconds = [], []
    for query in queries:
        start = time.perf_counter()
        hits = snapshot.search(query[None], 10)[0]
        seconds.append(time.perf_counter() - start)
        found.append([hit.unit_id for hit in hits])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
sizes = {name: int(status[name].split()[0]) * 1024 for name in ("VmHWM", "RssAnon")}
plan = snapshot.state.plan
print(json.dumps({"opened": opened, "seconds": seconds, "found": found, "sizes": sizes,
                  "in_memory": plan.in_memory, "planned": plan.held}))
"""


def run(
    data: Path,
    *,
    size: int = 2_000_000,
    dim: int = 512,
    pictures: int = 200_000,
    queries: int = 100,
    limits: str = "1024,512",
    index: str = "leanvec:128/IVF4096,PQ64x4fsr",
) -> list[Row]:
    """Make a library, then search it in little memory.

    Args:
        data: folder the library is made in, and deleted from.
        size: vectors.
        dim: of each.
        pictures: of them are one picture each; the others are frames of films.
        queries: texts asked one by one.
        limits: MiB a searching process may take, with commas between.
        index: as ``maxsight index --index`` takes it; it must fit the smallest limit.

    Returns:
        Recall, latency, and what a process took, for each limit.
    """
    data.mkdir(parents=True, exist_ok=True)
    collection = ann_data.made(size, dim, "mild", queries=queries)
    _, truth = collection.truth(_DEPTH)
    rows = []
    with tempfile.TemporaryDirectory(dir=data) as folder:
        library = Path(folder) / "large.maxsight"
        np.save(Path(folder) / "queries.npy", collection.queries)
        with Store.create(library, encoder_uri="made", fingerprint="made", dim=dim) as store:
            _fill(store, collection.vectors, pictures)
            store.compact(grace_seconds=0)
            report = vector_index.build(store.snapshot(), index, texts=lambda: collection.known)
        case = f"{size:,} x {dim} ({2 * dim * size / 2**20:,.0f} MiB), {report.index}"
        rows.append(_row(case, "index", "memory", report.bytes / 2**20, "MiB"))
        for limit in limits.split(","):
            answer = _ask(library, int(limit) * 2**20, Path(folder) / "queries.npy")
            rows += _rows(f"{case}, {limit} MiB allowed", answer, truth)
    return rows


def _fill(store: Store, vectors: np.ndarray, pictures: int) -> None:
    """Rows become units in their order."""
    for start in range(0, pictures, _STEP):
        places = range(start, min(start + _STEP, pictures))
        store.apply(Changes(added=[_item(place, vectors[place : place + 1]) for place in places]))
    for start in range(pictures, len(vectors), _STEP):
        part = vectors[start : start + _STEP]
        films = [_item(start + at, part[at : at + _FRAMES]) for at in range(0, len(part), _FRAMES)]
        store.apply(Changes(added=films))


def _item(name: int, vectors: np.ndarray) -> EncodedItem:
    is_film = len(vectors) > 1
    starts = np.arange(len(vectors), dtype=np.float64)
    return EncodedItem(
        state=FileState(f"/archive/2026/{name:08d}.{'mp4' if is_film else 'jpg'}", 1_000_000, name),
        kind="video" if is_film else "image",
        content_hash=f"{name:032x}",
        width=1920,
        height=1080,
        vectors=vectors,
        spans=np.stack([starts, starts + 1], axis=1) if is_film else None,
        duration_s=float(len(vectors)) if is_film else None,
    )


def _ask(library: Path, limit: int, queries: Path) -> dict[str, object]:
    search = [sys.executable, "-c", _SEARCH, str(library), str(queries)]
    with _capped(limit) as join:
        done = subprocess.run(
            ["sh", "-c", f'{join}; exec "$@"', "sh", *search],
            env={"MAXSIGHT_MEMORY": str(limit - _PROGRAMS), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(
            f"the search within {limit >> 20} MiB ended with {done.returncode}\n{done.stderr}"
        )
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


@contextmanager
def _capped(limit: int) -> Iterator[str]:
    """A control group; gives the shell command by which a process joins it."""
    old, new = _GROUPS / "memory", _GROUPS
    root, file = (old, "memory.limit_in_bytes") if old.is_dir() else (new, "memory.max")
    group = root / f"maxsight-{os.getpid()}"
    try:
        group.mkdir()
        (group / file).write_text(str(limit))
    except OSError as error:
        raise UsageError(
            f"capping memory takes a control group, which root may make: {error}"
        ) from error
    try:
        yield f"echo $$ > {group}/cgroup.procs"
    finally:
        group.rmdir()


def _rows(case: str, answer: dict, truth: np.ndarray) -> list[Row]:  # type: ignore[type-arg]
    hits = [len(set(found) & set(true.tolist())) for found, true in zip(answer["found"], truth)]
    low, median, high = spread([1000 * s for s in answer["seconds"]])
    count = len(hits)
    return [
        _row(case, "maxsight", "recall@10", sum(hits) / (count * _DEPTH), "", count),
        Row(_BENCHMARK, case, "maxsight", "latency", median, "ms", low, high, count),
        _row(case, "maxsight", "time to open", answer["opened"], "s"),
        _row(case, "maxsight", "memory planned", answer["planned"] / 2**20, "MiB"),
        _row(case, "maxsight", "memory of its own", answer["sizes"]["RssAnon"] / 2**20, "MiB"),
        _row(case, "maxsight", "peak, files included", answer["sizes"]["VmHWM"] / 2**20, "MiB"),
    ]


def _row(
    case: str, contender: str, metric: str, value: float, unit: str = "", runs: int = 1
) -> Row:
    return Row(_BENCHMARK, case, contender, metric, float(value), unit, runs=runs)
