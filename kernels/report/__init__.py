"""What the compiler made of a Triton kernel, for a device that need not be here.

A kernel is compiled for an architecture, its machine code is read (machine_code.py), and its time
at a shape is predicted (prediction.py). Every operation's ``gpu_cases.py`` lists its kernels and
shapes by a function ``report_cases(architecture) -> list[Case]``. docs/kernels/README.md explains
the figures.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from maxsight.errors import BackendError
from maxsight.kernels import dispatch
from maxsight.kernels.cases import Case
from maxsight.kernels.report import machine_code, prediction
from maxsight.kernels.report.devices import DEVICES, Occupancy, occupancy

OPERATIONS = ("similarity", "maxsim", "merge", "fde")


@dataclass(frozen=True)
class Report:
    """A case compiled for one architecture.

    Attributes:
        registers, stack, local: of a thread; stack and local memory in bytes.
        spills: instructions that move registers to or from local memory (LDL, STL).
        shared: bytes of a block, static and dynamic; ``shared_fits``: a block may have as much.
        tensor: tensor-core instructions by kind: HMMA, IMMA, HGMMA, IGMMA, UTC*MMA.
        widest_load: the widest load of global memory: TMA, LDGSTS.128, LDG.128 ...; "" for none.
        instructions: in the program's text.
        prediction: the time at the case's shape.
    """

    name: str
    bucket: str
    shape: str
    architecture: int
    registers: int
    stack: int
    local: int
    spills: int
    shared: int
    shared_fits: bool
    occupancy: Occupancy
    tensor: Mapping[str, int]
    widest_load: str
    instructions: int
    has_product: bool
    bytes_coded: float
    bytes_compulsory: float
    prediction: prediction.Prediction

    @property
    def overhead(self) -> float:
        """Bytes as coded against the compulsory ones: 1 is perfect."""
        return self.bytes_coded / self.bytes_compulsory

    def complaints(self) -> list[str]:
        """What no shipped kernel may do, in words."""
        found = []
        if self.spills or self.local:
            found.append(f"spills: {self.spills} instructions, {self.local} bytes a thread")
        if not self.shared_fits:
            found.append(f"shared memory: {self.shared} bytes do not fit")
        elif not self.occupancy.blocks:
            found.append(f"cannot start: {self.occupancy.limit}")
        if self.has_product and not self.tensor:
            found.append("a matrix product that is not on tensor cores")
        return found


def compile_case(case: Case, architecture: int) -> Report:
    """Compile a kernel and read its machine code. Needs no GPU; 1-4 s unless Triton cached it.

    Args:
        architecture: 80, 90 or 100.

    Raises:
        BackendError: no such device, Triton's interpreter is on, or the kernel does not compile.
        ValueError: the case's arguments are not the kernel's.
    """
    device = DEVICES.get(architecture)
    if device is None:
        known = ", ".join(f"sm_{number}" for number in DEVICES)
        raise BackendError(f"no figures for sm_{architecture}; known: {known}")
    compiled = _compiled(case, architecture)
    code = machine_code.read(compiled.asm["cubin"], compiled.asm["ptx"])
    shared = max(code.shared, compiled.metadata.shared)
    warps = compiled.metadata.num_warps  # warp specialisation adds some
    held = occupancy(device, registers=code.registers, shared=shared, warps=warps)
    return Report(
        name=case.name,
        bucket=case.bucket,
        shape=case.shape,
        architecture=architecture,
        registers=code.registers,
        stack=code.stack,
        local=code.local,
        spills=code.spills,
        shared=shared,
        shared_fits=shared <= device.shared_block,
        occupancy=held,
        tensor=code.tensor,
        widest_load=code.widest_load,
        instructions=len(code.instructions),
        has_product=case.has_product,
        bytes_coded=case.bytes_coded,
        bytes_compulsory=case.bytes_compulsory,
        prediction=prediction.predict(
            device,
            code,
            held,
            warps=warps,
            stages=case.tile.stages,
            flops=case.flops,
            flops_coded=case.flops if case.flops_coded is None else case.flops_coded,
            flop_dtype=case.flop_dtype,
            has_product=case.has_product,
            bytes_coded=case.bytes_coded,
            bytes_compulsory=case.bytes_compulsory,
            programs=case.programs,
        ),
    )


def row(report: Report) -> dict[str, object]:
    """A report with what is computed from it, for JSON. Times in microseconds."""
    figures = dataclasses.asdict(report)
    for name, value in figures.pop("prediction").items():
        time = isinstance(value, float) and name != "waves"
        figures[f"{name}_us" if time else name] = value * 1e6 if time else value
    return figures | {"overhead": report.overhead, "fraction": report.prediction.fraction}


def cases(architecture: int, *, operations: tuple[str, ...] = OPERATIONS) -> list[Case]:
    """The cases of some operations."""
    found: list[Case] = []
    for operation in operations:
        name = f"maxsight.kernels.{operation}.gpu_cases"
        found += importlib.import_module(name).report_cases(architecture)
    return found


def compile_all(
    architectures: Sequence[int],
    *,
    operations: tuple[str, ...] = OPERATIONS,
    processes: int | None = None,
) -> Iterator[Report]:
    """Compile every case of every operation for each architecture, in processes of their own.

    Args:
        processes: how many at once; None: the usable cores.

    Raises:
        BackendError, ValueError: as ``compile_case`` does.
    """
    _refuse_interpreter()
    jobs = [
        (operation, architecture, number)
        for architecture in architectures
        for operation in operations
        for number in range(len(cases(architecture, operations=(operation,))))
    ]
    if not jobs:
        return
    # Spawned: a fork of a process in which torch has threads may hang.
    with ProcessPoolExecutor(
        processes or len(os.sched_getaffinity(0)), mp_context=get_context("spawn")
    ) as pool:
        yield from pool.map(_compile_numbered, *zip(*jobs))


def _compile_numbered(operation: str, architecture: int, number: int) -> Report:
    """One job of ``compile_all``; Triton's functions cannot be sent to a process, numbers can."""
    return compile_case(cases(architecture, operations=(operation,))[number], architecture)


def _refuse_interpreter() -> None:
    if dispatch.interprets():
        raise BackendError("TRITON_INTERPRET=1 keeps Triton from compiling; unset it")


def _compiled(case: Case, architecture: int) -> Any:
    """The kernel, compiled by Triton: ``asm`` and ``metadata``."""
    _refuse_interpreter()
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = list(case.kernel.arg_names)
    blocks = {name: value for name, value in case.tile.blocks.items() if name in names}
    constants = {**blocks, **case.constants}
    given = {name: kind for name, kind in case.signature.items() if kind != "constexpr"}
    if set(names) != {*given, *constants} or given.keys() & constants.keys():
        raise ValueError(
            f"{case.name}: the kernel takes {', '.join(names)}; the case gives "
            f"{', '.join(given)} and the constants {', '.join(constants)}"
        )
    source = ASTSource(
        fn=case.kernel,
        signature={name: given.get(name, "constexpr") for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in case.aligned},
    )
    options = {"num_warps": case.tile.warps, "num_stages": case.tile.stages}
    target = GPUTarget("cuda", architecture, 32)
    try:
        return triton.compile(source, target=target, options=options)
    except (triton.CompilationError, RuntimeError) as error:
        raise BackendError(
            f"{case.name}, {case.bucket}, does not compile for sm_{architecture}: {error}"
        ) from error
