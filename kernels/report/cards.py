"""Graphics cards that kernels are compiled for and judged by, from the vendor's data sheets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_KIB = 1024
_REGISTERS_STEP = 256  # a warp's registers are handed out in this unit
_SYSTEM_SHARED = 1 * _KIB  # of each block's shared memory, kept by the system


@dataclass(frozen=True)
class Card:
    """One card: the limits of a multiprocessor (SM) and what the whole card can do.

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


# Warp-level instructions on sm_90: 62 % of the peak (Luo et al. 2024, "Benchmarking and dissecting
# the Nvidia Hopper GPU architecture"); on sm_100 the same rate a clock, half as much of the peak.
CARDS = {
    card.architecture: card
    for card in (
        Card(
            name="A100 SXM 80 GB",
            architecture=80,
            processors=108,
            clock=1.41,
            registers=65536,
            shared=164 * _KIB,
            warps=64,
            blocks=32,
            shared_block=163 * _KIB,
            tensor_tflops=_tensor(312, 624),
            legacy_tensor=1.0,
            vector_tflops=19.5,
            bandwidth=2039,
        ),
        Card(
            name="H100 SXM",
            architecture=90,
            processors=132,
            clock=1.83,
            registers=65536,
            shared=228 * _KIB,
            warps=64,
            blocks=32,
            shared_block=227 * _KIB,
            tensor_tflops=_tensor(989, 1979),
            legacy_tensor=0.62,
            vector_tflops=67,
            bandwidth=3350,
        ),
        Card(
            name="B200",
            architecture=100,
            processors=148,
            clock=1.85,
            registers=65536,
            shared=228 * _KIB,
            warps=64,
            blocks=32,
            shared_block=227 * _KIB,
            tensor_tflops=_tensor(2250, 4500),
            legacy_tensor=0.31,
            vector_tflops=75,
            bandwidth=8000,
        ),
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


def occupancy(card: Card, *, registers: int, shared: int, warps: int) -> Occupancy:
    """The occupancy of a kernel.

    Args:
        registers: of a thread.
        shared: bytes of a block, static and dynamic.
        warps: of a block.
    """
    warp_registers = -(-max(registers, 1) * 32 // _REGISTERS_STEP) * _REGISTERS_STEP
    fits = shared <= card.shared_block
    blocks, limit = min(
        (card.registers // warp_registers // warps, "registers"),
        (card.shared // (shared + _SYSTEM_SHARED) if fits else 0, "shared"),
        (card.warps // warps, "warps"),
        (card.blocks, "blocks"),
    )
    return Occupancy(blocks, blocks * warps / card.warps, limit)
