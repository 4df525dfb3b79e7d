"""Decoder processes set up for small pictures."""

from __future__ import annotations

import os
from pathlib import Path

from maxsight.models.pixels.preprocess import Preprocess
from maxsight.pipelines.decoding.orders import Job
from maxsight.pipelines.decoding.pool import DecodePool
from maxsight.pipelines.media.files import state_of

PREPROCESS = Preprocess(size=64)
LIMIT = 180_000_000


def job(path: Path, kind: str | None = "image") -> Job:
    return Job(state_of(str(path), path.stat()), kind)  # type: ignore[arg-type]


def pool(
    *, workers: int = 1, timeout_s: float = 30, max_pixels: int = LIMIT, memory: int = 8 << 30
) -> DecodePool:
    return DecodePool(
        PREPROCESS,
        fps=2,
        workers=workers,
        timeout_s=timeout_s,
        max_pixels=max_pixels,
        memory=memory,
    )


def child_processes() -> set[int]:
    """Ids of the processes that this one has started and that have not ended."""
    task = Path(f"/proc/{os.getpid()}/task")
    return {int(pid) for one in task.iterdir() for pid in (one / "children").read_text().split()}


def support_environment() -> dict[str, str]:
    """For a program that imports from the folders of tests/support."""
    folders = sorted(map(str, Path(__file__).parents[1].iterdir()))
    return os.environ | {"PYTHONPATH": os.pathsep.join(folders)}
