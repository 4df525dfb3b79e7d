"""The Triton rooms on small odd shapes, interpreted. Collected by test_rooms.py."""

from __future__ import annotations

import pytest
import torch

from maxsight.kernels import dispatch
from maxsight.kernels.check.calls import agree, calls

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", calls())
def test_the_gpu_room_agrees_with_the_reference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dispatch.interprets()
    found = calls()[name](CPU)
    monkeypatch.setenv("MAXSIGHT_KERNELS", "reference")
    agree(name, found, calls()[name](CPU))
