"""Films taken up again where an earlier reading was, signs of life, times, and what is remarked."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av")

import av
from numbered_films import CODINGS, FRAMES, coded, number_of, plain_film, remux

from maxsight.pipelines.media.video import Frame, sample_frames
from maxsight.pipelines.media.video.frame import CannotResume, Mark


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films")


def seen(frames: list[Frame]) -> list[tuple[float, float, bytes, Mark | None]]:
    return [(frame.time, frame.end, frame.image.tobytes(), frame.next) for frame in frames]


def carried(mark: Mark) -> Mark:
    """As it comes back from a file."""
    return Mark.unpacked(mark.packed())


@pytest.mark.parametrize("name", CODINGS)
def test_sampling_goes_on_at_a_mark_as_if_never_interrupted(name: str, folder: Path) -> None:
    try:
        av.codec.Codec(CODINGS[name].get("codec", "libx264"), "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip("this build of FFmpeg does not write it")
    film = coded(folder, name)
    for fps, step in ((0.7, 1), (2.5, 4), (30, 70)):
        whole = list(sample_frames(film, fps=fps))
        for number in range(0, len(whole) - 1, step):
            mark = whole[number].next
            assert mark is not None
            mark = mark.with_picture(whole[number + 1].image)
            rest = list(sample_frames(film, fps=fps, start=carried(mark)))
            assert seen(rest) == seen(whole[number + 1 :]), (fps, number)
        assert whole[-1].next is None


def test_what_lies_before_a_mark_is_not_decoded(folder: Path) -> None:
    *marks, last = (frame.next for frame in sample_frames(coded(folder, "h264.mp4"), fps=10))
    assert last is None
    assert {mark.keyframe for mark in marks if mark is not None} == {0, 30, 60, 90}
    assert all(mark.fed - mark.keyframe < 40 for mark in marks if mark is not None)


def test_a_mark_whose_clock_is_none_is_refused(folder: Path) -> None:
    mark = list(sample_frames(plain_film(folder), fps=2))[2].next
    assert mark is not None
    with pytest.raises(CannotResume):
        next(sample_frames(plain_film(folder), fps=2, start=replace(mark, clock=(1.0,))))


@pytest.mark.parametrize("part", ["picture", "pts", "keyframe"])
def test_a_mark_that_does_not_fit_is_refused(part: str, folder: Path) -> None:
    film = plain_film(folder)
    frames = list(sample_frames(film, fps=2))
    mark = frames[2].next
    assert mark is not None
    mark = mark.with_picture(frames[3].image)
    wrong = replace(mark, **{part: getattr(mark, part) + 100})
    with pytest.raises(CannotResume):
        next(sample_frames(film, fps=2, start=wrong))


@pytest.mark.parametrize(
    "changes",
    [{"clock": 5}, {"clock": ["a"]}, {"keyframe": None}, {"pts": "1"}, {"more": 1}],
    ids=str,
)
def test_nonsense_is_no_mark(changes: dict[str, Any], folder: Path) -> None:
    mark = next(sample_frames(plain_film(folder))).next
    assert mark is not None
    for text in ("", "{}", "[1]", json.dumps(json.loads(mark.packed()) | changes)):
        with pytest.raises(ValueError):  # noqa: PT011 (a parser's or a mark's)
            Mark.unpacked(text)


def test_decord_goes_on_at_a_mark(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("decord")
    monkeypatch.setenv("MAXSIGHT_VIDEO_BACKEND", "decord")
    film = coded(folder, "vp9.webm")
    steps = []
    whole = list(sample_frames(film, fps=2, on_step=lambda: steps.append(1)))
    mark = whole[2].next
    assert mark is not None
    assert seen(list(sample_frames(film, fps=2, start=carried(mark)))) == seen(whole[3:])
    with pytest.raises(CannotResume):
        next(sample_frames(film, fps=2, start=replace(mark, picture=0)))
    assert len(steps) > len(whole)


def test_signs_of_life_between_two_samples(folder: Path) -> None:
    film = coded(folder, "h264-one-keyframe.mp4")
    steps: list[int] = []
    frames = sample_frames(film, fps=0.01, on_step=lambda: steps.append(1))
    next(frames)
    assert len(steps) >= FRAMES


def timed(path: Path, seconds: list[float]) -> Path:
    """A film whose frames are shown at these times."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 192, 128, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number, at in enumerate(seconds):
            pixels = np.full((128, 192, 3), 20 + number * 10, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels)
            frame.pts, frame.time_base = round(at * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("name", ["gaps.mp4", "gaps.mkv", "gaps.mov"])
def test_gaps_keep_their_length(name: str, tmp_path: Path) -> None:
    seconds = [0.0, 1, 2, 9000, 9001, 40000, 40001, 40002]
    frames = list(sample_frames(timed(tmp_path / name, seconds), fps=1))
    assert [frame.time for frame in frames] == pytest.approx(seconds)


def test_a_gap_of_ages_is_damage(tmp_path: Path) -> None:
    seconds = [0.0, 1, 2, 2**40, 2**40 + 1]
    frames = list(sample_frames(timed(tmp_path / "ages.mkv", seconds), fps=1))
    assert [frame.time for frame in frames] == pytest.approx([0, 1, 2, 3.04], abs=0.1)


def test_a_jump_in_a_transmission_is_a_splice(folder: Path) -> None:
    plain = plain_film(folder)
    first, second = remux(plain, folder / "a.ts"), remux(plain, folder / "b.ts", earlier_s=-20_000)
    joined = folder / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    assert list(sample_frames(joined, fps=2))[-1].end == pytest.approx(8, abs=0.1)


def test_a_film_is_read_for_its_numbers_once(folder: Path) -> None:
    """A rate as high as can be said is that of every frame."""
    frames = list(sample_frames(plain_film(folder), fps=1e300))
    assert [number_of(frame.image) for frame in frames] == list(range(FRAMES))
    assert len(list(sample_frames(plain_film(folder), fps=1e-300))) == 1
