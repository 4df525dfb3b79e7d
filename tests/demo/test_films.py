"""Made films: what is said to be seen is seen, from the first frame of a shot to its last."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("av")

from maxsight.demo.films import FRAME_RATE, KnownMoment, make_films
from maxsight.pipelines.media.video import Frame, sample_frames

COLOURS = {f"{r} {g} {b}": (r, g, b) for r in (20, 230) for g in (20, 230) for b in (20, 120, 230)}


def pictures() -> list[tuple[str, Image.Image]]:
    return [(name, Image.new("RGB", (90, 60), colour)) for name, colour in COLOURS.items()]


def shows(frame: Frame, moment: KnownMoment) -> bool:
    centre = np.asarray(frame.image.crop((140, 100, 180, 140)), float).mean(axis=(0, 1))
    return bool(np.abs(centre - COLOURS[moment.caption]).max() < 25)


def test_each_shot_shows_its_picture(tmp_path: Path) -> None:
    moments = make_films(pictures(), tmp_path, films=3, shots=4, seed=1)
    assert len(moments) == 12
    assert len({moment.caption for moment in moments}) == 12
    for film in {moment.film for moment in moments}:
        own = [moment for moment in moments if moment.film == film]
        frames = list(sample_frames(film, fps=FRAME_RATE))
        assert own[0].start == 0
        assert own[-1].end == pytest.approx(frames[-1].end)
        for before, after in itertools.pairwise(own):
            assert before.end == after.start
            assert before.cut_out == after.cut_in
        for moment in own:
            assert 2 <= moment.end - moment.start < 6
            inside = [f for f in frames if moment.start - 1e-6 <= f.time < moment.end - 0.01]
            faded = not moment.cut_in and moment.start > 0
            settled = inside[FRAME_RATE // 2 :] if faded else inside
            assert all(shows(frame, moment) for frame in settled)
            assert not faded or not shows(inside[0], moment)
    assert any(moment.cut_in for moment in moments)
    assert any(not moment.cut_in and moment.start > 0 for moment in moments)


def test_a_seed_gives_the_same_films(tmp_path: Path) -> None:
    def made(name: str, seed: int) -> tuple[list[tuple[float, float, str]], np.ndarray]:
        moments = make_films(pictures(), tmp_path / name, films=1, shots=3, seed=seed)
        seen = [np.asarray(frame.image, float) for frame in sample_frames(moments[0].film, fps=5)]
        return [(m.start, m.end, m.caption) for m in moments], np.stack(seen)

    (shots, frames), (again, same) = made("a", 0), made("b", 0)
    assert shots == again
    assert np.abs(frames - same).mean(axis=(1, 2, 3)).max() < 1  # grey levels, a frame
    assert made("c", 1)[0] != shots


def test_a_caption_comes_once_a_film_and_no_picture_twice(tmp_path: Path) -> None:
    doubled = pictures()[:4] + pictures()[:4]
    moments = make_films(doubled, tmp_path, films=5, shots=4)
    assert len(moments) == 8
    for film in {moment.film for moment in moments}:
        captions = [moment.caption for moment in moments if moment.film == film]
        assert len(set(captions)) == len(captions)
