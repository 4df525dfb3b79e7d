"""Pictures that keep their own shapes on their way from a decoder to an encoder."""

from __future__ import annotations

import io
import math
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from decoders import LIMIT, job
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from maxsight.models.pixels.preprocess import Preprocess, resize
from maxsight.pipelines.decoding import messages
from maxsight.pipelines.decoding.messages import Finished, Frames
from maxsight.pipelines.decoding.pool import DecodePool

FIT = Preprocess(size=64, resize_mode="fit")


@given(width=st.integers(1, 900), height=st.integers(1, 900), size=st.integers(8, 200))
def test_fit_keeps_the_shape_and_never_enlarges(width: int, height: int, size: int) -> None:
    preprocess = Preprocess(size=size, resize_mode="fit")
    rows, columns, _ = resize(Image.new("RGB", (width, height)), preprocess).shape
    assert preprocess.gives(columns, rows)
    kept = min(width, 8 * height), min(height, 8 * width)
    scale = min(1.0, size / math.sqrt(kept[0] * kept[1]))
    assert columns == pytest.approx(max(1, kept[0] * scale), abs=1)
    assert rows == pytest.approx(max(1, kept[1] * scale), abs=1)


def test_fit_leaves_small_pictures_alone_and_cuts_strips_to_the_middle() -> None:
    draw = np.random.default_rng(0)
    small = draw.integers(0, 255, (50, 70, 3), np.uint8)
    assert np.array_equal(resize(Image.fromarray(small), FIT), small)
    strip = draw.integers(0, 255, (10, 200, 3), np.uint8)
    assert np.array_equal(resize(Image.fromarray(strip), FIT), strip[:, 60:140])


def test_only_shapes_that_fit_are_taken_from_a_decoder() -> None:
    def arrived(width: int, height: int, preprocess: Preprocess) -> messages.Message:
        stream = io.BytesIO()
        pixels = np.arange(2 * width * height * 3, dtype=np.uint8).reshape(2, height, width, 3)
        messages.send(stream, Frames(0.5, ((0.0, 1.0), (1.0, 2.0)), pixels))
        stream.seek(0)
        received = messages.read(lambda buffer: stream.readinto(buffer) == len(buffer))
        assert received is not None
        message = messages.unpack(*received, preprocess.gives)
        assert isinstance(message, Frames)
        assert np.array_equal(message.pixels, pixels)
        return message

    arrived(64, 64, Preprocess(size=64))
    arrived(128, 32, FIT)
    for width, height, preprocess in (
        (64, 63, Preprocess(size=64)),
        (65, 65, FIT),
        (2000, 2, FIT),
    ):
        with pytest.raises(ValueError, match="which nobody asked for"):
            arrived(width, height, preprocess)


def test_decoders_hand_over_pictures_of_their_shapes(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    shapes = [(64, 64), (30, 90), (20, 400), (1, 1), (300, 200)]
    for number, (height, width) in enumerate(shapes):
        noise = Image.fromarray(draw.integers(0, 255, (height, width, 3), np.uint8))
        noise.save(tmp_path / f"{number}.png")
    with DecodePool(FIT, fps=1, workers=2, timeout_s=30, max_pixels=LIMIT, memory=8 << 30) as pool:
        found = {
            Path(each.job.path).stem: each.message
            for each in pool.decode([job(file) for file in sorted(tmp_path.iterdir())])
            if each is not None
        }
    for number in range(len(shapes)):
        message = found[str(number)]
        assert isinstance(message, Finished)
        truth = resize(Image.open(tmp_path / f"{number}.png"), FIT)
        assert np.array_equal(message.pixels, truth[None])


def test_a_film_that_changes_size_comes_in_groups_of_one_shape(tmp_path: Path) -> None:
    film = tmp_path / "turning.ts"
    with film.open("wb") as joined:
        for part, (width, height) in enumerate([(96, 48), (48, 96)]):
            joined.write(_seconds_of_film(tmp_path / f"{part}.ts", width, height, start=3 * part))
    with DecodePool(FIT, fps=1, workers=1, timeout_s=60, max_pixels=LIMIT, memory=8 << 30) as pool:
        received = [each.message for each in pool.decode([job(film, "video")]) if each is not None]
    blocks = [message for message in received if isinstance(message, Frames | Finished)]
    shapes = [block.pixels.shape[1:3] for block in blocks if len(block.pixels)]
    assert shapes == [(45, 91), (91, 45)]
    assert sum(len(block.spans) for block in blocks) == 6
    assert torch.from_numpy(blocks[0].pixels).float().mean() > 100


def _seconds_of_film(path: Path, width: int, height: int, *, start: int) -> bytes:
    """Three seconds, a frame each, from the second ``start`` on."""
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(75):
            frame = av.VideoFrame.from_ndarray(
                np.full((height, width, 3), 100 + number, np.uint8), format="rgb24"
            )
            frame.pts, frame.time_base = 25 * start + number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path.read_bytes()
