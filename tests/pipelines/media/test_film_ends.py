"""What is said of films that are not whole is true; of whole ones nothing is said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("av")

import av
from numbered_films import RATE, coded, plain_film, remux, write_film

from maxsight.errors import MediaError
from maxsight.pipelines.media.video import sample_frames


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films")


def remarks_of(path: Path) -> list[str]:
    return read(path)[0]


def read(path: Path) -> tuple[list[str], float, int]:
    """What is remarked upon, where the film ends, and how many frames it has."""
    found: list[str] = []
    frames = list(sample_frames(path, fps=RATE, size=32, on_remark=found.append))
    return found, frames[-1].end, len(frames)


def test_a_whole_film_is_not_remarked_upon(folder: Path) -> None:
    for name in ("h264.mp4", "h264-open-gop.mkv", "h264.ts", "vp9.webm", "mpeg4.avi"):
        assert remarks_of(coded(folder, name)) == []
    assert remarks_of(remux(plain_film(folder), folder / "cut.mp4", earlier_s=1.5)) == []
    assert remarks_of(remux(plain_film(folder), folder / "late.mkv", earlier_s=-500)) == []


def test_a_film_that_breaks_off_says_where(tmp_path: Path) -> None:
    for name in ("whole.mkv", "whole.avi"):
        whole = write_film(tmp_path / name, range(600), codec="mpeg4")
        broken = whole.with_stem("broken")
        broken.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        (remark,) = remarks_of(broken)
        assert remark.startswith(("breaks off: read up to 0:09 ", "breaks off: read up to 0:10 "))
        assert remark.endswith(" of 0:20"), remark


H264 = {"options": {"bf": "2", "preset": "veryfast"}}
MPEG4: dict[str, Any] = {"codec": "mpeg4"}
VP8 = {"codec": "libvpx", "options": {"deadline": "realtime", "cpu-used": "8"}}
# Of each kind: coding, FFmpeg's options, whether a cut in its middle is told, and the whole length.
KINDS: dict[str, tuple[dict[str, Any], dict[str, str], bool, bool]] = {
    "front.mp4": (H264, {"movflags": "faststart"}, True, True),
    "fragments.mp4": (H264, {"movflags": "frag_keyframe+empty_moov"}, True, False),
    "dash.mp4": (H264, {"movflags": "dash+frag_keyframe+delay_moov"}, True, False),
    "film.mkv": (H264, {}, True, True),
    "cues.mkv": (H264, {"cues_to_front": "1", "reserve_index_space": "9000"}, True, True),
    "live.mkv": (H264, {"live": "1"}, False, False),
    "film.webm": (VP8, {}, True, True),
    "film.flv": (H264, {}, True, True),
    "stream.flv": (H264, {"flvflags": "no_duration_filesize"}, True, False),
    "film.avi": (MPEG4, {}, True, True),
    "film.asf": (MPEG4, {}, True, True),
    "film.wmv": ({"codec": "wmv2"}, {}, True, True),
    "film.ivf": (VP8, {}, True, True),
    "film.ts": (H264, {}, False, False),
    "film.mpg": ({"codec": "mpeg2video"}, {}, False, False),
    "film.ogg": (VP8, {}, False, False),
    "film.nut": (MPEG4, {}, False, False),
    "film.mxf": ({"codec": "mpeg2video"}, {}, False, True),
}
LENGTH = 150


def made(folder: Path, name: str) -> Path:
    coding, options, _, _ = KINDS[name]
    path = folder / name
    if not path.exists():
        suffix = ".mp4" if coding is H264 else path.suffix
        source = write_film(folder / f"source of {name}{suffix}", range(LENGTH), **coding)
        with av.open(str(source)) as reading, av.open(str(path), "w", options=options) as writing:
            stream = reading.streams.video[0]
            copy = writing.add_stream_from_template(stream)
            for packet in reading.demux(stream):
                if packet.size:
                    packet.dts = packet.pts if packet.dts is None else packet.dts
                    packet.stream = copy
                    writing.mux(packet)
    return path


@pytest.mark.parametrize("name", KINDS)
def test_what_is_said_of_a_film_that_is_cut_is_true(
    name: str, folder: Path, tmp_path: Path
) -> None:
    whole = made(folder, name)
    said, ends, count = read(whole)
    assert (said, count) == ([], LENGTH)
    assert ends == pytest.approx(LENGTH / RATE, abs=0.1)
    content = whole.read_bytes()
    _, _, is_told, is_length_told = KINDS[name]
    path = tmp_path / name
    for share in (0.3, 0.5, 0.62, 0.9, 0.97, 0.99, 0.998):
        path.write_bytes(content[: int(len(content) * share)])
        try:
            said, ends, count = read(path)
        except MediaError:
            continue
        breaks = [remark for remark in said if remark.startswith("breaks off")]
        for remark in breaks:
            assert count < LENGTH or ends < LENGTH / RATE + 0.1, share
            told = re.fullmatch(r"breaks off: read up to 0:0(\d)( of 0:05)?", remark)
            assert told is not None, remark
            assert int(told[1]) == round(ends)
            assert bool(told[2]) == (is_length_told and round(ends) < 5)
        if count == LENGTH:  # what lacks is an index
            assert said == [], share
        if 0.3 < share < 0.7:
            assert len(breaks) == is_told or name == "film.mxf", (share, said)
        if is_told and breaks and path.suffix != ".wmv":
            assert said == breaks


def test_a_text_that_goes_on_is_no_end_that_lacks(folder: Path) -> None:
    plain = plain_film(folder)
    path = folder / "titled.mkv"
    text = folder / "titles.srt"
    text.write_text("1\n00:00:30,000 --> 00:00:31,000\nThe end\n")
    with av.open(str(plain)) as film, av.open(str(text)) as titles, av.open(str(path), "w") as out:
        streams = [source.streams[0] for source in (film, titles)]
        copies = [out.add_stream_from_template(stream) for stream in streams]
        for source, copy in zip((film, titles), copies, strict=True):
            for packet in source.demux(source.streams[0]):
                if packet.size:
                    packet.stream = copy
                    out.mux(packet)
    assert remarks_of(path) == []


def test_damage_is_remarked_upon(folder: Path, tmp_path: Path) -> None:
    content = bytearray(coded(folder, "h264.ts").read_bytes())
    middle = len(content) // 2
    content[middle : middle + len(content) // 10] = bytes(len(content) // 10)
    path = tmp_path / "damaged.ts"
    path.write_bytes(content)
    for remark in remarks_of(path):
        assert "damaged" in remark or "breaks off" in remark
