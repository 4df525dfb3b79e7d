"""Where a Triton kernel is launched, and which tile it takes there."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from maxsight.kernels.configs import ARCHITECTURES


def architecture_of(device: torch.device) -> int:
    """The architecture whose tiles a device takes; of the interpreter, any will do."""
    if device.type != "cuda":
        return 90
    major, minor = torch.cuda.get_device_capability(device)
    # GeForce and workstation cards are numbered above 100, with the shared memory and the
    # tensor-core instructions of sm_89.
    return 10 * major + minor if major < 12 else ARCHITECTURES[0]


def on(device: torch.device) -> AbstractContextManager[object]:
    """Makes a device the current one, which is where Triton launches, whatever its arguments."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
