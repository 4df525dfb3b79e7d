import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maxsight.benchmarks.cases import incremental
from maxsight.benchmarks.cases.incremental import Contents
from maxsight.benchmarks.measure import processes

VECTOR = np.full((1, 4), 0.5, dtype=np.float32)


def test_equal_libraries_pass() -> None:
    a = Contents({"x": "1"}, {"x": VECTOR})
    incremental.assert_same(a, Contents({"x": "1"}, {"x": VECTOR + 1e-4}))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Contents({"x": "2"}, {"x": VECTOR}), "2 files differ"),
        (Contents({}, {}), "1 files differ"),
        (Contents({"x": "1"}, {"x": -VECTOR}), "the vector of x"),
        (Contents({"x": "1"}, {"x": VECTOR * np.nan}), "the vector of x"),
    ],
)
def test_different_libraries_are_told_apart(other: Contents, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        incremental.assert_same(other, Contents({"x": "1"}, {"x": VECTOR}))


def test_descendants_are_found_and_die() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1); input()'])"
    parent = subprocess.Popen(
        [sys.executable, "-u", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    parent.stdout.readline()  # the child runs
    (child,) = processes.descendants(parent.pid)
    assert child in processes.running()
    parent.communicate("\n")
    assert child not in processes.running()


@pytest.mark.slow
def test_a_small_folder_goes_through_every_change_and_kill(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for number in range(40):
        pixels = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((96, 96)).save(tmp_path / f"{number:02}.png")
    rows = incremental.measure(tmp_path, kills=2, changed=3)
    changes = {
        row.contender: (row.metric, row.value)
        for row in rows
        if row.unit == "files" and row.value == 3
    }
    assert changes == {
        "after touching": ("touched", 3),
        "after renaming": ("moved", 3),
        "after editing": ("updated", 3),
        "after deleting": ("removed", 3),
        "after adding": ("added", 3),
    }
    same = [row.value for row in rows if row.metric == "files as in an uninterrupted run"]
    assert same == [40]
