"""Decoder processes against real crashes: what a lost one costs, and how they end."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from brightening import write_film
from decoders import LIMIT, PREPROCESS, job, pool, support_environment
from PIL import Image

from maxsight.pipelines.decoding.messages import Finished, Frames, Refused
from maxsight.pipelines.decoding.orders import Job
from maxsight.pipelines.decoding.pool import Decoded
from maxsight.pipelines.media.files import hash_file
from maxsight.pipelines.media.pictures import decode_picture


@pytest.fixture
def pictures(tmp_path: Path, photograph: Image.Image) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for number, path in enumerate(paths):
        photograph.crop((number, 0, number + 80, 60)).save(path)
    return paths


def by_path(messages: Iterator[Decoded | None]) -> dict[str, list[object]]:
    result: dict[str, list[object]] = {}
    for message in messages:
        assert message is not None
        result.setdefault(Path(message.job.path).name, []).append(message.message)
    return result


def test_pool_decodes_what_this_process_decodes(pictures: list[Path]) -> None:
    with pool(workers=2) as decoders:
        results = by_path(decoders.decode(map(job, pictures)))
    assert len(results) == len(pictures)
    for path in pictures:
        (message,) = results[path.name]
        assert isinstance(message, Finished)
        expected, _ = decode_picture(path.read_bytes(), PREPROCESS, max_pixels=LIMIT)
        assert (message.pixels == expected).all()
        assert message.content_hash == hash_file(str(path))[0]
        assert (message.bytes, message.width) == (path.stat().st_size, 80)


@pytest.mark.parametrize(
    ("signal_number", "reason", "again"),
    [
        (signal.SIGSEGV, "crashed its decoder (Segmentation fault)", False),
        (signal.SIGKILL, "ran out of memory", True),
        (signal.SIGSTOP, "no sign of life from its decoder in 1 seconds", True),
    ],
)
def test_a_decoder_lost_costs_one_file(
    pictures: list[Path], signal_number: int, reason: str, again: bool
) -> None:
    with pool(timeout_s=1) as decoders:

        def jobs() -> Iterator[Job]:
            for number, path in enumerate(pictures):
                if number == 3:
                    for pid in decoders.pids:
                        os.kill(pid, signal_number)
                        time.sleep(0.1)
                yield job(path)

        results = by_path(decoders.decode(jobs()))
    refused = [messages[0] for messages in results.values() if isinstance(messages[0], Refused)]
    assert len(results) == len(pictures)
    assert len(refused) == 1
    assert reason in refused[0].reason
    assert refused[0].again is again
    assert refused[0].limit == ("timeout" if signal_number == signal.SIGSTOP else None)


def test_decoders_cannot_take_the_machines_memory(tmp_path: Path) -> None:
    # A picture of 100 x 100 pixels, cut from one tile of 48,000 x 48,000.
    tags = [(256, 100), (257, 100), (258, 8), (259, 8), (262, 1), (277, 1)]
    tags += [(322, 48_000), (323, 48_000), (324, 134), (325, 30)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    path = tmp_path / "hungry.tif"
    path.write_bytes(
        b"II*\x00\x08\x00\x00\x00"
        + struct.pack("<H", len(tags))
        + entries
        + bytes(4)
        + zlib.compress(bytes(1000)).ljust(30, b"\x00")
    )
    with pool(max_pixels=30_000_000) as decoders:
        ((message,),) = by_path(decoders.decode([job(path)])).values()
    assert isinstance(message, Refused)
    assert "more memory" in message.reason
    assert "MAXSIGHT_MEMORY" in message.reason
    assert message.again


def test_decoders_end_with_their_parent(tmp_path: Path, photograph: Image.Image) -> None:
    path = tmp_path / "a.png"
    photograph.save(path)
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from decoders import job, pool\n"
        "decoders = pool(workers=2)\n"
        "stream = decoders.decode(job(Path(sys.argv[1])) for _ in range(10**9))\n"
        # On a busy machine one may decode a while before the other has started.
        "while len(decoders.pids) < 2: next(stream)\n"
        "print(*decoders.pids, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env=support_environment(),
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.kill()
    deadline = time.monotonic() + 5
    while any(_lives(pid) for pid in pids):
        assert time.monotonic() < deadline, "decoders outlive their parent"
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_closing_stops_everything(pictures: list[Path]) -> None:
    decoders = pool(workers=2)
    stream = decoders.decode(job(pictures[0]) for _ in range(10**9))
    next(stream)
    pids = decoders.pids
    decoders.close()
    assert pids
    assert not any(_lives(pid) for pid in pids)


def test_nothing_of_the_current_folder_is_imported(
    tmp_path: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "PIL.py").write_text("raise SystemExit('imported from a folder of pictures')")
    monkeypatch.chdir(tmp_path)
    with pool() as decoders:
        (messages,) = by_path(decoders.decode([job(pictures[0])])).values()
    assert isinstance(messages[0], Finished)


def test_decoders_never_import_torch() -> None:
    program = (
        "import sys, maxsight.pipelines.decoding.worker\n"
        "print(sorted({'torch', 'av', 'lance', 'pyarrow', 'faiss'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_films_come_in_groups_of_frames_with_spans(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    write_film(path, seconds=12)
    with pool() as decoders:
        (messages,) = by_path(decoders.decode([job(path, "video")])).values()
    *groups, end = messages
    assert isinstance(end, Finished)
    assert end.kind == "video"
    assert (end.width, end.height) == (96, 64)
    assert end.content_hash == hash_file(str(path))[0]
    assert len(groups) >= 2
    parts: list[Frames | Finished] = [*(g for g in groups if isinstance(g, Frames)), end]
    spans = np.array([span for part in parts for span in part.spans])
    pixels = np.concatenate([part.pixels for part in parts])
    assert len(spans) == len(pixels) == 24
    assert spans[0, 0] == 0
    assert spans[-1, 1] == pytest.approx(12, abs=0.2)
    assert (spans[1:, 0] == spans[:-1, 1]).all()
    assert pixels.mean((1, 2, 3)) == pytest.approx(20 + 200 * spans[:, 0] / 12, abs=6)


def test_content_decides_where_the_name_does_not(tmp_path: Path, photograph: Image.Image) -> None:
    write_film(tmp_path / "film.mp4", seconds=1)
    film, picture, text = tmp_path / "film", tmp_path / "picture", tmp_path / "text"
    (tmp_path / "film.mp4").rename(film)
    photograph.save(picture, "PNG")
    text.write_text("neither")
    with pool() as decoders:
        results = by_path(decoders.decode(job(path, None) for path in (film, picture, text)))
    ends = {name: messages[-1] for name, messages in results.items()}
    assert isinstance(ends["film"], Finished)
    assert ends["film"].kind == "video"
    assert isinstance(ends["picture"], Finished)
    assert ends["picture"].kind == "image"
    assert isinstance(ends["text"], Refused)
