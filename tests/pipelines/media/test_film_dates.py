"""When films were taken, by the tags that cameras and programs write."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av")

import av

from maxsight.pipelines.media.video import probe
from maxsight.pipelines.media.video.dates import captured_at

DAY = datetime(2007, 2, 19)


def film(path: Path, tags: dict[str, str], *, options: dict[str, str] | None = None) -> Path:
    with av.open(str(path), "w", options=options or {}) as container:
        container.metadata.update(tags)
        stream: Any = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90, np.uint8))
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path


@pytest.mark.parametrize(
    ("name", "tags", "expected"),
    [
        ("phone.mp4", {"creation_time": "2007-02-19T10:22:33.000000Z"}, (10, 22, 33)),
        ("obs.mkv", {"creation_time": "2007-02-19T10:22:33.000000Z"}, (10, 22, 33)),
        ("tool.mkv", {"DATE_RECORDED": "2007-02-19 11:22:33"}, (11, 22, 33)),
        ("exiftool.webm", {"DateTimeOriginal": "2007:02:19 11:22:33"}, (11, 22, 33)),
        ("day.mkv", {"DATE": "2007-02-19"}, (0, 0, 0)),
        ("iphone.mp4", {"date": "2007-02-19T11:22:33+0100"}, (11, 22, 33)),
        ("none.mp4", {}, None),
        ("released.mp4", {"date": "2007"}, None),
        ("apple-zero.mkv", {"creation_time": "1904-01-01T00:00:00.000000Z"}, None),
        ("unix-zero.mkv", {"creation_time": "1970-01-01T00:00:00.000000Z"}, None),
    ],
)
def test_the_time_of_capture(
    name: str, tags: dict[str, str], expected: tuple[int, int, int] | None, tmp_path: Path
) -> None:
    path = tmp_path / name
    if path.suffix == ".webm":  # which takes no MPEG-4
        path = film(tmp_path / "film.mkv", tags)
    else:
        film(path, tags)
    at = (
        None
        if expected is None
        else DAY.replace(hour=expected[0]).replace(minute=expected[1], second=expected[2])
    )
    assert probe(path).captured_at == at


def test_the_cameras_own_clock_outweighs_utc(tmp_path: Path) -> None:
    tags = {
        "creation_time": "2007-02-19T10:22:33.000000Z",
        "com.apple.quicktime.creationdate": "2007-02-19T11:22:33+0100",
    }
    path = film(tmp_path / "iphone.mov", tags, options={"movflags": "use_metadata_tags"})
    assert probe(path).captured_at == datetime(2007, 2, 19, 11, 22, 33)


def test_a_zero_does_not_hide_the_right_time() -> None:
    zero, right = "1904-01-01T00:00:00.000000Z", "2007-02-19T10:22:33.000000Z"
    assert captured_at([{"creation_time": zero}, {"creation_time": right}]) == datetime(
        2007, 2, 19, 10, 22, 33
    )
    assert captured_at([{"creation_time": zero, "date": "2007-02-19"}]) == DAY
    near = "1970-01-01T00:05:13.000000Z"
    assert captured_at([{"creation_time": near}]) is None
