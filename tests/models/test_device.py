"""Which device is meant."""

from __future__ import annotations

import pytest
import torch

from maxsight.errors import UsageError
from maxsight.models import device


def test_a_gpu_that_is_counted_but_cannot_start_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's library counts cards that CUDA then refuses."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.resolve("auto") == torch.device("cpu")
    with pytest.raises(UsageError, match="0 CUDA"):
        device.resolve("cuda")
