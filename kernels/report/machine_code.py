"""The machine code (SASS) of a compiled kernel, read by the tools in Triton's wheel."""

from __future__ import annotations

import math
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_RESOURCES = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")
_LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P[0-9T]+\s+)?([A-Z][A-Za-z0-9_.]*)\s*([^;]*);")
_TENSOR = re.compile(r"(H|I|Q|D)MMA|(H|I|Q)GMMA|UTC[A-Z]*MMA")
_WARP_SHAPE = re.compile(r"\.(16|8)(8|16)(4|8|16|32|64)(?=\.|$)")
_GROUP_SHAPE = re.compile(r"\.(\d+)x(\d+)x(\d+)")
_TARGET = re.compile(r"0x([0-9a-f]+)\s*$")
# Operands stand in tensor memory ([address]) or in shared memory (a descriptor's register).
_TCGEN05 = re.compile(
    r"tcgen05\.mma\.[\w:.]*kind::(\w+) \[[^\]]*\], (?:\[[^\]]*\]|\S+), \S+, (%r\d+),"
)
_TMA = re.compile(r"UTMALDG|UBLKCP")


@dataclass(frozen=True)
class Instruction:
    """One line: byte offset in the program, opcode with modifiers, operands as text."""

    offset: int
    opcode: str
    operands: str

    @property
    def base(self) -> str:
        """The opcode without modifiers: ``LDG`` of ``LDG.E.128``."""
        return self.opcode.partition(".")[0]

    @property
    def bytes_each(self) -> int:
        """What a load, store or asynchronous copy moves for a thread."""
        width = re.search(r"\.(?:[US])?(8|16|32|64|128|256)(?=\.|$)", self.opcode)
        return int(width[1]) // 8 if width else 4


@dataclass(frozen=True)
class MachineCode:
    """A kernel's resources and instructions.

    Attributes:
        registers, stack, local: of a thread; the last two in bytes.
        shared: static shared memory in bytes.
        block_flops: of one UTC*MMA, which works for the whole block; 0 where there is none.
    """

    registers: int
    stack: int
    shared: int
    local: int
    instructions: tuple[Instruction, ...]
    block_flops: float

    @property
    def spills(self) -> int:
        """Instructions that load from and store to local memory."""
        return sum(line.base in ("LDL", "STL") for line in self.instructions)

    @property
    def tensor(self) -> Mapping[str, int]:
        """Tensor-core instructions by kind; all of Blackwell's count as ``UTC*MMA``."""
        kinds = (line.base for line in self.instructions if is_tensor(line))
        return dict(Counter("UTC*MMA" if kind.startswith("UTC") else kind for kind in kinds))

    @property
    def widest_load(self) -> str:
        """The widest load of global memory: ``TMA``, ``LDGSTS.128``, ``LDG.128``; "" for none."""
        if any(_TMA.match(line.base) for line in self.instructions):
            return "TMA"
        loads = [line for line in self.instructions if line.base in ("LDG", "LDGSTS")]
        if not loads:
            return ""
        widest = max(loads, key=lambda line: (line.bytes_each, line.base))
        return f"{widest.base}.{8 * widest.bytes_each}"


def is_tensor(line: Instruction) -> bool:
    """Whether it runs on the tensor cores."""
    return _TENSOR.fullmatch(line.base) is not None


def tensor_flops(line: Instruction, code: MachineCode, *, warps: int) -> float:
    """Of one tensor-core instruction, by all the warps of a block together; 0 for any other.

    HMMA.16816 is a product of 16 x 16 by 16 x 8 a warp, HGMMA.64x32x16 one of 64 x 16 by 16 x 32
    by each four warps.
    """
    if not is_tensor(line):
        return 0.0
    if line.base.startswith("UTC"):
        return code.block_flops
    if shape := _GROUP_SHAPE.search(line.opcode):
        return 2 * math.prod(map(int, shape.groups())) * warps / 4
    shape = _WARP_SHAPE.search(line.opcode)
    assert shape is not None, line.opcode
    return 2 * math.prod(map(int, shape.groups())) * warps


def hot_loop(code: MachineCode, *, warps: int) -> tuple[Instruction, ...]:
    """The instructions that most of the work goes through.

    The smallest loop with at least half of the program's tensor-core work, or, without any, half of
    its bytes loaded; the whole program where no loop has so much.
    """

    def work(lines: Sequence[Instruction]) -> float:
        if code.tensor:
            return sum(tensor_flops(line, code, warps=warps) for line in lines)
        return sum(line.bytes_each for line in lines if line.base in ("LDG", "LDGSTS"))

    enough = work(code.instructions) / 2
    loops = []
    for line in code.instructions:
        target = _TARGET.search(line.operands) if line.base == "BRA" else None
        if target is not None and (start := int(target[1], 16)) < line.offset:
            loops.append(
                tuple(each for each in code.instructions if start <= each.offset <= line.offset)
            )
    working = [loop for loop in loops if work(loop) >= enough > 0]
    return min(working, key=len, default=code.instructions)


@lru_cache(maxsize=8)  # neighbouring cases often differ in their shape only
def read(cubin: bytes, ptx: str) -> MachineCode:
    """A compiled kernel as instructions.

    Args:
        ptx: its text before the last step of compilation: there, not in the machine code, stand the
            shapes of Blackwell's products.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        listing = _dump(file)
    resources = _RESOURCES.search(listing)
    assert resources is not None, "cuobjdump printed no resources"
    registers, stack, shared, local = map(int, resources.groups())
    lines = (Instruction(int(at, 16), code, rest) for at, code, rest in _LINE.findall(listing))
    return MachineCode(registers, stack, shared, local, tuple(lines), _block_flops(ptx))


def _block_flops(ptx: str) -> float:
    """The mean over the tcgen05.mma of a program, from their instruction descriptors."""
    constants = dict(re.findall(r"mov\.b32\s+(%r\d+), (-?\d+);", ptx))
    flops = []
    for kind, register in _TCGEN05.findall(ptx):
        descriptor = int(constants[register])
        columns, rows = (descriptor >> 17 & 0x3F) * 8, (descriptor >> 24 & 0x1F) * 16
        flops.append(2.0 * rows * columns * {"f16": 16, "tf32": 8}.get(kind, 32))
    return sum(flops) / len(flops) if flops else 0.0


def _dump(file: Path) -> str:
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    return subprocess.run(
        [tool, "-res-usage", "-sass", file], capture_output=True, text=True, check=True
    ).stdout
