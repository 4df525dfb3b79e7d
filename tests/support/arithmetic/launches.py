"""What a call on a GPU launches, counted on a machine without one.

Triton's own JIT specialises and compiles for sm_90; a stub stands for the driver, so nothing runs.
torch's operations run on the CPU, where tensors say that they lie on a GPU. For a process of its
own: :func:`pretend` changes torch and Triton for good.
"""

from __future__ import annotations

import importlib
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_launched: list[str] = []


class _Driver:
    """As much of a driver as the JIT asks before it launches."""

    def get_current_device(self) -> int:
        return 0

    def set_current_device(self, device: int) -> None:
        pass

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def get_device_interface(self) -> Any:
        return torch.cpu

    def map_python_to_cpp_type(self, kind: str) -> str:
        return kind


class _Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers torch's operations that would launch: no views, nothing of memory alone."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        writes = not isinstance(found, torch.Tensor) or found.numel() > 0
        made = "lift_fresh" in str(func)  # numbers of Python's: on a GPU a copy that waits
        if made or (writes and not func.is_view and "empty" not in str(func)):
            _launched.append(str(func))
        return found


def pretend() -> None:
    """Make every tensor say that it lies on a GPU, and every Triton launch a compilation."""
    assert "TRITON_INTERPRET" not in os.environ
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    from maxsight.kernels import operator

    # Its kernels are defined before the room is told that they are interpreted.
    for operation in ("maxsim", "similarity"):
        importlib.import_module(f"maxsight.kernels.{operation}.gpu")
    os.environ |= {"MAXSIGHT_KERNELS": "gpu", "TRITON_INTERPRET": "1"}
    driver.set_active(_Driver())
    compile_only = JITFunction.run

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        _launched.append(self.__name__)
        return compile_only(self, *args, grid=grid, warmup=True, **options)

    changed: list[tuple[Any, str, Any]] = [
        (JITFunction, "run", run),
        # The mode that counts would otherwise see the operator and not what is in it.
        (operator, "_nobody_looks", lambda args: True),
        (torch.Tensor, "is_cuda", property(lambda tensor: True)),
        (torch.Tensor, "is_cpu", property(lambda tensor: False)),
    ]
    for owner, name, value in changed:
        setattr(owner, name, value)


def counted(call: Callable[[], object]) -> Counter[str]:
    """How often a call launches what."""
    _launched.clear()
    with _Watching():  # type: ignore[no-untyped-call]
        call()
    return Counter(_launched)
