"""The Triton room: in the interpreter, and compiled for devices that are not here."""

from __future__ import annotations

from pathlib import Path

import pytest
from interpreter import run_interpreted

from maxsight.kernels.merge import gpu_cases
from maxsight.kernels.report import compile_case


def test_in_the_interpreter() -> None:
    run_interpreted(Path(__file__).with_name("interpreted.py"))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [80, 90, 100])
def test_compiles_without_spills_onto_tensor_cores(architecture: int) -> None:
    complaints = {}
    for case in gpu_cases.report_cases(architecture):
        report = compile_case(case, architecture)
        found = report.complaints()
        if report.overhead > 1.3:
            found.append(f"moves {report.overhead:.2f} times the bytes it must")
        if found:
            complaints[case.name, case.bucket] = found
    assert not complaints
