"""Decoders share a budget of memory, and what needs much of it waits for its turn."""

from __future__ import annotations

from pathlib import Path

from decoders import job, pool
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from maxsight.pipelines.decoding.memory import share
from maxsight.pipelines.decoding.messages import Finished

MIB = 1 << 20


@given(
    memory=st.integers(1, 1 << 36),
    workers=st.integers(1, 64),
    max_pixels=st.integers(1, 1_000_000_000),
)
def test_all_together_stay_within_the_budget(memory: int, workers: int, max_pixels: int) -> None:
    shared = share(memory, workers=workers, max_pixels=max_pixels)
    assert 1 <= shared.workers <= workers
    assert shared.workers * shared.each <= max(memory, 256 * MIB)
    assert shared.each <= shared.largest <= max(memory, 256 * MIB)


def test_plenty_changes_nothing() -> None:
    shared = share(64 << 30, workers=16, max_pixels=200_000_000)
    assert (shared.workers, shared.each) == (16, 1_600_000_000 + (1 << 30))


def test_a_large_picture_waits_for_all_of_the_memory(tmp_path: Path) -> None:
    """It takes .96 GB: more than each of two decoders may have, less than one alone."""
    Image.new("LA", (10_000, 8_000), (90, 200)).save(tmp_path / "large.png", compress_level=1)
    for number in range(8):
        Image.new("RGB", (80, 60), (number, 0, 0)).save(tmp_path / f"{number}.png")
    jobs = [job(path) for path in sorted(tmp_path.iterdir(), reverse=True)]
    assert Path(jobs[0].path).name == "large.png"
    with pool(workers=2, memory=1536 * MIB) as decoders:
        order = [decoded for decoded in decoders.decode(jobs) if decoded is not None]
    assert len(order) == 9
    assert all(isinstance(decoded.message, Finished) for decoded in order)
    assert Path(order[-1].job.path).name == "large.png"
