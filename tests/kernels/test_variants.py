"""How many variants of a kernel the JIT is asked for: each is a stall of a second in a service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import launches
import pytest

# Five sizes of libraries and sixteen of batches; the tiles of few, some and many queries differ.
MOST = {"block_maxima": 3, "score_rows": 1, "score_grid": 2, "join_shares": 1}


@pytest.fixture(scope="module")
def variants() -> dict[str, int]:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("variants.py")],
        env=environment | {"PYTHONPATH": os.fspath(Path(launches.__file__).parent)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("kernel", MOST)
def test_sizes_of_libraries_and_batches_share_variants(
    kernel: str, variants: dict[str, int]
) -> None:
    assert 1 <= variants[kernel] <= MOST[kernel]
