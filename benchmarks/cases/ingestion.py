"""How many pictures a second are indexed, against the encoder alone?

The encoder alone encodes pixels that are decoded and in memory, in the same process, before and
after each run of ingestion; the mean of both is what ingestion is held to. It is called in two
ways: with batches of 32, one after the other, as programs call an encoder, and in lanes, as
ingestion does on its own (``maxsight.pipelines.ingestion.encode``). Where the device is the
processor, decoding and encoding share its cores, so beside the rates stand the processor seconds a
picture
costs: they say how much work there is besides the encoder's, and another program on the machine
changes them little.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import maxsight
from maxsight import settings
from maxsight.benchmarks.material import pictures
from maxsight.benchmarks.measure.rows import Row
from maxsight.models.encoder import load
from maxsight.pipelines.ingestion.encode import BatchEncoder
from maxsight.pipelines.media.pictures import decode_picture

if TYPE_CHECKING:
    from maxsight.models.encoder import Encoder
    from maxsight.pipelines.ingestion.report import IngestReport

_BATCH = 32
_ALONE = 512  # pictures the encoder alone is timed on


@dataclass(frozen=True)
class Cost:
    """What some pictures cost: seconds by the clock, and of the processors in all processes."""

    pictures: int
    wall_s: float
    processor_s: float

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return self.pictures / self.wall_s

    @property
    def processor_ms(self) -> float:
        """Processor milliseconds a picture."""
        return 1000 * self.processor_s / self.pictures


def run(
    data: Path,
    *,
    count: int = 1000,
    photographs: int = 48,
    rounds: int = 3,
    encoder: str = "builtin",
) -> list[Row]:
    """Measure.

    Args:
        data: folder for fetched and rendered material.
        count: drawings as large as the encoder reads them, and as many of 256 to 1,024 pixels, in
            JPEG, PNG and WebP.
        photographs: JPEG photographs of 12 megapixels; 0 leaves them out.
        rounds: how often each is indexed, into a new library every time.
        encoder: its URI.
    """
    loaded = load(encoder)
    side = loaded.preprocess.size
    sets = {
        f"{count:,} drawings of {side} pixels": pictures.drawings(data, count, side=side),
        f"{count:,} drawings": pictures.drawings(data, count),
    }
    if photographs:
        sets[f"{photographs} photographs of 12 MP"] = pictures.photographs(data, photographs)
    by = "" if encoder == "builtin" else f"{encoder}, "
    return [
        row
        for case, folder in sets.items()
        for row in _measure(f"{by}{case}", folder, loaded, rounds)
    ]


def _measure(case: str, folder: Path, encoder: Encoder, rounds: int) -> list[Row]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    pixels = _pixels(files[:_ALONE], encoder)
    pixels = pixels[np.arange(_ALONE) % len(pixels)]
    alone: dict[str, list[Cost]] = {name: [] for name in _WAYS}

    def encode_alone() -> None:
        for name, way in _WAYS.items():
            alone[name].append(_cost(partial(way, encoder, pixels), len(pixels)))

    for way in _WAYS.values():  # the first batches choose kernels and fill caches
        way(encoder, pixels[: 2 * _BATCH])
    encode_alone()
    indexed, reports = [], []
    for _ in range(rounds):
        cost, report = _ingest(folder, encoder, expect=len(files))
        indexed.append(cost)
        reports.append(report)
        encode_alone()
    rows = []
    for name, costs in alone.items():
        beside = [(before.rate + after.rate) / 2 for before, after in pairwise(costs)]
        shares = [report.units_per_second / rate for report, rate in zip(reports, beside)]
        milliseconds = [cost.processor_ms for cost in costs]
        rows += [
            Row.of("ingestion", case, name, "rate", [cost.rate for cost in costs], "images/s"),
            Row.of("ingestion", case, name, "processor time a picture", milliseconds, "ms"),
            Row.of("ingestion", case, "ingestion", f"rate / {name}", shares, "x"),
        ]
    rows += [
        Row.of(
            "ingestion",
            case,
            "ingestion",
            "rate",
            [r.units_per_second for r in reports],
            "images/s",
        ),
        Row.of(
            "ingestion",
            case,
            "ingestion, scan and end included",
            "rate",
            [cost.rate for cost in indexed],
            "images/s",
        ),
        Row.of(
            "ingestion",
            case,
            "ingestion",
            "processor time a picture",
            [cost.processor_ms for cost in indexed],
            "ms",
        ),
        Row.of(
            "ingestion",
            case,
            "ingestion",
            "device idle",
            [100 * report.device_idle_share for report in reports],
            "%",
        ),
    ]
    rows += [
        Row.of(
            "ingestion",
            case,
            f"ingestion, {stage}",
            "busy a picture",
            [1000 * getattr(report.stages, stage) / report.units for report in reports],
            "ms",
        )
        for stage in ("decode", "encode", "store")
    ]
    return rows


def _pixels(files: list[Path], encoder: Encoder) -> np.ndarray:
    """(N, size, size, 3) uint8, as ingestion's decoders make them."""
    limit = settings.max_pixels()
    return np.concatenate(
        [
            decode_picture(path.read_bytes(), encoder.preprocess, max_pixels=limit)[0]
            for path in files
        ]
    )


def _in_batches(encoder: Encoder, pixels: np.ndarray) -> None:
    import torch

    with torch.inference_mode():
        for start in range(0, len(pixels), _BATCH):
            # Back on the host, as ingestion needs them: this also waits for the device.
            encoder.encode_images(torch.from_numpy(pixels[start : start + _BATCH])).vectors.cpu()


def _in_lanes(encoder: Encoder, pixels: np.ndarray) -> None:
    with BatchEncoder[int](encoder, batch_size=None, tokens=False) as batches:
        for number, picture in enumerate(pixels):
            for _ in batches.add(number, picture[None]):
                pass
        for _ in batches.flush():
            pass


_WAYS: dict[str, Callable[[Encoder, np.ndarray], None]] = {
    "encoder alone, batches of 32": _in_batches,
    "encoder alone, in lanes": _in_lanes,
}


def _ingest(folder: Path, encoder: Encoder, *, expect: int) -> tuple[Cost, IngestReport]:
    """Index a folder into a new library.

    Raises:
        AssertionError: a picture is missing in the library afterwards.
    """
    reports: list[IngestReport] = []
    with tempfile.TemporaryDirectory(prefix="maxsight-ingestion-") as scratch:
        path = Path(scratch) / "ingestion.maxsight"
        with maxsight.open(path, encoder=encoder.uri) as library:
            _ = library.encoder  # loaded now: it is a cost of start-up, not of pictures
            cost = _cost(lambda: reports.append(library.add([folder])), expect)
            stored = library.info().images
    (report,) = reports
    if not report.added == report.units == stored == expect:
        raise AssertionError(f"{expect} pictures, but {report.added} added and {stored} stored")
    return cost, report


def _cost(work: Callable[[], object], count: int) -> Cost:
    processor, wall = _processor_seconds(), time.perf_counter()
    work()
    return Cost(count, time.perf_counter() - wall, _processor_seconds() - processor)


def _processor_seconds() -> float:
    """Of this process and of those it has waited for."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
