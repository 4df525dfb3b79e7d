"""Films that are long, damaged, no films at all, or decoded by decord."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
import wave
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("av")

import av
from decoders import job, pool
from numbered_films import (
    RATE,
    SECONDS,
    coded,
    number_of,
    remux,
    times_and_numbers,
)

from maxsight.errors import MediaError, UsageError
from maxsight.pipelines.decoding.messages import Refused
from maxsight.pipelines.media.files import AboveLimit
from maxsight.pipelines.media.video import frame_at, probe, sample_frames

# Bounds ------------------------------------------------------------------------------------------

GROWTH = """
import json, re, sys
from maxsight.pipelines.media.video import sample_frames
def peak():  # in MiB; getrusage would count the process that started this one
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read()).group(1)) // 1024
count = 0
for frame in sample_frames(sys.argv[1], fps=1, size=64):
    count += 1
    if count == 60:
        early = peak()
print(json.dumps({"count": count, "early": early, "peak": peak(), "end": frame.end}))
"""


@pytest.mark.parametrize(
    ("seconds", "rate", "width", "height"), [(7200, 2, 64, 48), (400, 4, 960, 540)]
)
def test_memory_is_bounded(
    seconds: int, rate: int, width: int, height: int, tmp_path: Path
) -> None:
    path = tmp_path / "long.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 90, np.uint8), "rgb24")
        frame = frame.reformat(format="yuv420p")
        for number in range(seconds * rate):
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(path)], check=True, capture_output=True, text=True
    )
    measured = json.loads(done.stdout)
    assert measured["count"] == seconds
    assert measured["end"] == pytest.approx(seconds)
    assert measured["peak"] < 150, measured
    assert measured["peak"] - measured["early"] < 15, measured


def test_importing_it_costs_nothing() -> None:
    code = (
        "import sys, maxsight.pipelines.media.video; "
        "print([m for m in ('av', 'decord', 'torch', 'numpy', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_without_pyav_the_remedy_is_named(plain: Path) -> None:
    code = (
        "import sys; sys.modules['av'] = None\n"
        "from maxsight.errors import BackendError\n"
        "from maxsight.pipelines.media.video import probe\n"
        "try: probe(sys.argv[1])\n"
        "except BackendError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(plain)], check=True, capture_output=True, text=True
    )
    assert "pip install 'maxsight[video]'" in done.stdout


# What is not a film, or not a whole one ----------------------------------------------------------


def write_sound(path: Path, *, cover: bool = False) -> Path:
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = container.add_stream("aac", rate=8000)
        picture: Any = container.add_stream("mjpeg", rate=1) if cover else None
        if picture is not None:
            picture.width, picture.height, picture.pix_fmt = 64, 64, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 8000), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 8000
        container.mux([*stream.encode(frame), *stream.encode(None)])
        if picture is not None:
            still = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")
            container.mux([*picture.encode(still), *picture.encode(None)])
    return path


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.mp4", b"", "empty"),
        ("text.mp4", b"not a film\n" * 100, "not a video"),
        ("noise.mp4", random.Random(0).randbytes(50_000), "not a video"),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:4,\nplain.mp4\n#EXT-X-ENDLIST\n", "not a video"),
        ("list.mp4", b"#EXTM3U\n#EXTINF:4,\nplain.mp4\n#EXT-X-ENDLIST\n", "not a video"),
        ("list.ffconcat", b"ffconcat version 1.0\nfile plain.mp4\n", "not a video"),
    ],
)
def test_what_is_not_a_film_says_so(
    name: str, content: bytes, reason: str, plain: Path, tmp_path: Path
) -> None:
    (tmp_path / "plain.mp4").write_bytes(plain.read_bytes())  # a list must not be followed
    path = tmp_path / name
    path.write_bytes(content)
    for read in (probe, lambda p: list(sample_frames(p)), lambda p: frame_at(p, 0)):
        with pytest.raises(MediaError, match=reason):
            read(path)


def test_a_pattern_is_a_name(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (64, 64)).save(tmp_path / f"{number:03}.jpg")
    with pytest.raises(MediaError, match=r"cannot be read|not a video"):
        probe(tmp_path / "%03d.jpg")


@pytest.mark.parametrize(("name", "cover"), [("sound.m4a", False), ("cover.m4a", True)])
def test_sound_alone_says_so(name: str, cover: bool, tmp_path: Path) -> None:
    path = write_sound(tmp_path / name, cover=cover)
    with pytest.raises(MediaError, match="no video in it"):
        list(sample_frames(path))


def test_a_sound_file_is_another_kind_of_file(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 8000, 8000, "NONE", ""))
        sound.writeframes(bytes(16000))
    with pytest.raises(MediaError, match="another kind of file"):
        probe(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="No such file"):
        probe(tmp_path / "gone.mp4")
    with pytest.raises(MediaError):
        probe(tmp_path)


def test_too_many_pixels_are_refused(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAXSIGHT_MAX_PIXELS", "1000")
    with pytest.raises(MediaError, match=r"192 x 128.*MAXSIGHT_MAX_PIXELS"):
        list(sample_frames(plain))


@pytest.mark.parametrize("limit", [10**9, 10**20])
def test_no_limit_is_too_high(limit: int, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAXSIGHT_MAX_PIXELS", str(limit))
    assert len(list(sample_frames(plain))) == 4


def test_the_limit_counts_the_pixels_that_are_seen(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFmpeg adds some at the edges."""
    monkeypatch.setenv("MAXSIGHT_MAX_PIXELS", str(192 * 128))
    assert len(list(sample_frames(plain))) == 4


def test_frames_above_the_limit_are_named_whatever_the_header_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "grown.avi"
    write_film(path, 320, 240)
    data = path.read_bytes()
    place = data.index(b"strf") + 12
    path.write_bytes(data[:place] + struct.pack("<II", 160, 120) + data[place + 8 :])
    monkeypatch.setenv("MAXSIGHT_MAX_PIXELS", "50000")
    with pytest.raises(AboveLimit, match=r"320 x 240.*MAXSIGHT_MAX_PIXELS") as refused:
        list(sample_frames(path))
    assert refused.value.limit == "pixels"
    monkeypatch.setenv("MAXSIGHT_MAX_PIXELS", "80000")
    assert len(list(sample_frames(path))) == 1


def test_a_film_that_memory_does_not_suffice_for_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "large.avi"
    write_film(path, 12_000, 8_000)
    with pool(workers=1, memory=1) as decoders:
        (refused,) = [one.message for one in decoders.decode([job(path)]) if one is not None]
    assert isinstance(refused, Refused)
    assert (refused.again, refused.hungry, refused.limit) == (True, True, "memory")
    assert "MAXSIGHT_MEMORY" in refused.reason


def write_film(path: Path, width: int, height: int) -> None:
    """Of one picture."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
        file.mux(stream.encode(av.VideoFrame(width, height, "yuvj420p")))
        file.mux(stream.encode())


def test_a_name_that_is_not_utf8(plain: Path, tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 \xff.mp4")
    Path(path).write_bytes(plain.read_bytes())
    assert len(list(sample_frames(path))) == 4


@pytest.mark.parametrize("fps", [0, -1, float("inf"), float("nan")])
def test_senseless_rates(fps: float, plain: Path) -> None:
    with pytest.raises(UsageError, match="fps"):
        list(sample_frames(plain, fps=fps))


def with_index_in_front(plain: Path, path: Path) -> Path:
    with av.open(str(plain)) as reading:
        stream = reading.streams.video[0]
        with av.open(str(path), "w", options={"movflags": "faststart"}) as writing:
            copy = writing.add_stream_from_template(stream)
            for packet in reading.demux(stream):
                if packet.dts is not None:
                    packet.stream = copy
                    writing.mux(packet)
    return path


def test_a_film_that_breaks_off_gives_its_beginning(plain: Path, tmp_path: Path) -> None:
    whole = with_index_in_front(plain, tmp_path / "whole.mp4")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    times, numbers = times_and_numbers(broken, 10)
    assert 10 < len(times) < 35
    assert times == pytest.approx([n / RATE for n in numbers], abs=0.002)
    without_index = tmp_path / "index lost.mp4"
    without_index.write_bytes(plain.read_bytes()[: plain.stat().st_size // 2])
    with pytest.raises(MediaError, match="not a video"):
        list(sample_frames(without_index))


def test_damage_in_the_middle_is_stepped_over(plain: Path, tmp_path: Path) -> None:
    whole = with_index_in_front(plain, tmp_path / "whole.mp4")
    content = bytearray(whole.read_bytes())
    middle = len(content) * 5 // 10
    content[middle : middle + len(content) // 20] = bytes(len(content) // 20)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(content)
    frames = list(sample_frames(damaged, fps=10))
    assert number_of(frames[0].image) == 0
    assert number_of(frames[-1].image) == round(frames[-1].time * RATE)
    assert frames[-1].end == pytest.approx(SECONDS, abs=0.05)


FUZZ = """
import json, sys, time
from maxsight.errors import MediaError
from maxsight.pipelines.media.video import frame_at, probe, sample_frames
results = {}
for path in sys.argv[1:]:
    start = time.perf_counter()
    outcome = []
    for read in (probe, lambda p: list(sample_frames(p, fps=5, size=32)), lambda p: frame_at(p, 2)):
        try:
            read(path)
            outcome.append("frames")
        except MediaError as error:
            outcome.append(str(error))
    results[path] = [outcome, time.perf_counter() - start]
print(json.dumps(results))
"""


def test_sixty_damaged_files_give_frames_or_a_reason(folder: Path, tmp_path: Path) -> None:
    """In a process of its own, so that a crash of the decoder is seen as one."""
    names = ("h264.mp4", "vp9.webm", "mpeg4.avi", "h264.ts", "hevc.mp4", "mpeg2.mpg")
    sources = [coded(folder, name) for name in names]
    paths = []
    for number in range(60):
        draw = random.Random(number)
        source = sources[number % len(sources)]
        content = bytearray(source.read_bytes())
        # In turns: anywhere, only in the header, one block overwritten, cut off.
        kind = number // len(sources) % 4
        reach = len(content) if kind == 0 else min(2000, len(content))
        if kind < 2:
            for _ in range(draw.choice((5, 50, 500))):
                content[draw.randrange(reach)] = draw.randrange(256)
        elif kind == 2:
            at = draw.randrange(len(content))
            content[at : at + 4000] = draw.randbytes(4000)
        else:
            del content[draw.randrange(len(content)) :]
        path = tmp_path / f"{number:02}{source.suffix}"
        path.write_bytes(content)
        paths.append(str(path))
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, *paths], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads(done.stdout)
    assert len(results) == 60
    outcomes = [outcome for three, _ in results.values() for outcome in three]
    assert all(outcome == "frames" or len(outcome) > 15 for outcome in outcomes)
    assert 60 < outcomes.count("frames") < 180
    assert max(seconds for _, seconds in results.values()) < 5


# decord ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [1, 7, 30])
@pytest.mark.parametrize("name", ["h264.mp4", "h264-open-gop.mkv", "vp9.webm"])
def test_decord_gives_the_same_frames(
    name: str, fps: float, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("decord")
    path = coded(folder, name)
    monkeypatch.setenv("MAXSIGHT_VIDEO_BACKEND", "decord")
    times, numbers = times_and_numbers(path, fps)
    assert len(times) == len(np.arange(0, SECONDS - 1e-6, 1 / fps))
    assert times == pytest.approx([n / RATE for n in numbers], abs=0.002)


@pytest.mark.parametrize("name", ["hevc.mp4", "av1.mp4", "h264.ts", "trimmed"])
def test_what_decord_gets_wrong_goes_to_pyav(
    name: str, plain: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("decord")
    if name == "trimmed":
        path, first = remux(plain, tmp_path / "trimmed.mp4", earlier_s=15 / RATE), 15
    else:
        path, first = coded(folder, name), 0
    monkeypatch.setenv("MAXSIGHT_VIDEO_BACKEND", "decord")
    times, numbers = times_and_numbers(path, 7)
    assert numbers[0] == first
    assert times == pytest.approx([(n - first) / RATE for n in numbers], abs=0.002)


def test_decord_says_who_could_read_it(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("decord")
    whole = with_index_in_front(plain, tmp_path / "whole.mp4")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    monkeypatch.setenv("MAXSIGHT_VIDEO_BACKEND", "decord")
    with pytest.raises(MediaError, match="PyAV"):
        list(sample_frames(broken))


def test_unknown_backends(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAXSIGHT_VIDEO_BACKEND", "vlc")
    with pytest.raises(UsageError, match="pyav or decord"):
        list(sample_frames(plain))
