"""The whole way from files to a library: real files, processes, encoder, store."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from brightening import write_film
from colour_grid import ColourGridEncoder
from decoders import support_environment
from hostile import distinct_pictures, photographs
from PIL import Image

from maxsight.errors import BackendError, LibraryError, UsageError
from maxsight.index.records import Changes
from maxsight.index.store import Store
from maxsight.models.embeddings import Embeddings
from maxsight.pipelines.ingestion.ingest import IngestReport, Progress, ingest

ENCODER = ColourGridEncoder()


def create(path: Path, *, token_dim: int | None = None) -> None:
    Store.create(
        path,
        encoder_uri=ENCODER.uri,
        fingerprint=ENCODER.fingerprint,
        dim=ENCODER.dim,
        token_dim=token_dim,
    ).close()


def never() -> ColourGridEncoder:
    raise AssertionError("the encoder is not needed")


class World:
    """A folder of pictures and a library of it."""

    def __init__(self, root: Path) -> None:
        self.photos = root / "photos"
        self.photos.mkdir()
        self.library = root / "test.maxsight"
        create(self.library)

    def ingest(
        self,
        load_encoder: Callable[[], ColourGridEncoder] = lambda: ENCODER,
        *,
        batch_size: int | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> IngestReport:
        with Store.open(self.library, write=True) as store:
            return ingest(
                store,
                load_encoder,
                [self.photos],
                fps=2,
                batch_size=batch_size,
                progress=progress,
            )

    def contents(self) -> dict[str, tuple[int, np.ndarray]]:
        """Name -> item id and vectors."""
        with Store.open(self.library) as store:
            snapshot = store.snapshot()
            return {
                os.path.relpath(path, self.photos): (
                    item.item_id,
                    snapshot.item_vectors(item.item_id),
                )
                for path, item in store.known().items()
            }

    def failures(self) -> dict[str, str]:
        with Store.open(self.library) as store:
            return {Path(path).name: failure.reason for path, failure in store.failures().items()}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


PICTURES = distinct_pictures(12)


def fill(world: World, count: int = 6) -> list[Path]:
    paths = [world.photos / f"{number}.png" for number in range(count)]
    for path, picture in zip(paths, PICTURES):
        picture.save(path)
    return paths


def counts(report: IngestReport) -> dict[str, int]:
    names = ("added", "updated", "unchanged", "moved", "touched", "removed", "failed")
    return {name: value for name in names if (value := getattr(report, name))}


def assert_right(world: World) -> None:
    """Every picture has the vector of its pixels, encoded one by one."""
    contents = world.contents()
    names = {os.path.relpath(path, world.photos) for path in world.photos.rglob("*.png")}
    assert set(contents) == names
    for name, (_, vectors) in contents.items():
        (expected,) = ENCODER.encode_images([Image.open(world.photos / name)]).vectors.numpy()
        assert vectors.shape == (1, ENCODER.dim)
        assert vectors[0] @ expected > 0.9995, name


# ---------------------------------------------------------------- what a run does


def test_first_run_and_second(world: World) -> None:
    fill(world)
    seen: list[Progress] = []
    report = world.ingest(batch_size=4, progress=seen.append)
    assert counts(report) == {"added": 6}
    assert report.units == 6
    assert report.units_per_second > 0
    assert 0 < report.device_idle_share < 1
    stages = report.stages
    assert min(stages.scan, stages.decode, stages.encode, stages.store) > 0
    assert_right(world)
    assert [p.stage for p in seen if p.stage in ("scan", "load", "done")] == [
        "scan",
        "load",
        "done",
    ]
    assert [p.done for p in seen if p.stage == "read"] == sorted(
        p.done for p in seen if p.stage == "read"
    )
    assert seen[-1].done == seen[-1].total == 6

    before = world.contents()
    assert counts(world.ingest(never)) == {"unchanged": 6}
    after = world.contents()
    assert {n: i for n, (i, _) in before.items()} == {n: i for n, (i, _) in after.items()}


def test_how_a_file_was_read_is_kept(world: World) -> None:
    fill(world, 1)
    write_film(world.photos / "film.mp4", seconds=2)
    world.ingest()
    with Store.open(world.library) as store:
        told = {Path(path).name: item.settings for path, item in store.known().items()}
    assert told == {"0.png": "", "film.mp4": "fps=2"}


def test_exact_counts_of_every_change(world: World) -> None:
    fill(world, 7)
    world.ingest()
    ids = {name: item_id for name, (item_id, _) in world.contents().items()}
    os.utime(world.photos / "0.png", ns=(1, 1))
    (world.photos / "sub").mkdir()
    (world.photos / "1.png").rename(world.photos / "sub" / "renamed.png")
    PICTURES[10].save(world.photos / "2.png")
    (world.photos / "3.png").unlink()
    PICTURES[11].save(world.photos / "new.png")
    (world.photos / "4.png").rename(world.photos / "5.png")
    report = world.ingest()
    # 5.png was overwritten by 4.png, which has moved.
    assert counts(report) == {
        "added": 1,
        "updated": 1,
        "unchanged": 1,
        "moved": 2,
        "touched": 1,
        "removed": 2,
    }
    assert_right(world)
    after = {name: item_id for name, (item_id, _) in world.contents().items()}
    for old, new in (("0.png",) * 2, ("1.png", "sub/renamed.png"), ("2.png",) * 2):
        assert after[new] == ids[old]
    assert counts(world.ingest(never)) == {"unchanged": 6}


def test_touching_and_moving_need_no_encoder(world: World) -> None:
    paths = fill(world)
    world.ingest()
    for path in paths[:3]:
        os.utime(path, ns=(1, 1))
    paths[4].rename(world.photos / "elsewhere.png")
    assert counts(world.ingest(never)) == {"unchanged": 2, "touched": 3, "moved": 1}
    assert_right(world)


def test_the_same_content_is_encoded_once(world: World) -> None:
    paths = fill(world, 3)
    write_film(world.photos / "a.mp4", seconds=4)
    world.ingest()
    (world.photos / "copies").mkdir()
    for path in [*paths, world.photos / "a.mp4"]:
        shutil.copy(path, world.photos / "copies")
    shutil.copy(paths[0], world.photos / "once more.png")
    report = world.ingest(never)
    assert counts(report) == {"added": 5, "unchanged": 4}
    held = world.contents()
    for path in paths:
        assert (held[f"copies/{path.name}"][1] == held[path.name][1]).all()
    assert (held["once more.png"][1] == held["0.png"][1]).all()
    with Store.open(world.library) as store:
        films = store.snapshot().films()
        assert [film.spans.tolist() for film in films] == [films[0].spans.tolist()] * 2
        snapshot = store.snapshot()
        for one, other in zip(*(range(f.rows.start, f.rows.stop) for f in films), strict=True):
            assert (snapshot.vectors([one]) == snapshot.vectors([other])).all()


class CountingEncoder(ColourGridEncoder):
    """Knows how many pictures and frames it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded = 0

    def encode_images(
        self, images: Sequence[Image.Image] | torch.Tensor, *, tokens: bool = False
    ) -> Embeddings:
        self.encoded += len(images)
        return super().encode_images(images, tokens=tokens)


def test_the_same_content_twice_in_one_run_is_encoded_once(world: World) -> None:
    fill(world, 3)
    write_film(world.photos / "a.mp4", seconds=4)
    (world.photos / "copies").mkdir()
    for path in list(world.photos.glob("*.*")):
        shutil.copy(path, world.photos / "copies")
        shutil.copy(path, world.photos / "copies" / f"again {path.name}")
    for name in ("broken.jpg", "broken too.jpg", "broken as well.jpg"):
        (world.photos / name).write_bytes(b"no picture")
    encoder = CountingEncoder()
    progress: list[Progress] = []
    report = world.ingest(lambda: encoder, progress=progress.append)
    assert counts(report) == {"added": 12, "failed": 3}
    held = world.contents()
    assert encoder.encoded == 3 + len(held["a.mp4"][1]) == report.units
    assert (progress[-1].done, progress[-1].total) == (7, 7)
    assert len({item_id for item_id, _ in held.values()}) == 12
    for name in ("0.png", "1.png", "2.png", "a.mp4"):
        for copy in (f"copies/{name}", f"copies/again {name}"):
            np.testing.assert_array_equal(held[copy][1], held[name][1])
    assert set(world.failures()) == {"broken.jpg", "broken too.jpg", "broken as well.jpg"}
    assert counts(world.ingest(never)) == {"unchanged": 12, "failed": 3}


def test_a_twin_that_changes_meanwhile_is_read_itself(world: World) -> None:
    """The file that is read holds something else by then than when both were compared."""
    fill(world, 3)
    shutil.copy(world.photos / "0.png", world.photos / "1.png")

    def swap() -> ColourGridEncoder:
        PICTURES[7].save(world.photos / "0.png")
        return ENCODER

    assert counts(world.ingest(swap)) == {"added": 3}
    assert_right(world)
    assert counts(world.ingest(never)) == {"unchanged": 3}


def test_what_was_removed_comes_back_without_the_encoder(world: World) -> None:
    paths = fill(world, 3)
    world.ingest()
    with Store.open(world.library, write=True) as store:
        store.apply(Changes(removed=[0, 2]))
    assert counts(world.ingest(never)) == {"added": 2, "unchanged": 1}
    assert_right(world)
    with Store.open(world.library, write=True) as store:
        gone = [item.item_id for path, item in store.known().items() if path == str(paths[1])]
        store.apply(Changes(removed=gone))
        store.compact(grace_seconds=0)
    assert counts(world.ingest()) == {"added": 1, "unchanged": 2}  # nothing was left of it
    assert_right(world)


def test_films_and_pictures_share_batches(world: World) -> None:
    sizes: list[int] = []

    class Counting(ColourGridEncoder):
        def encode_images(self, images: object, *, tokens: bool = False) -> Embeddings:
            assert isinstance(images, torch.Tensor)
            sizes.append(len(images))
            return super().encode_images(images, tokens=tokens)

    fill(world, 3)
    write_film(world.photos / "a.mp4", seconds=10)
    write_film(world.photos / "b.mkv", seconds=5)
    report = world.ingest(Counting, batch_size=7)
    assert counts(report) == {"added": 5}
    assert sum(sizes) == report.units == 20 + 10 + 3
    assert max(sizes) == 7
    assert len(sizes) <= 8  # the last of each pause may be less than full
    with Store.open(world.library) as store:
        films = {Path(film.path).name: film for film in store.snapshot().films()}
        rows = store.items(where="kind = 'video'").to_pylist()
    assert {name: len(film.spans) for name, film in films.items()} == {"a.mp4": 20, "b.mkv": 10}
    spans = np.asarray(films["a.mp4"].spans)
    assert spans[0, 0] == 0
    assert (spans[1:, 0] == spans[:-1, 1]).all()
    assert {row["width"] for row in rows} == {96}
    assert sorted(row["duration_s"] for row in rows) == pytest.approx([5, 10], abs=0.2)


def test_tokens_are_stored_where_the_library_has_room(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.library = tmp_path / "tokens.maxsight"
    create(world.library, token_dim=ENCODER.token_dim)
    # Half white pictures give fewer tokens than full ones: the table is ragged.
    paths = fill(world)
    for path in paths[::2]:
        half = Image.open(path)
        half.paste((255, 255, 255), (0, 0, half.width, half.height // 2))
        half.save(path)
    write_film(world.photos / "film.mp4", seconds=6)
    world.ingest(batch_size=5)
    lengths = set()
    with Store.open(world.library) as store:
        snapshot = store.snapshot()
        hits = snapshot.search(np.ones((1, ENCODER.dim), np.float32), 100)[0]
        assert len(hits) == 6 + 12
        for hit in hits:
            table = snapshot.tokens([hit.unit_id])
            restored = table.tokens * table.scales[:, None]
            assert np.linalg.norm(restored, axis=1) == pytest.approx(1, abs=0.02)
            assert (table.sizes == 1).all()
            lengths.add(len(restored))
            if hit.kind == "image":
                expected = ENCODER.encode_images([Image.open(hit.path)], tokens=True).tokens
                assert expected is not None
                assert (restored * expected.numpy()).sum(1).min() > 0.995
    assert lengths == {5, 8}  # rows of the grid; the filter blurs the edge into a fifth


# ---------------------------------------------------------------- failures


def test_failures_are_remembered_and_mended(world: World) -> None:
    paths = fill(world, 3)
    good = paths[0].read_bytes()
    paths[0].write_bytes(good[:40])  # where more is left, that is shown, with a remark
    paths[1].write_text("not a picture at all")
    report = world.ingest()
    assert counts(report) == {"added": 1, "failed": 2}
    reasons = {Path(path).name: reason for path, reason in report.failures}
    assert reasons == {
        "0.png": "damaged: its PNG data cannot be decoded; copy it again",
        "1.png": "not a picture but a text",
    }
    assert world.failures() == reasons
    # Not read again, but not forgotten either.
    assert counts(world.ingest(never)) == {"unchanged": 1, "failed": 2}
    paths[0].write_bytes(good)
    paths[1].unlink()
    assert counts(world.ingest()) == {"added": 1, "unchanged": 1}
    assert world.failures() == {}
    # A known picture that is spoilt is no longer found.
    paths[0].write_bytes(good[:40])
    report = world.ingest()
    assert counts(report) == {"unchanged": 1, "failed": 1}
    assert set(world.contents()) == {"2.png"}


def test_what_depends_on_settings_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path, *_) = fill(world, 2)
    world.ingest()
    photographs()[0].save(path)
    monkeypatch.setenv("MAXSIGHT_MAX_PIXELS", "50000")
    report = world.ingest()
    assert counts(report) == {"unchanged": 1, "failed": 1}
    assert "512 x 512 pixels" in report.failures[0][1]
    # The circumstances are in the way, not the file: what the library holds of it stays.
    assert set(world.contents()) == {"0.png", "1.png"}
    photographs()[1].save(world.photos / "large.png")
    assert counts(world.ingest()) == {"unchanged": 1, "failed": 2}
    assert set(world.failures()) == {"0.png", "large.png"}
    monkeypatch.delenv("MAXSIGHT_MAX_PIXELS")
    assert counts(world.ingest()) == {"updated": 1, "added": 1, "unchanged": 1}
    assert world.failures() == {}
    assert_right(world)


def test_a_file_that_vanishes_after_the_scan(world: World) -> None:
    paths = fill(world)

    def load() -> ColourGridEncoder:
        paths[2].unlink()
        return ENCODER

    report = world.ingest(load)
    assert counts(report) == {"added": 5, "failed": 1}
    assert "vanished" in report.failures[0][1]
    assert counts(world.ingest(never)) == {"unchanged": 5}
    assert world.failures() == {}


def test_a_picture_the_encoder_fails_on_costs_itself_alone(world: World) -> None:
    class Colourblind(ColourGridEncoder):
        def encode_images(self, images: object, *, tokens: bool = False) -> Embeddings:
            assert isinstance(images, torch.Tensor)
            vectors = super().encode_images(images).vectors
            red = (images == torch.tensor([255, 0, 0], dtype=torch.uint8)).all(dim=(1, 2, 3))
            return Embeddings(torch.where(red[:, None], torch.nan, vectors))

    fill(world)
    Image.new("RGB", (80, 80), (255, 0, 0)).save(world.photos / "red.png")
    report = world.ingest(Colourblind)
    assert counts(report) == {"added": 6, "failed": 1}
    assert "no usable vector" in world.failures()["red.png"]
    assert counts(world.ingest()) == {"added": 1, "unchanged": 6}


def test_a_device_short_of_memory_gets_smaller_batches(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    class Cramped(ColourGridEncoder):
        room = 3

        def encode_images(self, images: object, *, tokens: bool = False) -> Embeddings:
            assert isinstance(images, torch.Tensor)
            if len(images) > self.room:
                raise torch.OutOfMemoryError("out of memory")
            return super().encode_images(images, tokens=tokens)

    fill(world, 12)
    write_film(world.photos / "film.mp4", seconds=8)
    assert counts(world.ingest(Cramped, batch_size=10)) == {"added": 13}
    assert [r.message for r in caplog.records if "out of memory" in r.message] == [
        "cpu ran out of memory; from here on 5 pictures are encoded at a time",
        "cpu ran out of memory; from here on 3 pictures are encoded at a time",
    ]
    (world.photos / "film.mp4").unlink()
    world.ingest(never)
    assert_right(world)
    Cramped.room = 0
    PICTURES[3].rotate(90).save(world.photos / "more.png")
    with pytest.raises(BackendError, match="not enough free memory"):
        world.ingest(Cramped)


def test_errors_that_end_a_run(world: World) -> None:
    fill(world)
    with Store.open(world.library) as reader, pytest.raises(LibraryError):
        ingest(reader, lambda: ENCODER, [world.photos])
    with Store.open(world.library, write=True) as store:
        for arguments in ({"fps": 0.0}, {"batch_size": 0}):
            with pytest.raises(UsageError, match=next(iter(arguments))):
                ingest(store, never, [world.photos], **arguments)
        with pytest.raises(UsageError, match="does not exist"):
            ingest(store, never, [world.photos / "none"])


def test_nothing_heavy_is_loaded_when_nothing_changed(world: World) -> None:
    fill(world, 2)
    world.ingest()
    program = (
        "import sys\n"
        "from maxsight.index.store import Store\n"
        "from maxsight.pipelines.ingestion.ingest import ingest\n"
        "with Store.open(sys.argv[1], write=True) as store:\n"
        "    report = ingest(store, None, [sys.argv[2]])\n"
        "print(report.unchanged, sorted({'torch', 'av', 'open_clip'} & set(sys.modules)))\n"
    )
    arguments = [sys.executable, "-c", program, str(world.library), str(world.photos)]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.stdout.strip() == "2 []", done.stderr


# ---------------------------------------------------------------- interruptions

# A run that commits often and encodes slowly, so that there is something to interrupt.
PROGRAM = """
import json, signal, sys, time
# Tests that run in the background have inherited a shell's order to ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
from dataclasses import asdict
import torch
from maxsight.index.store import Store
from maxsight.pipelines import ingest as module
from colour_grid import ColourGridEncoder

class Slow(ColourGridEncoder):
    def encode_images(self, images, *, tokens=False):
        time.sleep(0.02)
        return super().encode_images(images, tokens=tokens)

def progress(p):
    if p.stage == "read" and p.done >= 4:
        print("reading", flush=True)

module.COMMIT_SECONDS = float(sys.argv[3])
with Store.open(sys.argv[1], write=True) as store:
    try:
        report = module.ingest(store, Slow, [sys.argv[2]], fps=2, batch_size=2, progress=progress)
    except module.IngestInterrupted as stop:
        report = stop.report
print(json.dumps(asdict(report)), flush=True)
"""


def start(world: World, *, commit_seconds: float) -> Iterator[subprocess.Popen[str]]:
    arguments = [sys.executable, "-c", PROGRAM, str(world.library), str(world.photos)]
    with subprocess.Popen(
        [*arguments, str(commit_seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=support_environment(),
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == "reading\n", process.communicate()
        yield process


@pytest.fixture(scope="module")
def many_pictures() -> list[Image.Image]:
    return distinct_pictures(100)


def test_ctrl_c_keeps_what_is_encoded(world: World, many_pictures: list[Image.Image]) -> None:
    for number, picture in enumerate(many_pictures):
        picture.save(world.photos / f"{number}.png")
    for process in start(world, commit_seconds=1000):
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=20)
        assert process.returncode == 0, errors
    report = json.loads(out.splitlines()[-1])
    assert report["interrupted"]
    contents = world.contents()
    assert 4 <= len(contents) == report["added"] < 100
    again = world.ingest()
    assert counts(again) == {"added": 100 - len(contents), "unchanged": len(contents)}
    assert_right(world)


def test_kill_at_any_moment_and_go_on(world: World, many_pictures: list[Image.Image]) -> None:
    for number, picture in enumerate(many_pictures):
        picture.save(world.photos / f"{number}.png")
    write_film(world.photos / "film.mp4", seconds=10)
    dice = random.Random(0)
    committed = [0]
    for _ in range(3):
        for process in start(world, commit_seconds=0.05):
            # However busy the machine: the first is not killed before it has stored something.
            deadline = time.monotonic() + 60
            while committed == [0] and time.monotonic() < deadline:
                with Store.open(world.library) as store:
                    if store.known():
                        break
                time.sleep(0.05)
            time.sleep(dice.uniform(0, 0.5))
            process.kill()
            process.communicate()
        contents = world.contents()
        assert len(contents) >= committed[-1]
        committed.append(len(contents))
        if len(contents) > 50:  # the next run may be over before it tells that it reads
            break
    assert committed[1] > 0
    world.ingest()
    contents = world.contents()
    assert len(contents) == 101
    assert len({item_id for item_id, _ in contents.values()}) == 101
    assert len(contents["film.mp4"][1]) == 20
    with Store.open(world.library) as store:
        hits = store.snapshot().search(np.ones((1, ENCODER.dim), np.float32), 1000)[0]
    assert len(hits) == 100 + 20
    (world.photos / "film.mp4").unlink()
    world.ingest(never)
    assert_right(world)
