"""Triton kernels on a machine without a GPU: its interpreter, with bfloat16 put right.

The interpreter is chosen when a kernel is defined, so what runs in it runs in a process of its own:

    def test_gpu_room() -> None:
        run_interpreted(Path(__file__).with_name("interpreted.py"))

``interpreted.py`` holds ordinary tests; pytest collects it only when told to. There, tensors on the
CPU go to the Triton room, and fresh memory is full of NaN.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

ROOT = Path(__file__).resolve().parents[3]


def run_interpreted(*files: Path, timeout: float = 600) -> None:
    """Run files of tests in one process in which Triton interprets; fail as they fail.

    Args:
        timeout: seconds for all of them together.
    """
    paths = [os.fspath(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "TRITON_INTERPRET": "1",
        "MAXSIGHT_KERNELS": "gpu",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "interpreter", "-p", "no:cacheprovider"]
        + [os.fspath(file) for file in files],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if done.returncode:
        pytest.fail(f"in the interpreter:\n{done.stdout}\n{done.stderr}", pytrace=False)


def pytest_configure() -> None:
    """In the process that ``run_interpreted`` starts, which loads this module as a plugin."""
    import torch

    correct_bfloat16()
    torch.use_deterministic_algorithms(True)  # fills what torch.empty returns with NaN


def correct_bfloat16() -> None:
    """Make bfloat16 numbers of Triton 3.8's interpreter.

    It carries them as their 16 bits and computes on those as if they were integers; float32 is cut
    off instead of rounded. Here they are float32 values, rounded (to nearest, ties to even)
    whenever a value of that type comes to be, and only memory holds the 16 bits.
    """
    import triton.language as tl
    from triton.runtime import interpreter

    handle, builder = interpreter.TensorHandle, interpreter.InterpreterBuilder
    check, numpy_type = handle.__post_init__, interpreter._get_np_dtype
    load, store = builder.create_masked_load, builder.create_masked_store
    cast, convert = builder.cast_impl, builder.create_fp_to_fp
    bitcast, absolute = builder.create_bitcast, builder.create_fabs

    def holds(kind: Any) -> bool:
        return not kind.is_ptr() and kind.scalar == tl.bfloat16

    def round_or_check(self: Any) -> None:
        if not holds(self.dtype):
            check(self)
        elif self.data.dtype != np.bool_:  # comparisons carry their operands' type
            self.data = rounded(self.data)

    def float32_for_bfloat16(kind: Any) -> np.dtype[Any]:
        of = kind.element_ty if isinstance(kind, tl.block_type) else kind
        return np.dtype(np.float32) if holds(of) else numpy_type(kind)

    def masked_load(
        self: Any, ptrs: Any, mask: Any, other: Any, *options: Any, **named: Any
    ) -> Any:
        if ptrs.get_element_ty() != tl.bfloat16:
            return load(self, ptrs, mask, other, *options, **named)
        shape = ptrs.data.shape
        rest = bits(other.data) if other is not None else np.zeros(shape, dtype=np.uint16)
        rest = np.ascontiguousarray(np.broadcast_to(rest, shape))
        found = interpreter._interpreter.load(ptrs.data, mask.data, rest, np.dtype(np.uint16))
        return handle(values(found), tl.bfloat16)

    def masked_store(self: Any, ptrs: Any, value: Any, mask: Any, *options: Any) -> Any:
        if ptrs.get_element_ty() != tl.bfloat16:
            return store(self, ptrs, value, mask, *options)
        return interpreter._interpreter.store(ptrs.data, bits(value.data), mask.data)

    def cast_values(self: Any, source: Any, kind: Any) -> Any:
        if holds(source.dtype) or holds(kind):
            return handle(source.data.astype(float32_for_bfloat16(kind)), kind.scalar)
        return cast(self, source, kind)

    def convert_values(self: Any, source: Any, kind: Any, rounding: Any) -> Any:
        if holds(source.dtype) or holds(kind):
            return cast_values(self, source, kind)
        return convert(self, source, kind, rounding)

    def cast_bits(self: Any, source: Any, kind: Any) -> Any:
        if holds(source.dtype):
            return handle(bits(source.data).view(float32_for_bfloat16(kind)), kind.scalar)
        if holds(kind):
            return handle(values(source.data.view(np.uint16)), tl.bfloat16)
        return bitcast(self, source, kind)

    def absolute_value(self: Any, value: Any) -> Any:
        if holds(value.dtype):
            return handle(np.abs(value.data), tl.bfloat16)
        return absolute(self, value)

    handle.__post_init__ = round_or_check
    interpreter._get_np_dtype = float32_for_bfloat16
    builder.create_masked_load, builder.create_masked_store = masked_load, masked_store
    builder.cast_impl, builder.create_fp_to_fp = cast_values, convert_values
    builder.create_bitcast, builder.create_fabs = cast_bits, absolute_value
    builder.create_int_to_ptr = builder.create_ptr_to_int = bitcast


def bits(numbers: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """The 16 bits of float32 values that bfloat16 holds exactly."""
    whole = np.ascontiguousarray(numbers, dtype=np.float32).view(np.uint32)
    return (whole >> 16).astype(np.uint16)


def values(halves: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """The float32 values of bfloat16's bits."""
    return (halves.astype(np.uint32) << 16).view(np.float32)


def rounded(numbers: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Numbers to the nearest bfloat16, ties to even; infinities and NaN stay."""
    whole = np.array(numbers, dtype=np.float32).view(np.uint32)
    up = (whole >> 16 & 1) + np.uint32(0x7FFF)
    kept = (whole + up) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(numbers), kept.view(np.float32), np.float32(numbers))
