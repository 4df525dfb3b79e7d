"""The time of a compiled kernel at a shape, from its machine code and the device's data sheet.

A bound that a good compiler and a full device come near to, not a simulation. For the hot loop of
the program (machine_code.hot_loop) it counts what each pipe of a multiprocessor has to do for the
work of one turn; the shape says how many turns there are:

    tensor   coded flops / (peak of the instructions used), and for HGMMA no less than the time in
             which shared memory hands over its operands
    vector   the busiest of: issue slots, integer and comparison units, float32 units, special
             functions, load-store units with shared memory
    memory   coded bytes / (attainable bandwidth, less where too few bytes are in flight)

Work that is not even over the processors counts as long as the fullest one takes. With two or more
warps a scheduler, tensor and vector work of different warps overlap: the longer counts; with one
they add up. Memory overlaps with both where loads are asynchronous (LDGSTS, TMA) or several blocks
share a processor, else it adds up. A launch costs two microseconds.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from maxsight.kernels.report import machine_code
from maxsight.kernels.report.devices import Device, Occupancy
from maxsight.kernels.report.machine_code import Instruction, MachineCode

ATTAINABLE_BANDWIDTH = 0.92  # of the data sheet's, by a long copy
LAUNCH_SECONDS = 2e-6
LATENCY_SECONDS = 7e-7  # of a load from a busy memory: what must be in flight is bandwidth x this
_SCHEDULERS = 4

# Warp instructions a processor finishes in a clock, by pipe (CUDA C++ programming guide, table of
# arithmetic throughput: lanes a clock / 32). What no pattern names costs its issue slot only.
_PIPES = (
    ("integer", 2.0, re.compile(r"FMNMX|FSET|ISET|FSEL|SEL|IMNMX|VIMNMX|LOP3|PRMT|SHF|IADD|LEA")),
    ("float32", 4.0, re.compile(r"FADD|FMUL|FFMA|IMAD")),
    ("special", 0.5, re.compile(r"MUFU|I2F|F2I|F2F|POPC|FLO|CREDUX|REDUX")),
    ("load-store", 1.0, re.compile(r"LDG|STG|LDS|STS|SHFL|ATOM|RED|LDTM|STTM")),
)
_FLOAT32_SM80 = 2.0  # half of the later ones
_SHARED_BYTES = 128  # a clock and processor
_GROUP_OPERANDS = re.compile(r"^R\d+, R\d+, gdesc")  # rows come from registers, not shared memory


@dataclass(frozen=True)
class Prediction:
    """Predicted times in seconds.

    Attributes:
        tensor, vector, memory: of each part alone.
        seconds: of the launch as a whole.
        roofline: what nothing on this device can beat: useful flops at the peak of the data sheet,
            or the compulsory bytes at its bandwidth, whichever takes longer.
        bound: which part the time is: ``tensor``, ``vector`` or ``memory``.
        waves: full loads of the device, None where the case does not say how many programs run.
    """

    tensor: float
    vector: float
    memory: float
    seconds: float
    roofline: float
    bound: str
    waves: float | None

    @property
    def fraction(self) -> float:
        """Of the roofline: 1 is perfect."""
        return self.roofline / self.seconds


def predict(
    device: Device,
    code: MachineCode,
    held: Occupancy,
    *,
    warps: int,
    stages: int,
    flops: float,
    flops_coded: float,
    flop_dtype: str,
    has_product: bool,
    bytes_coded: float,
    bytes_compulsory: float,
    programs: int | None,
) -> Prediction:
    """Predict a launch. The arguments are those of ``report.Case`` and its compiled kernel.

    Raises:
        ValueError: the device has no peak for ``flop_dtype``.
    """
    if has_product and flop_dtype not in device.tensor_tflops:
        known = ", ".join(device.tensor_tflops)
        raise ValueError(f"flop_dtype {flop_dtype!r} must be one of {known}")
    peak = 1e12 * (device.tensor_tflops[flop_dtype] if has_product else device.vector_tflops)
    bandwidth = 1e9 * device.bandwidth
    roofline = max(flops / peak, bytes_compulsory / bandwidth)
    if not held.blocks:
        return Prediction(math.inf, math.inf, math.inf, math.inf, roofline, "memory", None)

    loop = machine_code.hot_loop(code, warps=warps)
    turn_flops = sum(machine_code.tensor_flops(line, code, warps=warps) for line in loop)
    turn_bytes = sum(_moved(line, warps=warps) for line in loop)
    turns = flops_coded / turn_flops if turn_flops else bytes_coded / max(turn_bytes, 1.0)
    turns_a_second = device.processors * device.clock * 1e9 / max(turns, 1.0)

    uneven = 1.0
    if programs:
        uneven = math.ceil(programs / device.processors) * device.processors / programs
    vector = uneven * _vector_clocks(loop, device, warps=warps) / turns_a_second
    tensor = 0.0
    if turn_flops:
        legacy = any(line.base in ("HMMA", "IMMA") for line in loop)
        rate = peak * (device.legacy_tensor if legacy else 1.0)
        operands = _operand_bytes(loop, warps=warps) / _SHARED_BYTES / turns_a_second
        tensor = uneven * max(flops_coded / rate, operands)
    else:  # what is read again from a cache is in the flops, not in the bytes
        vector = max(vector, uneven * flops_coded / peak)

    resident = held.blocks if not programs else min(held.blocks, programs / device.processors)
    in_flight = turn_bytes * max(1, stages - 1) * resident * device.processors
    full = min(1.0, in_flight / (bandwidth * LATENCY_SECONDS)) if turn_bytes else 1.0
    memory = bytes_coded / (ATTAINABLE_BANDWIDTH * bandwidth * full)

    overlapping = resident * warps >= 2 * _SCHEDULERS
    arithmetic = max(tensor, vector) if overlapping else tensor + vector
    asynchronous = resident >= 2 or any(_is_asynchronous(line) for line in loop)
    together = max(arithmetic, memory) if asynchronous else arithmetic + memory
    parts = {"tensor": tensor, "vector": vector, "memory": memory}
    return Prediction(
        **parts,
        seconds=together + LAUNCH_SECONDS,
        roofline=roofline,
        bound=max(parts, key=lambda name: parts[name]),
        waves=programs / device.processors / held.blocks if programs else None,
    )


def _vector_clocks(loop: Sequence[Instruction], device: Device, *, warps: int) -> float:
    """Clocks in which a processor issues and executes one turn of a block, without its products."""
    clocks: dict[str, float] = defaultdict(float)
    for line in loop:
        clocks["issue"] += 1 / _SCHEDULERS
        for pipe, rate, pattern in _PIPES:
            if pattern.match(line.base):
                rate = _FLOAT32_SM80 if pipe == "float32" and device.architecture == 80 else rate
                clocks[pipe] += max(1 / rate, _shared_bytes(line) / _SHARED_BYTES)
                break
    return warps * max(clocks.values(), default=0.0)


def _shared_bytes(line: Instruction) -> float:
    """What a warp's instruction moves to or from shared memory."""
    if line.base == "LDSM":
        matrices = int(line.opcode[-1]) if line.opcode[-1] in "24" else 1
        return 128.0 * matrices
    return 32.0 * line.bytes_each if line.base in ("LDS", "STS", "LDGSTS") else 0.0


def _operand_bytes(loop: Sequence[Instruction], *, warps: int) -> float:
    """What the HGMMA and IGMMA of one turn read from shared memory."""
    total = 0.0
    for line in loop:
        shape = re.search(r"\.64x(\d+)x(\d+)", line.opcode)
        if shape is None or not machine_code.is_tensor(line):
            continue
        columns, depth = map(int, shape.groups())
        width = 32 // depth  # a warp-group product is 32 bytes deep in every dtype
        rows = 0 if _GROUP_OPERANDS.match(line.operands) else 64
        total += (rows + columns) * depth * width * warps / 4
    return total


def _moved(line: Instruction, *, warps: int) -> float:
    """Bytes that a block's instruction moves to or from global memory."""
    return 32.0 * warps * line.bytes_each if line.base in ("LDG", "LDGSTS", "STG") else 0.0


def _is_asynchronous(line: Instruction) -> bool:
    return line.base in ("LDGSTS", "UTMALDG", "UBLKCP")
