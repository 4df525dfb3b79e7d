"""Every step in order, in a process of its own, within its limit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROWS = "rows.jsonl"
_LEAST = 5.0  # seconds; torch alone takes as long to import


@dataclass(frozen=True)
class Step:
    """A function of ``steps`` and the most seconds that it may take."""

    name: str
    limit: float


STEPS = (
    Step("machine", 60),
    Step("parity", 180),
    Step("timings", 120),
    Step("ceilings", 40),
    Step("launches", 60),
    Step("memory", 60),
    Step("large", 60),
    Step("graphs", 60),
    Step("peers", 120),
    Step("sanitizer", 90),
    Step("tiles", 150),
)


def run(folder: Path, *, seconds: float, dry: bool, steps: tuple[Step, ...] = STEPS) -> int:
    """Run steps; write ``rows.jsonl``, ``check.json`` and a log a step; print one table.

    Args:
        folder: made; what an earlier run left in these files is replaced.
        seconds: of all together. A step for which too few are left is named as skipped.
        dry: tiny shapes, in Triton's interpreter.

    Returns:
        0 if nothing failed, else 1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ROWS).write_text("")
    began = time.monotonic()
    ends: list[dict[str, Any]] = []
    for step in steps:
        left = seconds - (time.monotonic() - began)
        if left < _LEAST:
            ends.append({"step": step.name, "end": "skipped", "why": "no time left"})
        else:
            ends.append(_run(step, folder, limit=min(step.limit, left), dry=dry))
        _save(folder, ends)
    rows = rows_of(folder)
    print(table(rows, ends), flush=True)
    wrong = [end for end in ends if end["end"] not in ("done", "skipped")]
    return int(bool(wrong or any("FAILED" in row for row in rows)))


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The rows until now; a last one that was cut off by a kill is left out."""
    text = (folder / ROWS).read_text()
    return [json.loads(line) for line in text.split("\n")[:-1]]


def table(rows: list[dict[str, Any]], ends: list[dict[str, Any]]) -> str:
    """One line a row, and how the step ended below them."""
    lines = []
    for end in ends:
        for row in rows:
            if row["step"] == end["step"]:
                lines.append(f"{row['step']:10} {row['name']:48} {_values(row)}")
        lines.append(f"{end['step']:10} {'= ' + end['end']:48} {_values(end)}")
    return "\n".join(lines)


def _values(row: dict[str, Any]) -> str:
    return "  ".join(f"{k}={v}" for k, v in row.items() if k not in ("step", "name", "end"))


def _run(step: Step, folder: Path, *, limit: float, dry: bool) -> dict[str, Any]:
    command = [sys.executable, "-m", "maxsight.kernels.check", "--step", step.name]
    command += ["--out", os.fspath(folder), *(["--dry"] if dry else [])]
    environment = dict(os.environ)
    if dry:  # both are read when kernels are defined
        environment |= {"TRITON_INTERPRET": "1", "MAXSIGHT_KERNELS": "gpu"}
    began = time.monotonic()
    with (folder / f"{step.name}.log").open("w") as log:
        # A group of its own: what the step started ends with it.
        child = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
        try:
            code = child.wait(timeout=limit)
            end = "done" if code == 0 else "failed"
        except subprocess.TimeoutExpired:
            end, code = "killed", None
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
    said: dict[str, Any] = {"step": step.name, "end": end}
    said |= {"seconds": round(time.monotonic() - began, 1), "limit": round(limit, 1)}
    if end == "failed":
        lines = (folder / f"{step.name}.log").read_text(errors="replace").strip().splitlines()
        said |= {"code": code, "why": lines[-1][:300] if lines else ""}
    return said


def _save(folder: Path, ends: list[dict[str, Any]]) -> None:
    fresh = folder / "check.json.tmp"
    fresh.write_text(json.dumps({"steps": ends, "rows": rows_of(folder)}, indent=1))
    fresh.replace(folder / "check.json")
