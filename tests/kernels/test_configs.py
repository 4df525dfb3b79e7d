"""Tiles: the shipped table, what `maxsight tune` wrote before it, architectures in between."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from maxsight.errors import BackendError
from maxsight.kernels import configs
from maxsight.kernels.configs import Tile

ROW = {"blocks": {"TOKENS": 128}, "warps": 4, "stages": 3}


@pytest.fixture
def tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MAXSIGHT_CACHE", str(tmp_path))
    return configs.tuned_path()


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tuned: Path) -> Path:
    """A package whose table holds one kernel for two architectures."""
    file = tmp_path / "shipped.json"
    rows = {"80": {"long": ROW, "short": ROW | {"warps": 2}}, "90": {"long": ROW | {"warps": 8}}}
    file.write_text(json.dumps({"maxsim.score/bfloat16": rows}))
    monkeypatch.setattr(configs, "SHIPPED", file)
    return file


def warps(architecture: int, bucket: str = "long") -> int:
    return configs.tile("maxsim.score/bfloat16", architecture=architecture, bucket=bucket).warps


def test_the_next_lower_architecture_with_that_bucket(table: Path) -> None:
    assert [warps(number) for number in (80, 86, 89, 90, 100, 120)] == [4, 4, 4, 8, 8, 8]
    assert warps(90, "short") == 2


def test_a_tuned_tile_goes_first(table: Path, tuned: Path) -> None:
    tuned.write_text(json.dumps({"maxsim.score/bfloat16": {"90": {"long": ROW | {"warps": 16}}}}))
    assert warps(90) == 16
    assert warps(80) == 4
    tuned.write_text(json.dumps({"maxsim.score/bfloat16": {"90": {"long": ROW | {"warps": 1}}}}))
    configs.forget()
    assert warps(90) == 1, "a file that was written is read again when that is said"


def test_a_tile_is_looked_up_in_memory(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert warps(90) == 8

    looked: list[Path] = []
    stat = Path.stat

    def watched(path: Path, **options: Any) -> os.stat_result:
        looked.append(path)
        return stat(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", watched)
        assert warps(90) == 8
    assert not looked


@pytest.mark.parametrize(
    ("kernel", "architecture", "bucket"),
    [
        ("maxsim.score/int2", 90, "long"),
        ("maxsim.score/bfloat16", 75, "long"),
        ("maxsim.score/bfloat16", 90, "wide"),
    ],
)
def test_what_is_not_there_is_named(
    table: Path, kernel: str, architecture: int, bucket: str
) -> None:
    with pytest.raises(BackendError, match="MAXSIGHT_KERNELS=reference") as raised:
        configs.tile(kernel, architecture=architecture, bucket=bucket)
    for part in (kernel, str(architecture), bucket):
        assert part in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [
        *(
            "",
            "[]",
            "7",
            "NaN",
            "[" * 200_000,
            '{"k": 7}',
            '{"k": {"x": {}}}',
            '{"k": {"90": [1]}}',
        ),
        *(
            json.dumps({"maxsim.score/bfloat16": {"90": {"long": row}}})
            for row in (
                *(7, {}, ROW | {"warps": "4"}, ROW | {"warps": 0}, ROW | {"warps": True}),
                *(ROW | {"stages": 10**9}, ROW | {"blocks": [1]}, ROW | {"more": 1}),
                *(ROW | {"blocks": {"TOKENS": -1}}, ROW | {"blocks": {"TOKENS": 1.5}}),
            )
        ),
    ],
    ids=lambda content: content[:60],
)
def test_a_file_of_something_else_is_one_message(table: Path, tuned: Path, content: str) -> None:
    tuned.write_text(content)
    with pytest.raises(BackendError, match="no table of tiles") as raised:
        warps(90)
    assert str(tuned) in str(raised.value)


def test_shipped_lists_every_row(table: Path) -> None:
    assert sorted(configs.shipped("maxsim.score/bfloat16"), key=lambda row: row[:2]) == [
        (80, "long", Tile({"TOKENS": 128}, 4, 3)),
        (80, "short", Tile({"TOKENS": 128}, 2, 3)),
        (90, "long", Tile({"TOKENS": 128}, 8, 3)),
    ]


def test_the_shipped_table_is_sound() -> None:
    """Every kernel for every architecture, block sizes that Triton takes."""
    for kernel, rows in json.loads(configs.SHIPPED.read_text()).items():
        assert {int(number) for number in rows} == set(configs.ARCHITECTURES), kernel
        buckets = {frozenset(row) for row in rows.values()}
        assert len(buckets) == 1, f"{kernel} has other buckets on other architectures"
        for _, bucket, tile in configs.shipped(kernel):
            assert tile.warps in (1, 2, 4, 8, 16), (kernel, bucket)
            assert 1 <= tile.stages <= 8, (kernel, bucket)
            assert all(size >= 0 for size in tile.blocks.values()), (kernel, bucket)  # 0: a switch


def test_what_is_asked_for_is_recorded_and_can_be_forced(table: Path) -> None:
    with configs.recorded() as asked:
        assert warps(90) == 8
        with configs.forced("maxsim.score/bfloat16", "long", Tile({}, 1, 1)):
            assert warps(90) == 1
            assert warps(90, "short") == 2
    assert warps(90) == 8
    assert asked == {("maxsim.score/bfloat16", "long"), ("maxsim.score/bfloat16", "short")}
