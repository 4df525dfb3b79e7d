"""Which room of an operation computes: ``reference``, ``cpu`` or ``gpu``.

Every operation is a folder with these rooms as modules; they hold the same functions with the same
arguments. The tensors' device decides, ``MAXSIGHT_KERNELS`` overrides it, and nothing switches
silently: a room that cannot take the tensors says so.
"""

from __future__ import annotations

import importlib
import os
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from maxsight import settings
from maxsight.errors import BackendError


def room_of(operation: str, *tensors: Tensor | None) -> ModuleType:
    """The module that computes an operation on these tensors.

    Args:
        operation: its folder's name, say ``maxsim``.
        tensors: all it takes; None where an optional one is not given.

    Raises:
        BackendError: the tensors lie on several devices, or not where the room that
            ``MAXSIGHT_KERNELS`` asks for computes.
    """
    name = _room({tensor.device for tensor in tensors if tensor is not None})
    return _module(f"maxsight.kernels.{operation}.{name}")


# Python looks for a module that it has imported for as long as a small search takes.
_module = cache(importlib.import_module)


def interprets() -> bool:
    """Whether Triton kernels run in its interpreter, which takes tensors on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def _room(devices: set[torch.device]) -> str:
    if len(devices) != 1:
        names = ", ".join(sorted(map(str, devices)))
        raise BackendError(f"tensors on one device are needed, got {names or 'none'}; move them")
    (device,) = devices
    forced = settings.kernels_room()
    if forced is None:
        return "gpu" if device.type == "cuda" else "cpu" if device.type == "cpu" else "reference"
    if forced == "gpu" and device.type != "cuda" and not (device.type == "cpu" and interprets()):
        raise BackendError(
            f"MAXSIGHT_KERNELS=gpu, but the tensors are on {device}; move them to a CUDA device, "
            "unset it, or set TRITON_INTERPRET=1 to run Triton's interpreter"
        )
    if forced == "cpu" and device.type != "cpu":
        raise BackendError(
            f"MAXSIGHT_KERNELS=cpu, but the tensors are on {device}; move them to the CPU or "
            "unset it"
        )
    return forced
