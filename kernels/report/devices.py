"""GPUs that kernels are compiled for and judged by, from the vendor's data sheets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_KIB = 1024
_REGISTERS_STEP = 256  # a warp's registers are handed out in this unit
_SYSTEM_SHARED = 1 * _KIB  # of each block's shared memory, kept by the system


@dataclass(frozen=True)
class Device:
    """One GPU: the limits of a multiprocessor (SM) and what the whole of it can do.

    Attributes:
        architecture: compute capability, say 90.
        processors: SMs.
        clock: boost, GHz.
        registers, shared, warps, blocks: of an SM; shared memory in bytes.
        shared_block: bytes of shared memory a block may have.
        tensor_tflops: dense peak of the tensor cores by dtype, TFLOP/s. ``float32`` is TF32.
        legacy_tensor: share of that peak which warp-level instructions (HMMA, IMMA) reach; the
            rest needs warp-group ones (HGMMA, IGMMA, UTC*MMA).
        vector_tflops: float32 outside the tensor cores, TFLOP/s.
        bandwidth: of its memory, GB/s.
    """

    name: str
    architecture: int
    processors: int
    clock: float
    registers: int
    shared: int
    warps: int
    blocks: int
    shared_block: int
    tensor_tflops: Mapping[str, float]
    legacy_tensor: float
    vector_tflops: float
    bandwidth: float


def _tensor(float16: float, int8: float) -> Mapping[str, float]:
    return {"bfloat16": float16, "float16": float16, "float32": float16 / 2, "int8": int8}


def _device(
    name: str,
    architecture: int,
    processors: int,
    clock: float,
    shared: int,
    tensor_tflops: Mapping[str, float],
    legacy_tensor: float,
    vector_tflops: float,
    bandwidth: float,
) -> Device:
    """A device whose SMs hold 65,536 registers, 64 warps and 32 blocks, and ``shared`` KiB."""
    return Device(
        name=name,
        architecture=architecture,
        processors=processors,
        clock=clock,
        registers=65536,
        shared=shared * _KIB,
        warps=64,
        blocks=32,
        shared_block=shared * _KIB - _SYSTEM_SHARED,
        tensor_tflops=tensor_tflops,
        legacy_tensor=legacy_tensor,
        vector_tflops=vector_tflops,
        bandwidth=bandwidth,
    )


# Warp-level instructions on sm_90: 62 % of the peak (Luo et al. 2024, "Benchmarking and dissecting
# the Nvidia Hopper GPU architecture"); on sm_100 the same rate a clock, half as much of the peak.
DEVICES = {
    device.architecture: device
    for device in (
        _device("A100 SXM 80 GB", 80, 108, 1.41, 164, _tensor(312, 624), 1.0, 19.5, 2039),
        _device("H100 SXM", 90, 132, 1.83, 228, _tensor(989, 1979), 0.62, 67, 3350),
        _device("B200", 100, 148, 1.85, 228, _tensor(2250, 4500), 0.31, 75, 8000),
    )
}


@dataclass(frozen=True)
class Occupancy:
    """How many blocks of a kernel an SM holds at once.

    Attributes:
        blocks: of one SM; 0 where it cannot start.
        fraction: its warps among those that the SM could hold.
        limit: what keeps it from more: ``registers``, ``shared``, ``warps`` or ``blocks``.
    """

    blocks: int
    fraction: float
    limit: str


def occupancy(device: Device, *, registers: int, shared: int, warps: int) -> Occupancy:
    """The occupancy of a kernel.

    Args:
        registers: of a thread.
        shared: bytes of a block, static and dynamic.
        warps: of a block.
    """
    warp_registers = -(-max(registers, 1) * 32 // _REGISTERS_STEP) * _REGISTERS_STEP
    fits = shared <= device.shared_block
    blocks, limit = min(
        (device.registers // warp_registers // warps, "registers"),
        (device.shared // (shared + _SYSTEM_SHARED) if fits else 0, "shared"),
        (device.warps // warps, "warps"),
        (device.blocks, "blocks"),
    )
    return Occupancy(blocks, blocks * warps / device.warps, limit)
