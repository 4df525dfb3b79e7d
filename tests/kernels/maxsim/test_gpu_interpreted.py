"""The Triton room, in Triton's interpreter."""

from __future__ import annotations

from pathlib import Path

from interpreter import run_interpreted


def test_gpu_room() -> None:
    run_interpreted(Path(__file__).with_name("interpreted.py"))
