"""The check of a GPU, as far as it can be known without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maxsight.kernels.check.__main__ import interpreter_lacks
from maxsight.kernels.check.run import STEPS, Step, rows_of, run


def test_a_step_that_hangs_is_killed_and_the_next_one_runs(tmp_path: Path) -> None:
    steps = (Step("parity", 0.5), Step("unknown", 30), Step("machine", 60))
    assert run(tmp_path, seconds=100, dry=True, steps=steps) == 1
    ends = json.loads((tmp_path / "check.json").read_text())["steps"]
    assert [end["end"] for end in ends] == ["killed", "failed", "done"]
    assert "unknown" in ends[1]["why"]
    assert [row["name"] for row in rows_of(tmp_path)][-2:] == ["versions", "card"]


def test_no_step_begins_without_time(tmp_path: Path) -> None:
    assert run(tmp_path, seconds=0, dry=True) == 0
    ends = json.loads((tmp_path / "check.json").read_text())["steps"]
    assert [(end["step"], end["end"]) for end in ends] == [(s.name, "skipped") for s in STEPS]


@pytest.mark.slow
def test_every_step_runs_in_order_within_its_limit(tmp_path: Path) -> None:
    assert run(tmp_path, seconds=600, dry=True) == 0
    found = json.loads((tmp_path / "check.json").read_text())
    assert [end["step"] for end in found["steps"]] == [step.name for step in STEPS]
    assert {end["end"] for end in found["steps"]} == {"done"}
    assert {row["step"] for row in found["rows"]} == {step.name for step in STEPS}


def test_an_interpreter_that_cannot_run_with_this_numpy_is_named() -> None:
    assert "numpy below 2.4" in (interpreter_lacks("3.6.0", "2.5.2") or "")
    assert interpreter_lacks("3.6.0", "2.3.5") is None
    assert interpreter_lacks("3.8.0", "2.4.6") is None
