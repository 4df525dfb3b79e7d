"""``maxsight kernels`` and ``maxsight tune``, as processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from shell import Shell


def test_kernels_reports_every_kernel_of_an_operation(tmp_path: Path) -> None:
    answer = Shell(tmp_path)("kernels", "--operation", "fde", "--arch", "sm_90", "--json", "-q")
    assert answer.code == 0, answer.out + answer.err
    rows = answer.json["kernels"]
    assert {row["architecture"] for row in rows} == {90}
    assert {row["name"].partition(".")[0] for row in rows} == {"fde"}
    for row in rows:
        assert row["remarks"] == []
        assert row["seconds_us"] >= row["roofline_us"] > 0
        assert 0 < row["registers"] <= 255
    assert {"fde.patterns/bfloat16", "fde.cells/bfloat16"} <= {row["name"] for row in rows}


def test_one_option_takes_several_architectures(tmp_path: Path) -> None:
    asked = ("--operation", "fde", "--arch", "sm_80", "sm_90", "--json", "-q")
    rows = Shell(tmp_path)("kernels", *asked).json["kernels"]
    assert {row["architecture"] for row in rows} == {80, 90}


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [(("--arch", "sm_70"), "sm_80"), (("--operation", "alchemy"), "maxsim")],
)
def test_kernels_names_what_there_is(arguments: tuple[str, ...], hint: str, tmp_path: Path) -> None:
    answer = Shell(tmp_path)("kernels", *arguments)
    assert answer.code == 2
    assert hint in answer.err


def test_kernels_says_that_the_interpreter_is_on(tmp_path: Path) -> None:
    answer = Shell(tmp_path)("kernels", "--operation", "fde", TRITON_INTERPRET="1")
    assert answer.code == 3
    assert "unset it" in answer.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to tune on")
def test_tune_needs_a_gpu(tmp_path: Path) -> None:
    answer = Shell(tmp_path)("tune", "--json")
    assert answer.code == 3
    assert "NVIDIA GPU" in answer.err
    assert answer.json["error"]["type"] == "BackendError"
    assert not (tmp_path / "cache" / "tiles.json").exists()
