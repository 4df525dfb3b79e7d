"""Which files of a folder count, on what people's disks hold."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.stream import VideoStream
from PIL import Image

from maxsight.pipelines.ingestion.scan import ScanResult, scan
from maxsight.pipelines.media.formats import content_kind, picture_format


def picture(form: str) -> bytes:
    grey = np.kron(np.arange(48, dtype=np.uint8).reshape(6, 8), np.full((8, 8), 5, np.uint8))
    data = io.BytesIO()
    Image.fromarray(grey).convert("RGB").save(data, form)
    return data.getvalue()


def film(form: str, codec: str = "mpeg4", size: tuple[int, int] = (64, 48)) -> bytes:
    data = io.BytesIO()
    with av.open(data, "w", format=form) as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for shade in range(0, 250, 10):
            pixels = np.full((size[1], size[0], 3), shade, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode())
    return data.getvalue()


DVD = ("mpeg2video", (720, 576))

# Name -> the bytes of a real picture or film.
WANTED: dict[str, Callable[[], bytes]] = {
    "VIDEO_TS/VTS_01_1.VOB": lambda: film("vob", *DVD),
    "camcorder/MOV001.MOD": lambda: film("vob", *DVD),
    "camcorder/00012.TOD": lambda: film("mpegts", *DVD),
    "camcorder/00001.MTS": lambda: film("mpegts", *DVD),
    "tv/recording.ts": lambda: film("mpegts", *DVD)[100:],  # cut in the middle of a packet
    "tv/recording.trp": lambda: film("mpegts", *DVD),
    "minidv/tape01.dv": lambda: film("dv", "dvvideo", (720, 576)),
    "oldphone/clip.3g2": lambda: film("3g2"),
    "web/clip.asf": lambda: film("asf", "wmv2"),
    "web/clip.divx": lambda: film("avi"),
    "web/old": lambda: film("mov").replace(b"ftypqt  ", b"freeqt  ", 1),
    "web/clip.ogg": lambda: b"OggS" + bytes(24) + b"\x80theora",
    "pro/clip.mxf": lambda: film("mxf", *DVD),
    "takeout/PXL_2022.MP": lambda: film("mp4"),
    "takeout/MVIMG_2018": lambda: film("mp4"),
    "takeout/VID.mp4~2": lambda: film("mp4"),
    "web/movie.nut": lambda: film("nut"),
    "web/movie.flv": lambda: film("flv", "flv"),
    "web/photo.jpg_large": lambda: picture("JPEG"),
    "web/photo.jpg!d": lambda: picture("JPEG"),
    "web/photo.jpg%3Fw=100": lambda: picture("WEBP"),
    "noext/IMG_0001": lambda: picture("JPEG"),
    "noext/.photo.": lambda: b"",  # replaced below: hidden
    "trailing/IMG_0002.jpg ": lambda: picture("JPEG"),
    "upper/IMG_0003.JPG": lambda: picture("JPEG"),
    "scans/page.jp2": lambda: picture("JPEG2000"),
    "scans/page": lambda: picture("JPEG2000"),
    "scans/drawing.ppm": lambda: picture("PPM"),
    "scans/texture.tga": lambda: picture("TGA"),
    "scans/fax.pcx": lambda: picture("PCX"),
    "scans/bitmap": lambda: picture("BMP"),
    "scans/old.sgi": lambda: picture("SGI"),
    "scans/game.dds": lambda: picture("DDS"),
}
del WANTED["noext/.photo."]

# What only looks like one.
UNWANTED: dict[str, bytes] = {
    "project/index.ts": b"export const answer: number = 42;\n" * 200,
    "project/main.mts": b"import { answer } from './index.ts';\n" * 200,
    "project/go.mod": b"module example.org/x\n" * 99,
    "qt/app_de.ts": b'<?xml version="1.0" encoding="utf-8"?>\n<TS version="2.1"></TS>\n' * 99,
    "music/song.ogg": b"OggS" + bytes(24) + b"\x01vorbis" + bytes(4000),
    "music/song": b"ID3\x04" + bytes(4000),
    "music/book.m4b": b"\0\0\0\x20ftypM4B " + bytes(4000),
    "music/voice": b"\0\0\0\x20ftypM4A " + bytes(4000),
    "raw/DSC_1.NEF": b"MM\0*" + bytes(4000),
    "raw/GOPR1.LRV": b"\0\0\0\x20ftypisom" + bytes(4000),
    "text/README": b"BM and P6 and The free software\n" * 99,
    "text/notes": b"The free software foundation\n" * 99,
    "text/GGGG": b"Guten Tag. " * 999,
    "empty/nothing": b"",
    "zeros/zeros": bytes(9999),
    "Thumbs.db": picture("PNG"),
}
LEFT_OUT = (
    "@eaDir/IMG_1.jpg/SYNOPHOTO_THUMB_XL.jpg",
    "sub/@EADIR/IMG_1.jpg/SYNOPHOTO_THUMB_XL.jpg",
    "#recycle/IMG_2.jpg",
    "@Recycle/IMG_2.jpg",
    "$RECYCLE.BIN/S-1-5-21/$RABC123.jpg",
    "System Volume Information/x.jpg",
    "lost+found/#123.jpg",
    "__MACOSX/IMG_3.jpg",
    "web/node_modules/pkg/logo.png",
    "All.photoslibrary/resources/derivatives/1.jpg",
)
HIDDEN = (".@__thumb/a.jpg", ".Trash-1000/files/b.jpg", ".thumbnails/c.png", "._IMG_3.jpg")


def put(root: Path, name: str, data: bytes) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def found(result: ScanResult, root: Path) -> set[str]:
    assert result.unreadable == ()
    return {os.path.relpath(job.path, root) for job in result.new}


def test_names_of_cameras_boxes_and_exports(tmp_path: Path) -> None:
    for name, make in WANTED.items():
        put(tmp_path, name, make())
    result = scan([tmp_path], {}, {})
    assert found(result, tmp_path) == WANTED.keys()
    assert result.passed_over == ()
    kinds = {os.path.relpath(job.path, tmp_path): job.kind for job in result.new}
    folders = {"web", "scans", "noext", "trailing", "upper"}
    for name, kind in kinds.items():
        is_picture = name.partition("/")[0] in folders and "clip" not in name and "ov" not in name
        assert kind == ("image" if is_picture and name != "web/old" else "video"), name


def test_what_only_looks_like_one(tmp_path: Path) -> None:
    for name, data in UNWANTED.items():
        put(tmp_path, name, data)
    for name in (*LEFT_OUT, *HIDDEN):
        put(tmp_path, name, picture("PNG"))
    put(tmp_path, "All.photoslibrary/originals/1.jpg", picture("JPEG"))
    result = scan([tmp_path], {}, {})
    assert found(result, tmp_path) == {"All.photoslibrary/originals/1.jpg"}
    counts = dict(result.passed_over)
    assert sum(counts.values()) == len(UNWANTED)
    assert (counts[".ts"], counts[".nef"], counts[".m4b"], counts[".mod"]) == (2, 1, 1, 1)
    assert counts[""] == 7
    assert sum(dict(result.left_out).values()) == len(LEFT_OUT)
    assert dict(result.left_out)["@eaDir"] == 1
    # What is given by name is read, whatever the name.
    given = [tmp_path / "@eaDir", tmp_path / HIDDEN[0], tmp_path / "._IMG_3.jpg"]
    assert len(found(scan(given, {}, {}), tmp_path)) == 3


def test_libraries_are_not_looked_into(tmp_path: Path) -> None:
    for name in ("x.maxsight/a.jpg", "lib/items.lance/a.jpg", "lib/library.json", "lib/b.jpg"):
        put(tmp_path, name, picture("JPEG"))
    assert found(scan([tmp_path], {}, {}), tmp_path) == set()


def test_rules_of_a_person(tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg", "sub/c.png", "sub/d.jpg", "drafts/e.jpg", "sub/drafts/f.jpg"):
        put(tmp_path, name, picture("JPEG"))
    put(tmp_path, "node_modules/g.jpg", picture("JPEG"))
    everything = found(scan([tmp_path], {}, {}, exclude=["!node_modules/"]), tmp_path)
    assert "node_modules/g.jpg" in everything
    result = scan([tmp_path], {}, {}, exclude=["*.png", "/drafts/"])
    assert found(result, tmp_path) == {"b.jpg", "sub/d.jpg", "sub/drafts/f.jpg"}
    assert dict(result.left_out) == {"--exclude": 3, "node_modules": 1}
    put(tmp_path, ".maxsightignore", b"*.png\n")
    put(tmp_path, "sub/.maxsightignore", b"# but here\n!c.png\ndrafts/\n")
    result = scan([tmp_path], {}, {})
    assert found(result, tmp_path) == {"b.jpg", "sub/c.png", "sub/d.jpg", "drafts/e.jpg"}
    # What is given by hand outweighs the files.
    result = scan([tmp_path], {}, {}, exclude=["!a.png", "d.jpg"])
    assert found(result, tmp_path) == {"a.png", "b.jpg", "sub/c.png", "drafts/e.jpg"}
    put(tmp_path, ".maxsightignore", b"*.png\0")
    assert "not heeded: not a text" in scan([tmp_path], {}, {}).warnings[0]


def test_content_that_is_cut_or_noise(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for make in WANTED.values():
        data = make()
        for length in (0, 1, 3, 7, 15, 31, 63, 200):
            content_kind(data[:length])
            picture_format(data[:length])
    noise = [random.bytes(4096) for _ in range(3000)]
    assert sum(content_kind(data) is not None for data in noise) == 0


@pytest.mark.parametrize(("name", "kind"), [("film.gif", "video"), ("still.mp4", "image")])
def test_a_file_under_anothers_suffix_is_what_it_holds(
    tmp_path: Path, name: str, kind: str
) -> None:
    from decoders import pool

    from maxsight.pipelines.decoding.messages import Finished

    path = put(tmp_path, name, film("mp4") if kind == "video" else picture("GIF"))
    jobs = scan([path], {}, {}).new
    with pool(workers=1) as decoders:
        ends = [d.message for d in decoders.decode(jobs) if d is not None]
    assert isinstance(ends[-1], Finished)
    assert ends[-1].kind == kind


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``photos`` with ``NAS`` in it, a link to it, and the current folder above both."""
    for name in ("a.jpg", "NAS/b.jpg", "sub/NAS/c.jpg", "2019 [best]/d.jpg", "2019 b/e.jpg"):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    (tmp_path / "link").symlink_to("photos")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("root", ["photos", "./photos/", "{}/photos", "link"])
@pytest.mark.parametrize(
    "pattern",
    [
        "/NAS",
        "./NAS",
        "./NAS/",
        "NAS/b.jpg",
        "photos/NAS",
        "photos/NAS//",
        "./photos/NAS/",
        "photos/../photos/./NAS",
        "{}/photos/NAS",
        "{}/link/NAS/",
        "link/NAS",
        "link/N?S",
        "{}/photos/N*",
        "../{name}/photos/NAS",
    ],
)
def test_a_path_is_taken_as_one(tree: Path, root: str, pattern: str) -> None:
    pattern = pattern.replace("{name}", tree.name).format(tree)
    result = scan([root.format(tree)], {}, {}, exclude=[pattern])
    names = {os.path.join(*Path(job.path).parts[-2:]) for job in result.new}
    assert not any(name == "NAS/b.jpg" for name in names)
    assert len(names) == 4
    assert result.warnings == ()


@pytest.mark.parametrize(
    "pattern", ["2019 [best]", "2019 [best]/", "/2019 [best]", "photos/2019 [best]/d.jpg"]
)
def test_signs_in_a_name_may_be_meant_as_they_stand(tree: Path, pattern: str) -> None:
    result = scan(["photos"], {}, {}, exclude=[pattern])
    names = found_names(result)
    assert "d.jpg" not in names
    assert "a.jpg" in names
    assert result.warnings == ()


def found_names(result: ScanResult) -> set[str]:
    return {os.path.basename(job.path) for job in result.new}


def test_the_folder_that_is_indexed_comes_first(tree: Path) -> None:
    """``sub/NAS`` is below it, so the one of the current folder is not meant."""
    (tree / "photos" / "photos" / "NAS").mkdir(parents=True)
    (tree / "photos" / "photos" / "NAS" / "f.jpg").write_bytes(b"x")
    result = scan(["photos"], {}, {}, exclude=["photos/NAS"])
    assert found_names(result) == {"a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"}
    result = scan(["photos"], {}, {}, exclude=[str(tree / "photos" / "NAS"), "!./sub/NAS"])
    assert found_names(result) == {"a.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg"}


@pytest.mark.parametrize("pattern", ["nas", "./sub/nothing", "/elsewhere/NAS", "../x", ".", "NSA/"])
def test_what_fits_nothing_is_said(tree: Path, pattern: str) -> None:
    result = scan(["photos"], {}, {}, exclude=["NAS/", pattern, ".hidden"])
    (warning,) = result.warnings
    assert f"--exclude {pattern} fits nothing" in warning
    assert "a path as it is on the disk" in warning
    assert found_names(result) == {"a.jpg", "d.jpg", "e.jpg"}
    given = scan(["photos", "photos/NAS/b.jpg"], {}, {}, exclude=["NAS/"])
    assert given.warnings == ()
    (warning,) = scan(["photos/a.jpg"], {}, {}, exclude=["a.jpg"]).warnings
    assert "what is given by itself is read" in warning
