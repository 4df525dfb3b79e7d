"""Films: the right frames at the right times, from every coding, in bounds, whatever the file."""

from __future__ import annotations

import json
import os
import random
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

from maxsight.errors import MediaError, UsageError
from maxsight.pipelines.video import frame_at, probe, sample_frames
from tests.pipelines.numbered_films import (
    HEIGHT,
    RATE,
    WIDTH,
    number_of,
    remux,
    write_film,
)

FRAMES = 120
SECONDS = FRAMES / RATE
X265 = "log-level=none:pools=1"
CODINGS: dict[str, dict[str, Any]] = {
    "h264.mp4": {"options": {"bf": "3", "preset": "veryfast"}},
    "h264-open-gop.mkv": {"options": {"bf": "3", "x264-params": "open-gop=1"}},
    "h264-one-keyframe.mp4": {"options": {"bf": "3", "preset": "veryfast"}, "keyframes": 1000},
    "h264.ts": {"options": {"bf": "3", "preset": "veryfast"}},
    "h264.flv": {"options": {"bf": "2", "preset": "veryfast"}},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": X265, "preset": "ultrafast"}},
    "hevc10-open-gop.mkv": {
        "codec": "libx265",
        "pixels": "yuv420p10le",
        "options": {"x265-params": f"{X265}:open-gop=1", "preset": "ultrafast"},
    },
    "vp8.webm": {"codec": "libvpx", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "av1.mp4": {"codec": "libsvtav1", "options": {"preset": "10", "svtav1-params": "lp=1"}},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"bf": "2", "q": "3"}},
    "mpeg2.mpg": {"codec": "mpeg2video", "options": {"bf": "2", "q": "3"}},
    "mjpeg.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "ffv1.mkv": {"codec": "ffv1"},
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films")


@pytest.fixture(scope="session")
def plain(folder: Path) -> Path:
    """Four seconds of H.264 with B-frames, its index in front."""
    return write_film(folder / "plain.mp4", range(FRAMES), options={"bf": "3", "crf": "30"})


@pytest.fixture(scope="session", params=CODINGS)
def film(request: pytest.FixtureRequest, folder: Path) -> Path:
    """Four seconds in every coding that this build of FFmpeg writes."""
    path = folder / request.param
    how = CODINGS[request.param]
    try:
        av.codec.Codec(how.get("codec", "libx264"), "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip("this build of FFmpeg does not write it")
    return path if path.exists() else write_film(path, range(FRAMES), **how)


def times_and_numbers(path: Path, fps: float) -> tuple[list[float], list[int]]:
    frames = list(sample_frames(path, fps=fps))
    return [frame.time for frame in frames], [number_of(frame.image) for frame in frames]


def assert_partition(path: Path, fps: float, *, end: float) -> None:
    frames = list(sample_frames(path, fps=fps))
    assert frames[0].time == 0
    assert [frame.end for frame in frames[:-1]] == [frame.time for frame in frames[1:]]
    assert all(frame.time < frame.end for frame in frames)
    assert frames[-1].end == pytest.approx(end, abs=0.002)


# The right frames --------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [0.4, 1, 2.5, 30])
def test_a_sampled_frame_is_the_one_shown_at_its_time(film: Path, fps: float) -> None:
    times, numbers = times_and_numbers(film, fps)
    assert len(times) == len(np.arange(0, SECONDS - 1e-6, 1 / fps))
    assert times == pytest.approx([number / RATE for number in numbers], abs=0.002)
    late = np.array(times) - np.arange(len(times)) / fps
    # At a low rate a neighbour may be taken that is cheaper to decode.
    assert late.min() > -0.002
    assert late.max() < (0.002 if fps == 30 else 3 / RATE)
    assert_partition(film, fps, end=SECONDS)


def test_a_frame_asked_for_is_the_one_on_show(film: Path) -> None:
    chosen = random.Random(film.name).sample(range(FRAMES), 8)
    assert [number_of(frame_at(film, number / RATE)) for number in chosen] == chosen
    assert [number_of(frame_at(film, (number + 0.7) / RATE)) for number in chosen] == chosen
    assert number_of(frame_at(film, -5.0)) == 0
    assert number_of(frame_at(film, 1000.0)) == FRAMES - 1


def test_a_sampled_time_names_its_frame(film: Path) -> None:
    for frame in sample_frames(film, fps=1):
        assert number_of(frame_at(film, frame.time)) == number_of(frame.image)


def test_probe(film: Path) -> None:
    info = probe(film)
    assert (info.width, info.height) == (WIDTH, HEIGHT)
    assert info.frame_rate == pytest.approx(RATE, rel=0.01)
    assert info.duration_s == pytest.approx(SECONDS, abs=0.15)
    assert film.name.startswith(info.codec.removesuffix("video")[:4])


def test_variable_frame_rate(folder: Path) -> None:
    numbers = [n for n in range(FRAMES) if n % 5 in (0, 1, 4)]
    path = write_film(folder / "variable.mp4", numbers, options={"bf": "3"})
    times, seen = times_and_numbers(path, 30)
    assert seen == numbers
    assert times == pytest.approx([n / RATE for n in numbers], abs=0.002)
    assert_partition(path, 7, end=SECONDS)


def test_a_long_still_is_one_frame_with_one_span(folder: Path) -> None:
    path = write_film(folder / "slides.mp4", [0, 1, 200, 330], options={"bf": "0"})
    frames = list(sample_frames(path, fps=1))
    assert [number_of(frame.image) for frame in frames] == [0, 200, 330]
    assert [frame.time for frame in frames] == pytest.approx([0, 200 / RATE, 11])
    assert frames[0].end == frames[1].time
    assert number_of(frame_at(path, 9.0)) == 200


def test_times_count_from_the_first_shown_frame(plain: Path, folder: Path) -> None:
    late = remux(plain, folder / "late.ts", earlier_s=-50_000)
    times, numbers = times_and_numbers(late, 30)
    assert numbers == list(range(FRAMES))
    assert times == pytest.approx([n / RATE for n in numbers], abs=0.002)
    assert number_of(frame_at(late, 77 / RATE)) == 77


def test_an_edit_list_cuts_off_the_beginning(plain: Path, folder: Path) -> None:
    trimmed = remux(plain, folder / "trimmed.mp4", earlier_s=15 / RATE)
    for fps in (1, 30):
        times, numbers = times_and_numbers(trimmed, fps)
        assert numbers[0] == 15
        assert times == pytest.approx([(n - 15) / RATE for n in numbers], abs=0.002)
    assert number_of(frame_at(trimmed, 2.0)) == 75
    assert_partition(trimmed, 1, end=SECONDS - 15 / RATE)


def test_made_up_times_are_not_believed(folder: Path) -> None:
    """AVI has no times of showing; FFmpeg makes them up, in the wrong order for B-frames."""
    path = write_film(folder / "bframes.avi", range(FRAMES), options={"bf": "3"})
    times, numbers = times_and_numbers(path, 30)
    assert len(numbers) >= FRAMES - 2
    assert np.all(np.diff(numbers) > 0)
    assert times == pytest.approx([n / RATE for n in numbers], abs=1.5 / RATE)


def test_a_stream_without_times_is_counted(folder: Path) -> None:
    path = write_film(folder / "raw.h264", range(FRAMES), options={"bf": "2"})
    times, numbers = times_and_numbers(path, 1)
    assert times == pytest.approx([n / 25 for n in numbers])  # FFmpeg's rate for such streams
    assert numbers[:3] == [0, 25, 50]


def test_joined_recordings_go_on(plain: Path, folder: Path) -> None:
    first, second = remux(plain, folder / "a.ts", earlier_s=-100), remux(plain, folder / "b.ts")
    joined = folder / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    frames = list(sample_frames(joined, fps=2))
    assert frames[-1].end == pytest.approx(2 * SECONDS, abs=0.1)
    assert len(frames) == pytest.approx(16, abs=1)


# The right picture -------------------------------------------------------------------------------

MATRICES = {
    (65536, 0, 0, 65536): "upright",
    (0, 65536, -65536, 0): "a telephone held upright",
    (-65536, 0, 0, -65536): "upside down",
    (0, -65536, 65536, 0): "turned to the left",
    (-65536, 0, 0, 65536): "mirrored",
    (65536, 0, 0, -65536): "flipped",
    (0, 65536, 65536, 0): "transposed",
    (0, -65536, -65536, 0): "transposed, upside down",
}
CORNERS = {(0, 0): (250, 0, 0), (1, 0): (0, 250, 0), (0, 1): (0, 0, 250), (1, 1): (250, 250, 0)}


def write_colours(
    path: Path,
    array: np.ndarray,
    *,
    codec: str,
    pixels: str,
    matrix: tuple[int, int, int, int] | None = None,
) -> Path:
    """A film of one still, given as (H, W, 3) or (H, W, 4) uint8."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.height, stream.width = array.shape[:2]
        stream.pix_fmt = pixels
        if matrix is not None:
            a, b, c, d = matrix
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        kind = "rgba" if array.shape[2] == 4 else "rgb24"
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format=kind)))
        container.mux(stream.encode(None))
    return path


def corners(image: Image.Image) -> dict[tuple[int, int], np.ndarray]:
    """Mean colour of each quarter by (right, lower)."""
    pixels = np.asarray(image, dtype=np.float64)
    height, width = pixels.shape[:2]
    return {
        (right, lower): pixels[
            lower * height // 2 : (lower + 1) * height // 2,
            right * width // 2 : (right + 1) * width // 2,
        ].mean(axis=(0, 1))
        for right in (0, 1)
        for lower in (0, 1)
    }


def quarters(width: int = 160, height: int = 96) -> np.ndarray:
    pixels = np.zeros((height, width, 3), np.uint8)
    for (right, lower), colour in CORNERS.items():
        pixels[
            lower * height // 2 : (lower + 1) * height // 2,
            right * width // 2 : (right + 1) * width // 2,
        ] = colour
    return pixels


@pytest.mark.parametrize("matrix", MATRICES, ids=MATRICES.values())
def test_frames_are_upright(matrix: tuple[int, int, int, int], tmp_path: Path) -> None:
    path = write_colours(
        tmp_path / "turned.mp4", quarters(), codec="libx264", pixels="yuv444p", matrix=matrix
    )
    (frame,) = sample_frames(path, size=48)
    turned = matrix[0] == 0
    assert frame.image.size == ((48, 80) if turned else (80, 48))
    assert frame_at(path, 0.2).size == ((96, 160) if turned else (160, 96))
    info = probe(path)
    assert (info.width, info.height) == ((96, 160) if turned else (160, 96))
    a, b, c, d = np.sign(matrix)
    shown = corners(frame.image)
    for (right, lower), colour in CORNERS.items():
        # The container's rule, on coordinates from the picture's centre.
        x, y = 2 * right - 1, 2 * lower - 1
        place = (int(a * x + c * y > 0), int(b * x + d * y > 0))
        assert np.abs(shown[place] - colour).max() < 40, (place, shown)


@pytest.mark.parametrize(
    ("shape", "size"), [(Fraction(4, 3), (256, 128)), (Fraction(1, 2), (192, 256))]
)
def test_pixels_become_square(shape: Fraction, size: tuple[int, int], tmp_path: Path) -> None:
    path = write_film(tmp_path / "wide.mp4", range(5), pixel_shape=shape)
    info = probe(path)
    assert (info.width, info.height) == size
    assert frame_at(path, 0).size == size
    assert min(next(sample_frames(path, size=64)).image.size) == 64


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("ten-bit.mkv", "ffv1", "yuv420p10le"),
        ("full-range.avi", "mjpeg", "yuvj420p"),
        ("rgb.mkv", "ffv1", "bgr0"),
        ("4444.mov", "prores_ks", "yuva444p10le"),
        ("422.mkv", "ffv1", "yuv422p"),
    ],
)
def test_colours_survive(name: str, codec: str, pixels: str, tmp_path: Path) -> None:
    path = write_colours(tmp_path / name, quarters(), codec=codec, pixels=pixels)
    image = frame_at(path, 0)
    assert image.mode == "RGB"
    for place, colour in corners(image).items():
        assert np.abs(colour - CORNERS[place]).max() < 12, (place, colour)


@pytest.mark.parametrize(("colorspace", "tag"), [("ITU709", 1), ("SMPTE170M", 6)])
def test_colour_matrices_are_read(colorspace: str, tag: int, tmp_path: Path) -> None:
    array = quarters()
    path = tmp_path / "tagged.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = *array.shape[:2], "yuv444p"
        stream.colorspace, stream.color_range = tag, 1
        stream.options = {"crf": "10"}
        frame = av.VideoFrame.from_ndarray(array, format="rgb24")
        frame = frame.reformat(format="yuv444p", dst_colorspace=colorspace, dst_color_range="MPEG")
        container.mux([*stream.encode(frame), *stream.encode(None)])
    for place, colour in corners(frame_at(path, 0)).items():
        assert np.abs(colour - CORNERS[place]).max() < 12, (place, colour)


def test_grey_films_are_rgb(tmp_path: Path) -> None:
    array = np.full((96, 160, 3), 90, np.uint8)
    path = write_colours(tmp_path / "grey.mkv", array, codec="ffv1", pixels="gray")
    image = frame_at(path, 0)
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image, float) - 90).max() < 3


def test_transparency_is_on_white(tmp_path: Path) -> None:
    array = np.zeros((96, 160, 4), np.uint8)
    array[:, 80:] = (200, 0, 0, 255)
    path = write_colours(tmp_path / "alpha.mov", array, codec="qtrle", pixels="argb")
    image = np.asarray(frame_at(path, 0), float)
    assert np.abs(image[:, :78] - 255).max() < 3
    assert np.abs(image[:, 82:] - (200, 0, 0)).max() < 3


def test_the_shorter_side_is_reduced_and_never_enlarged(plain: Path) -> None:
    sizes = {
        size: next(sample_frames(plain, size=size)).image.size for size in (32, 128, 500, None)
    }
    assert sizes == {32: (48, 32), 128: (192, 128), 500: (192, 128), None: (192, 128)}
    assert frame_at(plain, 1.0, size=32).size == (48, 32)


def test_reduced_frames_look_like_frames_reduced_later(plain: Path) -> None:
    small = np.asarray(frame_at(plain, 1.0, size=64), float)
    full = frame_at(plain, 1.0).resize((96, 64), Image.Resampling.BICUBIC)
    assert np.abs(small - np.asarray(full, float)).mean() < 3


# Bounds ------------------------------------------------------------------------------------------

GROWTH = """
import json, resource, sys
from maxsight.pipelines.video import sample_frames
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
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
        "import sys, maxsight.pipelines.video; "
        "print([m for m in ('av', 'decord', 'torch', 'numpy', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_without_pyav_the_remedy_is_named(plain: Path) -> None:
    code = (
        "import sys; sys.modules['av'] = None\n"
        "from maxsight.errors import BackendError\n"
        "from maxsight.pipelines.video import probe\n"
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
from maxsight.pipelines.video import frame_at, probe, sample_frames
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
    sources = []
    for name in ("h264.mp4", "vp9.webm", "mpeg4.avi", "h264.ts", "hevc.mp4", "mpeg2.mpg"):
        path = folder / name
        sources.append(path if path.exists() else write_film(path, range(FRAMES), **CODINGS[name]))
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
    path = folder / name
    if not path.exists():
        write_film(path, range(FRAMES), **CODINGS[name])
    monkeypatch.setenv("MAXSIGHT_VIDEO_BACKEND", "decord")
    times, numbers = times_and_numbers(path, fps)
    assert len(times) == len(np.arange(0, SECONDS - 1e-6, 1 / fps))
    assert times == pytest.approx([n / RATE for n in numbers], abs=0.002)
    assert_partition(path, fps, end=SECONDS)


@pytest.mark.parametrize("name", ["hevc.mp4", "av1.mp4", "h264.ts", "trimmed"])
def test_what_decord_gets_wrong_goes_to_pyav(
    name: str, plain: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("decord")
    if name == "trimmed":
        path, first = remux(plain, tmp_path / "trimmed.mp4", earlier_s=15 / RATE), 15
    else:
        path, first = folder / name, 0
        if not path.exists():
            write_film(path, range(FRAMES), **CODINGS[name])
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
