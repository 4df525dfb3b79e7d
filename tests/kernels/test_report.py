"""What the report says of kernels whose answer is known, and of every kernel that ships."""

# ruff: noqa: N803 - constants of a Triton kernel are written in capitals

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import triton
import triton.language as tl

from maxsight.errors import BackendError
from maxsight.kernels import configs, report
from maxsight.kernels.cases import Case
from maxsight.kernels.configs import Tile
from maxsight.kernels.report import Report, baseline, compile_case
from maxsight.kernels.report.devices import DEVICES, occupancy

# How many times the compulsory bytes a kernel may move; what is not listed: 1.15.
MOST_OVERHEAD = {"merge": 1.3}


@triton.jit
def _maxima(q, x, out, rows, Q: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr):  # type: ignore[no-untyped-def]
    """The largest product of each query with a stretch of rows."""
    k = tl.arange(0, D)
    queries = tl.load(q + tl.arange(0, Q)[None, :] * D + k[:, None])
    best = tl.full((Q,), float("-inf"), tl.float32)
    start = tl.program_id(0).to(tl.int64) * rows
    for at in range(0, rows, ROWS):
        row = at + tl.arange(0, ROWS)
        inside = row < rows
        chunk = tl.load(
            x + (start + row)[:, None] * D + k[None, :], mask=inside[:, None], other=0.0
        )
        product = tl.dot(chunk, queries, input_precision="ieee")
        best = tl.maximum(best, tl.max(tl.where(inside[:, None], product, float("-inf")), 0))
    tl.store(out + tl.program_id(0) * Q + tl.arange(0, Q), best)


@triton.jit
def _copy(x, out, count, N: tl.constexpr):  # type: ignore[no-untyped-def]
    i = tl.program_id(0).to(tl.int64) * N + tl.arange(0, N)
    tl.store(out + i, tl.load(x + i, mask=i < count), mask=i < count)


def maxima(kind: str = "bf16", *, rows: int = 128, warps: int = 4, **changes: Any) -> Case:
    """1,000 stretches of 1,024 rows, 64 queries of 128 dimensions."""
    width, dtype = {"bf16": (2, "bfloat16"), "fp32": (4, "float32")}[kind]
    size = 1000 * 1024 * 128 * width
    case = Case(
        kernel=_maxima,
        name=f"sample.maxima/{dtype}",
        bucket="any",
        signature={"q": f"*{kind}", "x": f"*{kind}", "out": "*fp32", "rows": "i32"},
        constants={"Q": 64, "D": 128},
        tile=Tile({"ROWS": rows}, warps, 3),
        aligned=("q", "x", "rows"),
        has_product=True,
        flops=2 * 1000 * 1024 * 128 * 64,
        flop_dtype=dtype,
        bytes_coded=size,
        bytes_compulsory=size,
        shape="64 queries x 1,000 x 1,024 x 128",
        programs=1000,
    )
    return dataclasses.replace(case, **changes)


def copy(aligned: tuple[str, ...]) -> Case:
    return Case(
        kernel=_copy,
        name="sample.copy/float32",
        bucket="any",
        signature={"x": "*fp32", "out": "*fp32", "count": "i64"},
        constants={},
        tile=Tile({"N": 1024}, 4, 1),
        aligned=aligned,
        has_product=False,
        flops=0,
        flop_dtype="float32",
        bytes_coded=8e9,
        bytes_compulsory=8e9,
        shape="1 billion numbers",
    )


@pytest.mark.parametrize(("architecture", "kind"), [(80, "HMMA"), (90, "HGMMA"), (100, "UTC*MMA")])
def test_a_product_runs_on_the_tensor_cores_of_its_architecture(
    architecture: int, kind: str
) -> None:
    found = compile_case(maxima(), architecture)
    assert set(found.tensor) == {kind}
    assert found.widest_load == "LDGSTS.128"
    assert found.spills == found.local == found.stack == 0
    assert 0 < found.registers <= 255
    assert found.shared >= 64 * 128 * 2, "the queries, at least, lie in shared memory"
    assert found.complaints() == []


def test_a_product_off_the_tensor_cores_is_a_complaint() -> None:
    found = compile_case(maxima("fp32", rows=16), 80)
    assert not found.tensor
    assert found.complaints() == ["a matrix product that is not on tensor cores"]


def test_spills_and_shared_memory_that_no_block_may_have_are_complaints() -> None:
    found = compile_case(maxima(rows=512, warps=8), 80)
    assert found.spills > 0
    assert found.shared > 163 * 1024
    assert not found.shared_fits
    assert found.occupancy.blocks == 0
    said = "; ".join(found.complaints())
    assert "spills" in said
    assert "do not fit" in said


def test_alignment_decides_how_wide_loads_are() -> None:
    assert compile_case(copy(("x", "out", "count")), 90).widest_load == "LDG.128"
    assert compile_case(copy(()), 90).widest_load == "LDG.32"


def test_a_copy_is_bound_by_memory_and_near_its_roofline() -> None:
    for architecture, card in DEVICES.items():
        predicted = compile_case(copy(("x", "out", "count")), architecture).prediction
        assert predicted.bound == "memory"
        assert predicted.roofline == pytest.approx(8e9 / (card.bandwidth * 1e9))
        assert 0.5 < predicted.fraction <= 0.92


def test_prediction_follows_the_shape() -> None:
    plain = compile_case(maxima(), 90).prediction
    assert plain.roofline == pytest.approx(1000 * 1024 * 256 / 3350e9)
    assert 0.5 < plain.fraction < 1

    def seconds(**changes: Any) -> float:
        return compile_case(maxima(**changes), 90).prediction.seconds

    assert seconds(bytes_coded=2 * maxima().bytes_coded) > 1.8 * plain.seconds
    assert seconds(flops_coded=20 * maxima().flops) > 2 * plain.seconds
    few = compile_case(maxima(programs=10), 90).prediction
    assert few.seconds > 3 * plain.seconds, "ten programs leave 122 of 132 processors idle"
    even = compile_case(maxima(programs=132 * 8), 90).prediction
    uneven = compile_case(maxima(programs=132 * 8 + 1), 90).prediction
    assert uneven.vector == pytest.approx(even.vector * 9 / 8, rel=0.01)


@pytest.mark.parametrize(
    ("registers", "shared", "warps", "blocks", "limit"),
    [
        (24, 0, 4, 16, "warps"),
        (255, 0, 4, 2, "registers"),
        (32, 100_000, 4, 2, "shared"),
        (32, 228 * 1024, 4, 0, "shared"),
        (16, 0, 1, 32, "blocks"),
    ],
)
def test_occupancy(registers: int, shared: int, warps: int, blocks: int, limit: str) -> None:
    """As NVIDIA's occupancy calculator has it for compute capability 9.0."""
    held = occupancy(DEVICES[90], registers=registers, shared=shared, warps=warps)
    assert (held.blocks, held.limit) == (blocks, limit)
    assert held.fraction == pytest.approx(blocks * warps / 64)


def test_a_case_that_does_not_fit_its_kernel_is_named() -> None:
    with pytest.raises(ValueError, match=r"sample\.maxima/bfloat16: the kernel takes q, x, out"):
        compile_case(maxima(constants={"Q": 64}), 90)
    with pytest.raises(ValueError, match="bfloat17"):
        compile_case(maxima(flop_dtype="bfloat17"), 90)
    with pytest.raises(BackendError, match="sm_80"):
        compile_case(maxima(), 70)


def test_the_interpreter_cannot_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(BackendError, match="unset it"):
        compile_case(maxima(), 90)


def test_a_row_is_plain_data_in_microseconds() -> None:
    found = compile_case(maxima(), 90)
    row = json.loads(json.dumps(report.row(found)))
    assert row["seconds_us"] == pytest.approx(found.prediction.seconds * 1e6)
    assert row["fraction"] == pytest.approx(found.prediction.fraction)
    assert row["tensor"] == dict(found.tensor)


def test_what_got_worse_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    found = compile_case(maxima(), 90)
    baseline.save([found], file)
    saved = baseline.load(file)
    assert baseline.worse(found, saved) == []
    assert baseline.worse(dataclasses.replace(found, bucket="new"), saved) == []

    spilling = dataclasses.replace(found, spills=3)
    assert baseline.worse(spilling, saved) == ["spills 0 -> 3"]
    slower = compile_case(maxima(bytes_coded=2 * maxima().bytes_coded), 90)
    assert {line.split()[0] for line in baseline.worse(slower, saved)} == {
        "overhead",
        "microseconds",
    }
    elsewhere = dataclasses.replace(found, architecture=80)
    baseline.save([elsewhere], file)
    assert baseline.load(file).keys() == saved.keys() | {baseline.key(elsewhere)}
    other = dataclasses.replace(found, tensor={"HMMA": 8})
    assert baseline.worse(other, saved) == ["tensor cores by HGMMA -> HMMA"]


@pytest.fixture(scope="module")
def shipped() -> list[Report]:
    """Every kernel that ships, for every architecture: minutes, the first time."""
    return list(report.compile_all(configs.ARCHITECTURES))


@pytest.mark.slow
def test_no_shipped_kernel_spills_overflows_or_misses_the_tensor_cores(
    shipped: list[Report],
) -> None:
    wrong = {baseline.key(each): said for each in shipped if (said := each.complaints())}
    assert not wrong


@pytest.mark.slow
def test_shipped_kernels_move_few_bytes_more_than_they_must(shipped: list[Report]) -> None:
    wasteful = {
        baseline.key(each): round(each.overhead, 3)
        for each in shipped
        if each.overhead > MOST_OVERHEAD.get(each.name.partition(".")[0], 1.15)
    }
    assert not wasteful


@pytest.mark.slow
def test_no_shipped_kernel_claims_more_than_is_possible(shipped: list[Report]) -> None:
    for each in shipped:
        assert each.overhead >= 0.999, baseline.key(each)
        assert each.prediction.fraction <= 1, baseline.key(each)


@pytest.mark.slow
def test_no_shipped_kernel_got_worse(shipped: list[Report]) -> None:
    saved = baseline.load()
    assert {baseline.key(each) for each in shipped} == set(saved), (
        "kernels came or went: maxsight kernels --save-baseline"
    )
    wrong = {baseline.key(each): said for each in shipped if (said := baseline.worse(each, saved))}
    assert not wrong


@pytest.mark.parametrize("architecture", configs.ARCHITECTURES)
def test_every_case_can_be_told_from_the_others(architecture: int) -> None:
    cases = report.cases(architecture)
    named = Counter((case.name, case.bucket, case.shape) for case in cases)
    assert not [name for name, count in named.items() if count > 1]


def test_every_shipped_tile_is_compiled_by_a_case() -> None:
    compiled = [
        (case.name, architecture, case.bucket, case.tile)
        for architecture in configs.ARCHITECTURES
        for case in report.cases(architecture)
    ]
    missing = [
        (kernel, architecture, bucket)
        for kernel in json.loads(configs.SHIPPED.read_text())
        for architecture, bucket, tile in configs.shipped(kernel)
        if (kernel, architecture, bucket, tile) not in compiled
    ]
    assert not missing
