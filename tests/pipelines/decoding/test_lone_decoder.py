"""Pictures of queries and contact sheets: decoded apart, within the limits of ingestion."""

from __future__ import annotations

import os
import signal
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from brightening import write_film
from decoders import child_processes
from PIL import Image

from maxsight.errors import MediaError
from maxsight.models.pixels.preprocess import Preprocess, resize
from maxsight.pipelines.decoding.lone import LoneDecoder

PREPROCESS = Preprocess(size=32)


@pytest.fixture
def decoder() -> Iterator[LoneDecoder]:
    with LoneDecoder() as one:
        yield one


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    return tmp_path / "noise.png"


def bomb(path: Path, side: int) -> Path:
    """A few kilobytes of PNG that are ``side`` x ``side`` pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(side + 1) * 64, 9)
    signature = b"\x89PNG\r\n\x1a\n"
    path.write_bytes(signature + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


def test_pixels_are_those_of_ingestion(decoder: LoneDecoder, picture: Path) -> None:
    expected = resize(Image.open(picture).convert("RGB"), PREPROCESS)
    assert np.array_equal(decoder.pixels(str(picture), PREPROCESS)[0], expected)
    assert decoder.pixels(str(picture), Preprocess(size=16)).shape == (1, 16, 16, 3)


def test_views_keep_their_shape_and_are_never_enlarged(decoder: LoneDecoder, picture: Path) -> None:
    assert decoder.view(str(picture), side=40).shape == (30, 40, 3)
    whole = decoder.view(str(picture), side=500)
    assert np.array_equal(whole, np.asarray(Image.open(picture)))


def test_a_moment_of_a_film(decoder: LoneDecoder, tmp_path: Path) -> None:
    write_film(tmp_path / "film.mp4", seconds=2)
    first = decoder.view(str(tmp_path / "film.mp4"), side=32, time=0.0)
    last = decoder.view(str(tmp_path / "film.mp4"), side=32, time=1e9)
    assert last.mean() > first.mean() + 20


def test_one_process_serves_every_picture_and_ends_at_close(
    decoder: LoneDecoder, picture: Path
) -> None:
    before = child_processes()
    decoder.view(str(picture), side=40)
    (process,) = child_processes() - before
    decoder.view(str(picture), side=50)
    with ThreadPoolExecutor(8) as threads:
        shapes = list(threads.map(lambda _: decoder.view(str(picture), side=40).shape, range(16)))
    assert shapes == [(30, 40, 3)] * 16
    # The threads that asked are gone; the kernel ends a decoder with the thread that started it.
    asking = threading.Thread(target=decoder.view, args=(str(picture),), kwargs={"side": 9})
    asking.start()
    asking.join()
    decoder.view(str(picture), side=40)
    assert child_processes() - before == {process}
    decoder.close()
    assert child_processes() == before
    assert decoder.view(str(picture), side=40).shape == (30, 40, 3)


def test_a_process_that_was_killed_is_started_anew(decoder: LoneDecoder, picture: Path) -> None:
    before = child_processes()
    decoder.view(str(picture), side=40)
    (process,) = child_processes() - before
    os.kill(process, signal.SIGKILL)
    while (Path("/proc") / str(process) / "stat").read_text().split()[2] != "Z":
        pass
    assert decoder.view(str(picture), side=40).shape == (30, 40, 3)


def test_what_harms_costs_itself_only(
    decoder: LoneDecoder, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    giant = bomb(tmp_path / "bomb.png", 200_000)
    with pytest.raises(MediaError, match="MAXSIGHT_MAX_PIXELS"):
        decoder.view(str(giant), side=40)
    (tmp_path / "words.png").write_text("no picture")
    with pytest.raises(MediaError, match="not a picture"):
        decoder.pixels(str(tmp_path / "words.png"), PREPROCESS)
    monkeypatch.setenv("MAXSIGHT_MAX_PIXELS", "100")
    with pytest.raises(MediaError, match="80 x 60 pixels"):
        decoder.pixels(str(picture), PREPROCESS)
    monkeypatch.delenv("MAXSIGHT_MAX_PIXELS")
    assert decoder.view(str(picture), side=40).shape == (30, 40, 3)


def test_a_decoder_that_falls_silent_is_stopped(
    decoder: LoneDecoder, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAXSIGHT_DECODE_TIMEOUT", "1")
    before = child_processes()
    decoder.view(str(picture), side=40)
    (process,) = child_processes() - before
    os.kill(process, signal.SIGSTOP)
    with pytest.raises(MediaError, match="no sign of life"):
        decoder.view(str(picture), side=40)
    assert child_processes() == before
    assert decoder.view(str(picture), side=40).shape == (30, 40, 3)


def test_closing_waits_for_what_other_threads_asked_for(
    decoder: LoneDecoder, picture: Path
) -> None:
    before = child_processes()
    decoder.view(str(picture), side=40)
    (process,) = child_processes() - before
    os.kill(process, signal.SIGSTOP)
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(decoder.view, str(picture), side=40) for _ in range(2)]
        while not all(one.running() for one in asked):
            pass
        closed = threads.submit(decoder.close)
        with pytest.raises(TimeoutError):
            closed.result(0.2)
        afterwards = threads.submit(decoder.view, str(picture), side=20)
        os.kill(process, signal.SIGCONT)
        assert [one.result().shape for one in asked] == [(30, 40, 3)] * 2
        assert afterwards.result().shape == (15, 20, 3)
        closed.result()
    decoder.close()
    assert child_processes() == before


def test_ctrl_c_does_not_wait_for_the_picture(decoder: LoneDecoder, picture: Path) -> None:
    before = child_processes()
    decoder.view(str(picture), side=40)
    (process,) = child_processes() - before
    os.kill(process, signal.SIGSTOP)
    pressing = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    pressing.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        decoder.view(str(picture), side=40)
    decoder.close()
    assert time.monotonic() - started < 5
    assert child_processes() == before
