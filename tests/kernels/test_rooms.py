"""The rooms of every operation agree with the reference, on what `make gpu-check` runs on a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from interpreter import run_interpreted

from maxsight.kernels.check.calls import agree, calls

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", calls())
def test_the_cpu_room_agrees_with_the_reference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAXSIGHT_KERNELS", "cpu")
    found = calls()[name](CPU)
    monkeypatch.setenv("MAXSIGHT_KERNELS", "reference")
    agree(name, found, calls()[name](CPU))


def test_the_gpu_room_agrees_with_the_reference() -> None:
    run_interpreted(Path(__file__).with_name("interpreted_rooms.py"))
