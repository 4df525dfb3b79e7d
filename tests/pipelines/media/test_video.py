"""Films: the right frames at the right times, from every coding, in bounds, whatever the file."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("av")

import av
from numbered_films import (
    CODINGS,
    FRAMES,
    HEIGHT,
    RATE,
    SECONDS,
    WIDTH,
    coded,
    number_of,
    remux,
    times_and_numbers,
    write_film,
)

from maxsight.pipelines.media.video import frame_at, probe, sample_frames


@pytest.fixture(scope="module", params=CODINGS)
def film(request: pytest.FixtureRequest, folder: Path) -> Path:
    """Four seconds in every coding that this build of FFmpeg writes."""
    try:
        av.codec.Codec(CODINGS[request.param].get("codec", "libx264"), "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip("this build of FFmpeg does not write it")
    return coded(folder, request.param)


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


# As many frames as may be left out between two that others refer to.
DENSE = {"bf": "16", "x264-params": "b-adapt=0:b-pyramid=none"}


@pytest.mark.parametrize("options", [{}, DENSE], ids=["usual", "dense"])
@pytest.mark.parametrize(
    "seconds", [[0, 1, 2, 600, 601, 3000], range(0, 90, 3), [*range(10), 30, 31, 32, 90]], ids=str
)
def test_frames_that_stand_longer_than_the_rate_says_are_all_seen(
    seconds: Sequence[int], options: dict[str, str], folder: Path
) -> None:
    path = folder / "sparse.mkv"
    write_film(path, [10 * s for s in seconds], rate=10, keyframes=1000, options=options)
    frames = list(sample_frames(path, fps=1))
    assert [number_of(frame.image) for frame in frames] == [10 * s % 4096 for s in seconds]
    assert [frame.time for frame in frames] == pytest.approx(list(seconds))
    assert [frame.end for frame in frames[:-1]] == [frame.time for frame in frames[1:]]
    for frame, after in itertools.pairwise(frames):
        rest = list(sample_frames(path, fps=1, start=frame.next))
        assert rest[0].time == after.time
        assert len(rest) == sum(later.time >= after.time for later in frames)


def test_a_long_still_is_one_frame_with_one_span(folder: Path) -> None:
    path = write_film(folder / "slides.mp4", [0, 1, 200, 330], options={"bf": "0"})
    frames = list(sample_frames(path, fps=1))
    assert [number_of(frame.image) for frame in frames] == [0, 1, 200, 330]
    assert [frame.time for frame in frames] == pytest.approx([0, 1 / RATE, 200 / RATE, 11])
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
