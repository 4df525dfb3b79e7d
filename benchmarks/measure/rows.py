"""What every benchmark returns: rows, one figure each, kept as CSV."""

from __future__ import annotations

import csv
import dataclasses
import importlib.metadata
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        benchmark: its name in the registry.
        case: what was measured on, say ``100k x 512`` or ``openmoji, unseen concepts``.
        contender: who was measured, say ``maxsight`` or ``faiss flat``.
        metric: what was measured, with the field's name: ``recall@10``, ``latency``.
        value: the median where there are several runs.
        unit: ``ms``, ``images/s``, ``%``, or empty.
        low, high: 20th and 80th percentile; None for a single figure.
        runs: how many runs, or how many queries a share is taken over.
    """

    benchmark: str
    case: str
    contender: str
    metric: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    runs: int = 1

    @classmethod
    def of(
        cls,
        benchmark: str,
        case: str,
        contender: str,
        metric: str,
        values: Sequence[float],
        unit: str = "",
    ) -> Self:
        """The row of several runs: their median and percentiles."""
        low, median, high = spread(values)
        return cls(benchmark, case, contender, metric, median, unit, low, high, len(values))


@dataclass(frozen=True)
class Circumstances:
    """Where and when rows were measured.

    Attributes:
        device: processor and usable cores.
        load: processes that wanted a core, the benchmark's own among them, over the last five
            minutes: above the number of cores the times are those of a busy machine.
        versions: of the packages that matter.
        when: UTC.
    """

    device: str
    load: str
    versions: str
    when: str


def timed(
    seconds: Sequence[float], *, benchmark: str, case: str, contender: str, metric: str = "time"
) -> Row:
    """A row in milliseconds from the seconds of several runs."""
    return Row.of(benchmark, case, contender, metric, [1000 * s for s in seconds], "ms")


def circumstances(path: Path) -> list[Circumstances]:
    """Those of all rows of a CSV file that :func:`save` wrote, each once, in their order."""
    fields = [field.name for field in dataclasses.fields(Circumstances)]
    with path.open(newline="", encoding="utf-8") as file:
        found = [tuple(record[name] for name in fields) for record in csv.DictReader(file)]
    return [Circumstances(*values) for values in dict.fromkeys(found)]


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """The 20th percentile, the median and the 80th percentile; of four values or fewer, the
    extremes stand for the percentiles."""
    ordered = sorted(values)
    fifth = len(ordered) // 5
    low, median, high = ordered[fifth], statistics.median(ordered), ordered[-1 - fifth]
    return _rounded(low), _rounded(median), _rounded(high)


def _rounded(value: float) -> float:
    """To five figures: no measurement here is good for more."""
    return float(f"{value:.5g}")


def save(rows: Sequence[Row], path: Path) -> None:
    """Append rows to a CSV file, each with the :class:`Circumstances` of now."""
    if not rows:
        return
    now = Circumstances(
        _device(), f"{os.getloadavg()[1]:.1f}", _versions(), f"{datetime.now(UTC):%Y-%m-%d %H:%M}Z"
    )
    records = [dataclasses.asdict(row) | dataclasses.asdict(now) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(records[0]))
        if new:
            writer.writeheader()
        writer.writerows(records)


def load(path: Path) -> list[Row]:
    """The rows of a CSV file that :func:`save` wrote; of a figure measured twice, the later one."""
    latest: dict[tuple[str, str, str, str], Row] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for record in csv.DictReader(file):
            row = Row(
                record["benchmark"],
                record["case"],
                record["contender"],
                record["metric"],
                float(record["value"]),
                record["unit"],
                float(record["low"]) if record["low"] else None,
                float(record["high"]) if record["high"] else None,
                int(record["runs"]),
            )
            latest[row.benchmark, row.case, row.contender, row.metric] = row
    return list(latest.values())


def _device() -> str:
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return f"{model}, {len(os.sched_getaffinity(0))} cores"


def _versions() -> str:
    packages = ("maxsight", "torch", "faiss-cpu", "faiss-gpu", "pylance", "pillow", "av")
    found = []
    for package in packages:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)
