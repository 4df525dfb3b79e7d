"""What runs compiled code, in a process of its own: there a signal is a failure, not the end of
the tests. (`make fuzz` runs these targets itself: its processes are replaced when one ends.)"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("what", ["native", "picture", "where"])
def test_targets(what: str) -> None:
    target = Path(__file__).with_name(f"{what}_targets.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", os.fspath(target)]
    run = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONFAULTHANDLER": "1"},
        check=False,
    )
    assert run.returncode == 0, f"exit {run.returncode}\n{run.stdout[-6000:]}\n{run.stderr[-3000:]}"
