"""Reports of a former build, so that a kernel that got worse is seen.

``baseline.json`` ships with the package; ``maxsight kernels --save-baseline`` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from maxsight.kernels.report import Report

FILE = Path(__file__).with_name("baseline.json")
REGISTERS_MORE = 16  # a thread's, before it counts as worse: compilers allocate in steps of 8
SECONDS_MORE = 1.05  # times, of the predicted time

Row = Mapping[str, float | str]


def key(report: Report) -> str:
    """What a row is found by: ``maxsim.score/bfloat16 sm_90 long: SHAPE``."""
    return f"{report.name} sm_{report.architecture} {report.bucket}: {report.shape}"


def row(report: Report) -> Row:
    """What is kept of a report."""
    return {
        "registers": report.registers,
        "spills": report.spills,
        "shared": report.shared,
        "occupancy": round(report.occupancy.fraction, 4),
        "tensor": " ".join(sorted(report.tensor)),
        "overhead": round(report.overhead, 4),
        "microseconds": round(report.prediction.seconds * 1e6, 2),
    }


def load(file: Path = FILE) -> dict[str, Row]:
    """The saved rows by key; none where nothing was saved."""
    return json.loads(file.read_text()) if file.exists() else {}


def save(reports: Iterable[Report], file: Path = FILE) -> None:
    """Keep these reports, in place of the former ones of their operations and architectures."""
    rows = {key(report): row(report) for report in reports}
    compiled = {_group(name) for name in rows}
    rows |= {name: kept for name, kept in load(file).items() if _group(name) not in compiled}
    lines = [f"  {json.dumps(name)}: {json.dumps(rows[name])}" for name in sorted(rows)]
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _group(name: str) -> tuple[str, str]:
    """Operation and architecture of a key."""
    kernel, architecture, *_ = name.split()
    return kernel.partition(".")[0], architecture


def worse(report: Report, saved: Mapping[str, Row]) -> list[str]:
    """What got worse since the rows were saved, in words. A new kernel is not worse."""
    now, before = row(report), saved.get(key(report))
    if before is None:
        return []
    found = [
        f"{name} {before[name]} -> {now[name]}"
        for name, most in (
            ("registers", float(before["registers"]) + REGISTERS_MORE),
            ("spills", float(before["spills"])),
            ("overhead", float(before["overhead"]) * 1.001),
            ("microseconds", float(before["microseconds"]) * SECONDS_MORE),
        )
        if float(now[name]) > most
    ]
    if before["tensor"] != now["tensor"]:
        found.append(f"tensor cores by {before['tensor'] or 'none'} -> {now['tensor'] or 'none'}")
    return found
