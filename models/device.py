"""Where an encoder computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maxsight.errors import UsageError

if TYPE_CHECKING:
    import torch


def resolve(device: str) -> torch.device:
    """The device a user means.

    Args:
        device: ``auto`` (CUDA if there is one, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: another word, or a GPU that torch does not see.
    """
    import torch

    if device == "cpu":
        return torch.device("cpu")
    # The driver's own count says 1 where CUDA cannot start.
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return torch.device("cuda" if count else "cpu")
    kind, _, number = device.partition(":")
    if kind != "cuda" or not (number.isdecimal() or device == "cuda"):
        raise UsageError(f"device {device!r} is not one of auto, cpu, cuda, cuda:N")
    if int(number or 0) >= count:
        raise UsageError(
            f"device {device!r} was asked for, but torch {torch.__version__} sees {count} CUDA "
            "devices; use --device auto or cpu, or run `maxsight doctor` to learn why"
        )
    return torch.device(device)
