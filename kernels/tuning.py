"""Which tile is fastest on the GPU at hand.

Every workload is run once to see which kernels and buckets it asks tiles for; then with each
candidate tile of each of them: those that differ from the present one in one thing (a block halved
or doubled, half or twice the warps, a stage more or less). A tile that the compiler refuses, or
that gives another answer, is left out. Run it again to go on from where it came to.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from maxsight.errors import BackendError
from maxsight.kernels import configs, launch
from maxsight.kernels.configs import Tile
from maxsight.kernels.timing import device_milliseconds
from maxsight.kernels.workloads import Workload, workloads


@dataclass(frozen=True)
class Choice:
    """The fastest tile of a kernel in a bucket.

    Attributes:
        seconds: median of the workload with it; ``seconds_before``: with the tile until now.
    """

    kernel: str
    bucket: str
    tile: Tile
    seconds: float
    seconds_before: float


def tune(
    *,
    device: str,
    operations: tuple[str, ...],
    progress: Callable[[str, str], None] | None = None,
) -> list[Choice]:
    """Time the candidates and write the best into ``configs.tuned_path()``.

    Args:
        device: ``cuda`` or ``cuda:N``.
        progress: called with each kernel and bucket before it is timed.

    Raises:
        BackendError: no such GPU.
    """
    place = torch.device(device)
    if place.type != "cuda" or not torch.cuda.is_available():
        raise BackendError(
            f"tuning measures on an NVIDIA GPU, and {device} is none that torch sees; "
            "`maxsight doctor` says why"
        )
    with torch.cuda.device(place):
        return tune_workloads(
            workloads(place, operations=operations), device=place, progress=progress
        )


def tune_workloads(
    asked: Iterable[Workload],
    *,
    device: torch.device,
    progress: Callable[[str, str], None] | None = None,
) -> list[Choice]:
    """Time the candidates of some calls; every choice is saved as soon as it is made.

    A workload that raises is left out, and ``progress`` is called with its name and the error.
    """
    architecture = launch.architecture_of(device)
    chosen: dict[tuple[str, str], Choice] = {}
    for workload in asked:
        try:
            call = workload.prepare()
            with configs.recorded() as buckets:
                call()
            for kernel, bucket in sorted(buckets - chosen.keys()):
                if progress is not None:
                    progress(kernel, bucket)
                before = configs.tile(kernel, architecture=architecture, bucket=bucket)
                chosen[kernel, bucket] = _fastest(call, kernel, bucket, before)
                _save([chosen[kernel, bucket]], architecture)
            del call
        except Exception as error:  # one case, whatever it raises, costs no other its tiles
            if progress is not None:
                progress(workload.name, f"failed: {type(error).__name__}: {error}")
    return list(chosen.values())


def candidates(tile: Tile) -> list[Tile]:
    """Tiles that differ from one in one thing.

    Example:
        >>> [near.stages for near in candidates(Tile({}, 16, 2))]
        [2, 3, 1]
        >>> [near.blocks["ROWS"] for near in candidates(Tile({"ROWS": 32}, 16, 1))][:2]
        [16, 64]
    """
    found = [
        replace(tile, blocks={**tile.blocks, name: size})
        for name, now in tile.blocks.items()
        for size in (now // 2, now * 2)
        if size
    ]
    found += [replace(tile, warps=count) for count in (tile.warps // 2, tile.warps * 2)]
    found += [replace(tile, stages=count) for count in (tile.stages + 1, tile.stages - 1)]
    return [near for near in found if 1 <= near.warps <= 16 and 1 <= near.stages <= 6]


def _fastest(call: Callable[[], object], kernel: str, bucket: str, before: Tile) -> Choice:
    truth = _tensors(call())
    now = statistics.median(device_milliseconds(call))
    best = Choice(kernel, bucket, before, now / 1e3, now / 1e3)
    for tile in candidates(before):
        with configs.forced(kernel, bucket, tile):
            try:
                if not _agree(_tensors(call()), truth):
                    continue
                seconds = statistics.median(device_milliseconds(call)) / 1e3
            except Exception:  # it does not compile, or is too much for this GPU
                continue
        if seconds < best.seconds:
            best = replace(best, tile=tile, seconds=seconds)
    return best


def _tensors(result: object) -> list[Tensor]:
    """All tensors of what an operation returned."""
    if isinstance(result, Tensor):
        return [result]
    parts = result if isinstance(result, tuple) else vars(result).values()
    return [part for part in parts if isinstance(part, Tensor)]


def _agree(found: Sequence[Tensor], truth: Sequence[Tensor]) -> bool:
    """Whether numbers are near and nine in ten whole numbers, which tell places, are the same."""
    for mine, theirs in zip(found, truth, strict=True):
        if mine.is_floating_point():
            same = mine.float().sub(theirs.float()).abs() <= 2e-2 * theirs.float().abs().amax()
            same |= mine == theirs  # infinities
        else:
            same = mine == theirs
        if mine.numel() and float(same.float().mean()) < (1 if mine.is_floating_point() else 0.9):
            return False
    return True


def _save(chosen: Sequence[Choice], architecture: int) -> None:
    """Into the file of tuned tiles, beside what other GPUs have there."""
    path = configs.tuned_path()
    table = configs.read(path) if path.exists() else {}
    for each in chosen:
        rows = table.setdefault(each.kernel, {}).setdefault(str(architecture), {})
        rows[each.bucket] = asdict(each.tile)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}.tmp")
    fresh.write_text(json.dumps(table, indent=1))
    fresh.replace(path)
    configs.forget()
