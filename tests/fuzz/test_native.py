"""Compiled code in a process of its own: there a signal is a failure, not the end of the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_numbers_handed_to_compiled_code(pytestconfig: pytest.Config) -> None:
    profile = pytestconfig.getoption("--hypothesis-profile") or "ci"
    target = Path(__file__).with_name("native_targets.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", os.fspath(target)]
    run = subprocess.run(
        [*command, f"--hypothesis-profile={profile}"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONFAULTHANDLER": "1"},
        check=False,
    )
    assert run.returncode == 0, f"exit {run.returncode}\n{run.stdout[-6000:]}\n{run.stderr[-3000:]}"
