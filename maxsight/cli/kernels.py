"""``maxsight kernels`` and ``maxsight tune``."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from maxsight.output import JsonOption, QuietOption, console, print_json, print_table, say, size

if TYPE_CHECKING:
    from maxsight.kernels.report import Report


class _Architecture(StrEnum):
    sm_80 = "sm_80"
    sm_90 = "sm_90"
    sm_100 = "sm_100"


class _Operation(StrEnum):
    similarity = "similarity"
    maxsim = "maxsim"
    merge = "merge"
    fde = "fde"


_OperationOption = Annotated[
    list[_Operation] | None,
    typer.Option("--operation", help="Which operation; may be repeated. [default: all]"),
]


def kernels(
    arch: Annotated[
        list[_Architecture] | None,
        typer.Option("--arch", help="For which GPUs, one or several. [default: all]"),
    ] = None,
    # An option takes one value: those that follow it arrive here.
    more: Annotated[list[_Architecture] | None, typer.Argument(hidden=True)] = None,
    operation: _OperationOption = None,
    save_baseline: Annotated[
        bool,
        typer.Option("--save-baseline", help="Keep the figures; later ones are compared to them."),
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compile every Triton kernel, without a GPU, and print what its machine code says.

    Registers, spills, shared memory, occupancy, tensor-core instructions, widest load, bytes moved
    against the compulsory bytes, predicted time and share of the roofline. Exit code 1 if a kernel
    spills, does not fit, misses the tensor cores or got worse than the saved baseline.

    Example: `maxsight kernels --operation maxsim --arch sm_80 sm_90`
    """
    from rich.progress import track

    from maxsight.kernels import report
    from maxsight.kernels.report import baseline

    chosen = dict.fromkeys([*(arch or ()), *(more or ())]) or _Architecture
    architectures = [int(name.removeprefix("sm_")) for name in chosen]
    operations = tuple(operation or _Operation)
    # Minutes at first, seconds once Triton has everything in its cache.
    reports = list(
        track(
            report.compile_all(architectures, operations=operations),
            total=sum(len(report.cases(each, operations=operations)) for each in architectures),
            description="compiling",
            console=console(stderr=True),
            transient=True,
            disable=quiet,
        )
    )
    if save_baseline:
        baseline.save(reports)
    saved = baseline.load()
    remarks = [each.complaints() + baseline.worse(each, saved) for each in reports]
    if json:
        rows = [report.row(each) | {"remarks": said} for each, said in zip(reports, remarks)]
        print_json({"kernels": rows})
    else:
        _show(reports)
        for each, said in zip(reports, remarks):
            for line in said:
                say(f"! {baseline.key(each)}: {line}")
    if any(remarks):
        raise typer.Exit(1)


def tune(
    operation: _OperationOption = None,
    device: Annotated[str, typer.Option(help="cuda or cuda:N.")] = "cuda",
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Time candidate tiles of every Triton kernel on this GPU and save the fastest.

    They go into the cache folder and from then on before the tiles that ship with maxsight. Run it
    again to go on from there.

    Example: `maxsight tune --operation maxsim`
    """
    from maxsight.kernels import configs, tuning

    def show(kernel: str, bucket: str) -> None:
        say(f"{kernel} {bucket}", stderr=True, style="dim")

    chosen = tuning.tune(
        device=device,
        operations=tuple(operation or _Operation),
        progress=None if quiet else show,
    )
    if json:
        print_json({"tiles": chosen, "saved": str(configs.tuned_path())})
        return
    print_table(
        ["kernel", "bucket", "tile", "µs", "µs before"],
        [
            (
                each.kernel,
                each.bucket,
                f"{dict(each.tile.blocks)} {each.tile.warps} warps {each.tile.stages} stages",
                f"{each.seconds * 1e6:.1f}",
                f"{each.seconds_before * 1e6:.1f}",
            )
            for each in chosen
        ],
    )
    say(f"saved in {configs.tuned_path()}")


def _show(reports: Sequence[Report]) -> None:
    print_table(
        [
            "kernel",
            "shape",
            "GPU",
            "registers",
            "spills",
            "shared",
            "occupancy",
            "tensor cores",
            "load",
            "bytes ×",
            "µs",
            "roofline",
            "bound",
        ],
        [
            (
                each.name,
                each.shape,
                f"sm_{each.architecture}",
                each.registers,
                each.spills,
                size(each.shared),
                f"{each.occupancy.fraction:.0%} by {each.occupancy.limit}",
                " ".join(f"{count} {kind}" for kind, count in each.tensor.items()),
                each.widest_load,
                f"{each.overhead:.2f}",
                f"{each.prediction.seconds * 1e6:.1f}",
                f"{each.prediction.fraction:.0%}",
                each.prediction.bound,
            )
            for each in reports
        ],
    )
