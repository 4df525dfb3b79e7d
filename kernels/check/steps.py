"""The steps, as ``run.STEPS`` orders them. Each is a function of a ``Bench``."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from statistics import median

import numpy as np
import torch
import triton

from maxsight.kernels import configs, maxsim, similarity
from maxsight.kernels.check.bench import Bench, room
from maxsight.kernels.check.calls import Call, agree, calls
from maxsight.kernels.check.peers import peers as peers
from maxsight.kernels.shapes import CORPUS, DIM, PUBLISHED, QUERIES, RERANK, ROWS, Interaction
from maxsight.kernels.timing import device_milliseconds, host_milliseconds, milliseconds
from maxsight.kernels.tuning import tune_workloads
from maxsight.kernels.workloads import Workload, numbers, packed

_PAST_INT32 = 2**31
_TINY = 300


def machine(bench: Bench) -> None:
    """What is here."""
    bench.row(
        "versions",
        python=sys.version.split()[0],
        torch=torch.__version__,
        triton=triton.__version__,
        numpy=np.__version__,
        cuda=torch.version.cuda,
    )
    if bench.dry:
        bench.skipped("card", "a dry run")
        return
    found = torch.cuda.get_device_properties(bench.device)
    bench.row("card", card=found.name, sms=found.multi_processor_count, bytes=found.total_memory)


def parity(bench: Bench) -> None:
    """Every operation and dtype against its reference, and twice the same bits."""
    for name, call in calls().items():
        if bench.dry and (name.startswith("fde") or not name.endswith(("float32", "int8"))):
            bench.skipped(name, "slow, or not right, in the interpreter; tests/kernels runs it")
        else:
            bench.attempt(name, partial(_agrees, bench, name, call))


def ceilings(bench: Bench) -> None:
    """What memory and tensor cores of this GPU give to plain torch."""
    side, size = (32, 1 << 12) if bench.dry else (8_192, 2 << 30)
    source = torch.zeros(size, dtype=torch.int8, device=bench.device)
    target = torch.empty_like(source)

    def copy() -> dict[str, object]:
        taken = median(device_milliseconds(lambda: target.copy_(source), rounds=_rounds(bench)))
        return {"ms": taken, "TB/s": 2 * size / taken / 1e9}

    def product(dtype: torch.dtype) -> dict[str, object]:
        square = torch.ones(side, side, device=bench.device, dtype=dtype)
        taken = median(device_milliseconds(lambda: square @ square, rounds=_rounds(bench)))
        return {"ms": taken, "TFLOP/s": 2 * side**3 / taken / 1e9}

    bench.attempt("copy, read and written", copy)
    for dtype in (torch.float16, torch.bfloat16):
        bench.attempt(f"product {side} {dtype}", partial(product, dtype))


def timings(bench: Bench) -> None:
    """Device, host, and both together, at the shapes that the kernels are judged by."""
    for work in _workloads(bench):
        bench.attempt(work.name, partial(_timed, bench, work))


def launches(bench: Bench) -> None:
    """How many kernels a call launches, and those that take longest."""
    for work in _workloads(bench):
        if bench.dry:
            bench.attempt(work.name, partial(_called, work))
        else:
            bench.attempt(work.name, partial(_profiled, work))


def memory(bench: Bench) -> None:
    """The peak of a call beside its inputs and what was there."""
    for work in _workloads(bench):
        if bench.dry:
            bench.attempt(work.name, partial(_called, work))
        else:
            bench.attempt(work.name, partial(_peak, work))


def large(bench: Bench) -> None:
    """More numbers than 32 bits count."""
    if not bench.dry and torch.cuda.mem_get_info(bench.device)[0] < 4 * _PAST_INT32 + (4 << 30):
        bench.skipped("past 2^31", "too little free memory on the GPU")
        return
    bench.attempt("similarity.topk past 2^31", partial(_large_search, bench))
    bench.attempt("maxsim.score past 2^31", partial(_large_scores, bench))


def graphs(bench: Bench) -> None:
    """Whether a call can be captured, and what its replay takes."""
    for work in _workloads(bench):
        bench.attempt(work.name, partial(_called if bench.dry else _replayed, work))


def sanitizer(bench: Bench) -> None:
    """A sample of the calls under compute-sanitizer, which sees what lies outside a tensor."""
    program = shutil.which("compute-sanitizer")
    if program is None or bench.dry:
        why = "a dry run" if bench.dry else "compute-sanitizer is not on PATH"
        bench.skipped("memcheck", why)
        return
    sample = (
        "import torch\n"
        "from maxsight.kernels.check.calls import calls\n"
        "for name, call in calls().items():\n"
        "    if name.endswith(('float16', 'int8')) and 'bfloat' not in name:\n"
        "        call(torch.device('cuda', 0))\n"
        "torch.cuda.synchronize()\n"
    )
    command = [program, "--tool", "memcheck", "--error-exitcode", "9", sys.executable, "-c", sample]

    def check() -> dict[str, object]:
        done = subprocess.run(command, capture_output=True, text=True)
        print(done.stdout, done.stderr)
        if done.returncode:
            raise AssertionError(f"exit {done.returncode}: {done.stdout[-200:]}")
        return {"ok": True}

    bench.attempt("memcheck", check)


def tiles(bench: Bench) -> None:
    """Tune the kernels that matter most; every choice is saved where ``maxsight tune`` saves."""
    if bench.dry:
        # A tile that the interpreter prefers is none for a GPU: nothing is saved.
        for work in _workloads(bench):
            with configs.recorded() as asked:
                work.prepare()()
            bench.row(work.name, asked=sorted(asked))
        return

    def show(kernel: str, bucket: str) -> None:
        bench.row(f"{kernel} {bucket}")

    for work in _workloads(bench):
        for choice in tune_workloads([work], device=bench.device, progress=show):
            bench.row(
                f"{choice.kernel} {choice.bucket}: chosen",
                tile=choice.tile,
                ms=1e3 * choice.seconds,
                ms_before=1e3 * choice.seconds_before,
            )
            # Beside the rows too: a lent machine's cache is lost with it.
            shutil.copy(configs.tuned_path(), bench.folder / "tiles.json")


def _workloads(bench: Bench) -> Iterator[Workload]:
    """Searches and late interaction, the most telling first."""
    rows = _TINY if bench.dry else ROWS
    for kind in ("float16",) if bench.dry else ("float16", "int8"):
        for queries in (3,) if bench.dry else (QUERIES[0], QUERIES[-1], *QUERIES[1:-1]):
            name = f"topk {queries:,} x {rows:,} x {DIM} {kind}"
            yield Workload("similarity", name, partial(_search, bench, queries, rows, kind))
    tiny = replace(RERANK, documents=3, document_tokens=9)
    shapes = [tiny] if bench.dry else list(dict.fromkeys((RERANK, CORPUS, *PUBLISHED)))
    for shape in shapes:
        for kind in ("float16",) if bench.dry else ("bfloat16", "int8"):
            name = f"score {shape.name} {kind}"
            yield Workload("maxsim", name, partial(_late, bench, shape, kind))


def _search(bench: Bench, queries: int, rows: int, kind: str) -> Callable[[], object]:
    asked = numbers(queries, DIM, device=bench.device, dtype=torch.float16)
    database = numbers(rows, DIM, device=bench.device, dtype=torch.float16)
    if kind != "int8":
        return partial(similarity.topk, asked, database, 10)
    coded = maxsim.Int8Tokens.of(database)
    return partial(similarity.topk, asked, coded.values, 10, scale=coded.scale)


def _late(bench: Bench, shape: Interaction, kind: str) -> Callable[[], object]:
    dtype = torch.float16 if kind == "float16" else torch.bfloat16
    pack = partial(packed, device=bench.device, dtype=dtype)
    queries, starts = pack(shape.queries, shape.query_tokens, shape.dim)
    documents, begins = pack(shape.documents, shape.document_tokens, shape.dim)
    if kind == "int8":
        left, right = maxsim.Int8Tokens.of(queries), maxsim.Int8Tokens.of(documents)
        return partial(maxsim.score, left, starts, right, begins)
    return partial(maxsim.score, queries, starts, documents, begins)


def _rounds(bench: Bench) -> int:
    return 1 if bench.dry else 15


def _agrees(bench: Bench, name: str, call: Call) -> dict[str, object]:
    began = time.perf_counter()
    found = call(bench.device)
    bench.wait()
    first = time.perf_counter() - began
    again = call(bench.device)
    with room("reference"):
        agree(name, found, call(bench.device))
    for part, value in found.items():
        assert torch.equal(value, again[part]), f"{part}: other bits the second time"
    return {"ok": True, "first_s": round(first, 2)}


def _timed(bench: Bench, work: Workload) -> dict[str, object]:
    call, rounds = work.prepare(), _rounds(bench)
    device = device_milliseconds(call, rounds=rounds)
    return {
        "device_ms": round(median(device), 4),
        "device_least_ms": round(min(device), 4),
        "host_ms": round(host_milliseconds(call, rounds=rounds), 4),
        "together_ms": round(median(milliseconds(call, rounds=rounds)), 4),
    }


def _called(work: Workload) -> dict[str, object]:
    work.prepare()()
    return {"ok": True, "dry": True}


def _profiled(work: Workload) -> dict[str, object]:
    from torch.profiler import ProfilerActivity, profile

    call = work.prepare()
    call()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        call()
        torch.cuda.synchronize()
    found = [(each.count, each.device_time_total, each.key[:60]) for each in seen.key_averages()]
    found = sorted((each for each in found if each[1] > 0), key=lambda each: -each[1])
    return {
        "launches": sum(count for count, _, _ in found),
        "device_us": round(sum(taken for _, taken, _ in found), 1),
        "most": found[:4],
    }


def _peak(work: Workload) -> dict[str, object]:
    call = work.prepare()
    call()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return {"MiB": round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)}


def _replayed(work: Workload) -> dict[str, object]:
    call = work.prepare()
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call()
        call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    device, together = device_milliseconds(graph.replay), milliseconds(graph.replay)
    return {"device_ms": round(median(device), 4), "together_ms": round(median(together), 4)}


def _large_search(bench: Bench) -> dict[str, object]:
    rows = _TINY if bench.dry else _PAST_INT32 // DIM + 1_000
    database = torch.zeros(rows, DIM, dtype=torch.float16, device=bench.device)
    places = [5, rows // 2, rows - 1]
    asked = numbers(3, DIM, device=bench.device, dtype=torch.float16)
    database[places] = asked
    found = similarity.topk(asked, database, 1)[1][:, 0].tolist()
    assert found == places, f"{found} instead of {places}"
    return {"ok": True}


def _large_scores(bench: Bench) -> dict[str, object]:
    length, dim = (8, 32) if bench.dry else (1_024, 128)
    documents = 4 if bench.dry else _PAST_INT32 // (length * dim) + 10
    tokens = torch.zeros(documents * length, dim, dtype=torch.float16, device=bench.device)
    begins = torch.arange(documents + 1, device=bench.device) * length
    asked = numbers(8, dim, device=bench.device, dtype=torch.float16)
    tokens[-8:] = asked
    starts = torch.arange(2, device=bench.device) * 8
    best = int(maxsim.score(asked, starts, tokens, begins).argmax())
    assert best == documents - 1, f"document {best} instead of {documents - 1}"
    return {"ok": True}
