"""Stills are one unit; what moves is kept as it is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("av")

from numbered_films import plain_film

from maxsight.pipelines.media.video import Frame, sample_frames
from maxsight.pipelines.media.video.stills import MOST_S, differ, without_stills


def frames_of(pictures: list[Image.Image]) -> list[Frame]:
    return [Frame(float(at), at + 1.0, image) for at, image in enumerate(pictures)]


def noisy(seed: int, sigma: float = 2.0) -> Image.Image:
    noise = np.random.default_rng(seed).normal(scale=sigma, size=(112, 200, 3))
    ground = np.linspace(20, 220, 200)[None, :, None]
    return Image.fromarray(np.clip(ground + noise, 0, 255).astype(np.uint8))


def with_mark(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    marked = image.copy()
    marked.paste((255, 0, 0), box)
    return marked


def test_a_long_still_is_a_unit_every_five_minutes() -> None:
    kept = list(without_stills(iter(frames_of([noisy(n % 7) for n in range(1000)]))))
    assert [frame.time for frame in kept] == [0, 300, 600, 900]
    assert [frame.end for frame in kept] == [300, 600, 900, 1000]
    assert MOST_S == 300


def test_a_film_that_moves_is_kept_to_the_bit(tmp_path: Path) -> None:
    film = plain_film(tmp_path)
    every = list(sample_frames(film, fps=5, size=64))
    kept = list(without_stills(iter(every)))
    assert len(kept) == len(every) == 20
    for one, other in zip(kept, every, strict=True):
        assert (one.time, one.end, one.next) == (other.time, other.end, other.next)
        assert one.image.tobytes() == other.image.tobytes()


def test_what_changes_a_part_of_the_picture_is_seen() -> None:
    still = noisy(0)
    assert not differ(still, noisy(1))
    assert not differ(still, with_mark(still, (60, 60, 62, 63)))  # a mouse pointer
    assert differ(still, with_mark(still, (60, 60, 70, 70)))  # a mouth
    assert differ(still, with_mark(still, (198, 110, 200, 112)))  # in the last, small block
    assert differ(still, still.resize((100, 56)))


def test_a_slow_change_is_seen() -> None:
    fade = [Image.new("RGB", (112, 112), (level // 4,) * 3) for level in range(400)]
    kept = list(without_stills(iter(frames_of(fade))))
    assert len(kept) == pytest.approx(20, abs=1)


def test_a_still_goes_on_where_its_last_frame_does(tmp_path: Path) -> None:
    every = list(sample_frames(plain_film(tmp_path), fps=5, size=64))
    stills = [dataclasses.replace(frame, image=every[0].image) for frame in every[:5]]
    first, second, *_ = without_stills(iter([*stills, *every[5:]]))
    assert (first.time, first.end, first.next) == (0, every[5].time, every[4].next)
    assert second.time == every[5].time
