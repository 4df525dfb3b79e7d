"""Whatever stands for long is seen: compared with what is on screen at each instant."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av")

import av
from numbered_films import HEIGHT, SECONDS, WIDTH, number_of, picture, plain_film, remux

from maxsight.pipelines.media.video import Frame, frame_at, sample_frames
from maxsight.pipelines.media.video.frame import Mark
from maxsight.pipelines.media.video.stills import without_stills

MS = Fraction(1, 1000)
CODECS = {".webm": "libvpx", ".avi": "mpeg4", ".mpg": "mpeg2video"}


def timed(
    path: Path,
    seconds: Sequence[float],
    *,
    last_s: float = 0.04,
    bframes: int = 0,
    keyframes: int = 12,
    numbers: Sequence[int] | None = None,
) -> Path:
    """A film whose n-th frame, which says n, is shown at ``seconds[n]``."""
    codec = CODECS.get(path.suffix, "libx264")
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.gop_size = keyframes
        stream.time_base = stream.codec_context.time_base = MS
        if codec == "libx264":
            stream.options = {"bf": str(bframes), "preset": "veryfast"}
        elif codec == "libvpx":
            stream.options = {"deadline": "realtime", "cpu-used": "8"}
        packets = []
        for number, at in zip(numbers or range(len(seconds)), seconds, strict=True):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = round(at * 1000), MS
            packets += stream.encode(frame)
        packets += stream.encode(None)
        last = max(packets, key=lambda packet: packet.pts)
        last.duration = round(Fraction(last_s) / last.time_base)
        for packet in packets:
            container.mux(packet)
    return path


def assert_seen(path: Path, seconds: Sequence[float], end: float | None, fps: float) -> list[Frame]:
    """The units cover the film; whatever stands for 2/fps is shown by the unit of its time."""
    frames = list(sample_frames(path, fps=fps))
    starts = np.array([frame.time for frame in frames])
    numbers = [number_of(frame.image) for frame in frames]
    assert starts[0] == 0
    assert [frame.end for frame in frames[:-1]] == starts[1:].tolist()
    assert all(frame.time < frame.end for frame in frames)
    if end is None:
        end = seconds[-1] + 0.01
    else:
        assert frames[-1].end == pytest.approx(end - seconds[0], abs=0.06)
    shown = np.array(seconds) - seconds[0]
    until = np.append(shown[1:], end - seconds[0])
    for at in np.arange(0.013, end - seconds[0], max(0.05, (end - seconds[0]) / 5000)):
        true = int(np.searchsorted(shown, at, side="right")) - 1
        if until[true] - shown[true] >= 2 / fps:
            assert numbers[int(np.searchsorted(starts, at, side="right")) - 1] == true, at
    return frames


ISSUE = [0, 1, 1.5, 600]
SLIDES = [hold for n in range(8) for hold in (n * 120.3, n * 120.3 + 0.3)]
FILMS: dict[str, tuple[Sequence[float], float]] = {
    "issue": (ISSUE, 0.04),
    "slides": (SLIDES, 0.04),
    "long last": ([0, 1, 1.5], 600),
    "late": ([37, 38, 38.4, 38.7, 300, 300.2], 90),
    "burst, then still": ([*np.arange(0, 3, 0.04).tolist(), 60, 60.1, 60.2, 200], 10),
    "two samples": ([0, 0.9, 2.9, 3.0, 5.0, 5.2], 5),
    "alone": ([0], 600),
}


@pytest.mark.parametrize("fps", [0.5, 1, 4])
@pytest.mark.parametrize(
    ("suffix", "bframes"), [(".mp4", 0), (".mp4", 3), (".mkv", 3), (".webm", 0), (".flv", 0)]
)
@pytest.mark.parametrize("name", FILMS)
def test_what_stands_for_long_is_seen(
    name: str, suffix: str, bframes: int, fps: float, tmp_path: Path
) -> None:
    seconds, last_s = FILMS[name]
    is_untold = (suffix, bframes) in [(".mp4", 3), (".flv", 0)]  # how long the last frame stands
    if is_untold:
        last_s = 0.04
    path = timed(tmp_path / f"film{suffix}", seconds, last_s=last_s, bframes=bframes)
    frames = assert_seen(path, seconds, None if is_untold else seconds[-1] + last_s, fps)
    for frame, after in [*itertools.pairwise(frames)][:: 1 + len(frames) // 4]:
        assert frame.next is not None
        mark = Mark.unpacked(frame.next.with_picture(after.image).packed())
        rest = list(sample_frames(path, fps=fps, start=mark))
        assert [(one.time, one.end, one.next) for one in rest] == [
            (one.time, one.end, one.next) for one in frames if one.time >= after.time
        ]
        assert number_of(frame_at(path, after.time)) == number_of(after.image)
    kept = list(without_stills(iter(frames)))
    assert [frame.time for frame in kept] == [frame.time for frame in frames]


@pytest.mark.parametrize("fps", [1, 2, 30])
@pytest.mark.parametrize("earlier_s", [0, -0.5, 2, 30])
def test_recordings_that_are_joined_are_both_seen(
    earlier_s: float, fps: float, tmp_path: Path
) -> None:
    """The second one's times begin before the first one's end."""
    plain = plain_film(tmp_path)
    first = remux(plain, tmp_path / "a.ts", earlier_s=-100)
    second = remux(plain, tmp_path / "b.ts", earlier_s=-100 + earlier_s)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    frames = list(sample_frames(joined, fps=fps))
    assert frames[-1].end == pytest.approx(2 * SECONDS, abs=0.1)
    assert len(frames) == pytest.approx(2 * SECONDS * fps, abs=2)
    for frame, after in [*itertools.pairwise(frames)][:: 1 + len(frames) // 5]:
        assert number_of(frame.image) == pytest.approx(frame.time % SECONDS * 30, abs=3)
        assert frame.next is not None
        rest = list(sample_frames(joined, fps=fps, start=frame.next.with_picture(after.image)))
        assert [one.time for one in rest] == [one.time for one in frames if one.time >= after.time]
    assert number_of(frame_at(joined, 6.0)) == pytest.approx(60, abs=3)
