"""What a call launches beside its kernel: on a GPU each costs as much as a short score."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import launches
import pytest

# Offsets are asked by ten launches a side, pairs by eight.
MOST = {
    "score": 2,
    "score of several tiles": 4,
    "score of offsets": 25,
    "each with its own": 1,
    "pairs": 9,
    "pairs of offsets": 29,
}


@pytest.fixture(scope="module")
def counts() -> dict[str, dict[str, int]]:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    support = Path(launches.__file__).parent
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("counted.py")],
        env=environment | {"PYTHONPATH": os.fspath(support)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, int]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("call", MOST)
def test_launches_of_a_call(call: str, counts: dict[str, dict[str, int]]) -> None:
    assert sum(counts[call].values()) <= MOST[call], counts[call]


def test_a_packing_is_not_asked_again(counts: dict[str, dict[str, int]]) -> None:
    assert counts["score"] == {"aten.zeros.default": 1, "score_grid": 1}
    assert counts["each with its own"] == {"score_each_pair": 1}


def test_no_call_brings_numbers_from_the_host(counts: dict[str, dict[str, int]]) -> None:
    assert not [name for call in counts.values() for name in call if "lift_fresh" in name]
