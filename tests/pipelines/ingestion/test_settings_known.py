"""What a file was read with is part of what is known of it; so are the limits it failed under."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

import lance
import pyarrow as pa
import pytest
import torch
from brightening import write_film
from colour_grid import ColourGridEncoder
from decoders import child_processes
from hostile import photographs
from PIL import Image

import maxsight
from maxsight.index.records import Changes
from maxsight.index.store import Store
from maxsight.index.tables import schema
from maxsight.index.tables.manifest import Manifest
from maxsight.index.verify.verify import verify
from maxsight.index.writing import checksums
from maxsight.models.embeddings import Embeddings
from maxsight.pipelines.ingestion.choices import Choices
from maxsight.pipelines.ingestion.ingest import ingest
from maxsight.pipelines.media.limits import Limit, Limits

ENCODER = ColourGridEncoder()


def never() -> ColourGridEncoder:
    raise AssertionError("nothing is to be read")


class World:
    """A folder of films and a library of it."""

    def __init__(self, root: Path) -> None:
        self.films, self.library = root / "films", root / "t.maxsight"
        self.films.mkdir()
        Store.create(
            self.library,
            encoder_uri=ENCODER.uri,
            fingerprint=ENCODER.fingerprint,
            dim=ENCODER.dim,
        ).close()

    def ingest(
        self,
        fps: float | None = None,
        *,
        load: Callable[[], ColourGridEncoder] = lambda: ENCODER,
        roots: tuple[Path, ...] = (),
    ) -> dict[str, int]:
        with Store.open(self.library, write=True) as store:
            report = ingest(store, load, roots or (self.films,), fps=fps)
        names = ("added", "updated", "unchanged", "moved", "touched", "removed", "failed")
        return {name: value for name in names if (value := getattr(report, name))}

    def units(self) -> dict[str, tuple[int, int]]:
        """Name -> item id and number of frames."""
        with Store.open(self.library) as store:
            ids = {item.item_id: Path(path).name for path, item in store.known().items()}
            counts = store.items(columns=["item_id", "unit_count"]).to_pylist()
        return {ids[row["item_id"]]: (row["item_id"], row["unit_count"]) for row in counts}

    def age(self) -> None:
        """Make it one of schema 2, which did not know settings."""
        lance.dataset(str(self.library / schema.ITEMS)).drop_columns(["settings", "remark"])
        checksums.LedgerWriter(self.library).rewrite()
        manifest = Manifest.read(self.library)
        dataclasses.replace(manifest, schema=2).write(self.library)


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    write_film(world.films / "a.mp4", seconds=4)
    return world


def test_another_number_of_frames_reads_a_film_again(world: World) -> None:
    Image.new("RGB", (64, 64), "red").save(world.films / "still.png")
    assert world.ingest() == {"added": 2}
    assert world.units()["a.mp4"] == (0, 4) or world.units()["a.mp4"] == (1, 4)
    item_id = world.units()["a.mp4"][0]
    assert world.ingest(1, load=never) == {"unchanged": 2}
    assert world.ingest(5) == {"updated": 1, "unchanged": 1}
    assert world.units()["a.mp4"] == (item_id, 20)
    # Nobody asked for another number: films keep what they have.
    assert world.ingest(load=never) == {"unchanged": 2}
    os.utime(world.films / "a.mp4", ns=(1, 1))
    assert world.ingest(load=never) == {"unchanged": 1, "touched": 1}
    os.utime(world.films / "a.mp4", ns=(2, 2))
    assert world.ingest(2) == {"updated": 1, "unchanged": 1}
    assert world.units()["a.mp4"] == (item_id, 8)


def test_what_was_removed_is_not_taken_over_by_another_number(world: World) -> None:
    world.ingest(1)
    with Store.open(world.library, write=True) as store:
        store.apply(Changes(removed=[0]))
    assert world.ingest(5) == {"added": 1}
    assert world.units()["a.mp4"][1] == 20
    shutil.copy(world.films / "a.mp4", world.films / "b.mp4")
    assert world.ingest(load=never) == {"added": 1, "unchanged": 1}
    shutil.copy(world.films / "a.mp4", world.films / "c.mp4")
    assert world.ingest(2) == {"added": 1, "updated": 2}
    assert {count for _, count in world.units().values()} == {8}


def test_a_film_that_moved_and_is_to_be_read_otherwise(world: World) -> None:
    world.ingest(1)
    (world.films / "a.mp4").rename(world.films / "b.mp4")
    assert world.ingest(5) == {"moved": 1, "updated": 1}
    assert world.units() == {"b.mp4": (0, 20)}


@pytest.mark.parametrize("fps", [1, 5])
def test_films_of_older_libraries_are_judged_by_their_frames(world: World, fps: int) -> None:
    world.ingest(fps)
    world.age()
    assert world.ingest(load=never) == {"unchanged": 1}
    assert world.ingest(fps, load=never) == {"unchanged": 1}
    assert world.ingest(2) == {"updated": 1}
    assert world.ingest(2, load=never) == {"unchanged": 1}


def test_choices() -> None:
    asked, silent = Choices(5.0), Choices(1.0, fps_is_given=False)
    assert (asked.of("video"), asked.of("image")) == ("fps=5", "")
    assert Choices(0.1).of("video") == "fps=0.1"
    assert asked.fits("video", "fps=5")
    assert not asked.fits("video", "fps=1")
    assert silent.fits("video", "fps=5")
    assert not silent.fits("video", "fps=5 other=1")
    assert asked.fits("image", "")
    assert not asked.fits("image", "other=1")
    assert asked.fits("image", None)


def test_a_refusal_by_a_limit_is_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (world.films / "a.mp4").unlink()
    Image.new("RGB", (64, 64), "red").save(world.films / "small.png")
    photographs()[0].save(world.films / "large.png")
    monkeypatch.setenv("MAXSIGHT_MAX_PIXELS", "50000")
    assert world.ingest() == {"added": 1, "failed": 1}
    assert world.ingest(load=never) == {"unchanged": 1, "failed": 1}
    monkeypatch.setenv("MAXSIGHT_MAX_PIXELS", "40000")
    assert world.ingest(load=never) == {"unchanged": 1, "failed": 1}
    monkeypatch.setenv("MAXSIGHT_MAX_PIXELS", "60000")
    assert world.ingest() == {"unchanged": 1, "failed": 1}
    monkeypatch.delenv("MAXSIGHT_MAX_PIXELS")
    assert world.ingest() == {"added": 1, "unchanged": 1}


def test_a_film_above_a_limit_is_tried_again_when_that_is_raised(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAXSIGHT_MAX_PIXELS", "5000")
    assert world.ingest() == {"failed": 1}
    assert world.ingest(load=never) == {"failed": 1}
    monkeypatch.delenv("MAXSIGHT_MAX_PIXELS")
    assert world.ingest() == {"added": 1}


def test_a_decoder_that_fell_silent_is_not_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.films / "a.mp4").unlink()
    write_film(world.films / "slow.mp4", seconds=400)
    before = child_processes()

    class Stopping(ColourGridEncoder):
        """Stops the decoders when their first frames are here."""

        def encode_images(
            self, images: Sequence[Image.Image] | torch.Tensor, *, tokens: bool = False
        ) -> Embeddings:
            for pid in child_processes() - before:
                os.kill(pid, signal.SIGSTOP)
            return super().encode_images(images, tokens=tokens)

    monkeypatch.setenv("MAXSIGHT_DECODE_TIMEOUT", "2")
    assert world.ingest(5, load=Stopping) == {"failed": 1}
    assert world.ingest(5, load=never) == {"failed": 1}
    with Store.open(world.library) as store:
        (failure,) = store.failures().values()
    assert "no sign of life from its decoder in 2 seconds" in failure.reason
    assert failure.settings == f"timeout=2 maxsight={maxsight.__version__}"
    monkeypatch.setenv("MAXSIGHT_DECODE_TIMEOUT", "60")
    assert world.ingest() == {"added": 1}


def test_verdicts_stand_until_another_version(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.films / "bad.jpg").write_text("no picture")
    assert world.ingest() == {"added": 1, "failed": 1}
    assert world.ingest(load=never) == {"unchanged": 1, "failed": 1}
    with Store.open(world.library) as store:
        (failure,) = store.failures().values()
    assert failure.settings == f"maxsight={maxsight.__version__}"
    monkeypatch.setattr("maxsight.pipelines.ingestion.ingest.VERSION", "99.0")
    assert world.ingest() == {"unchanged": 1, "failed": 1}
    with Store.open(world.library) as store:
        (failure,) = store.failures().values()
    assert failure.settings == "maxsight=99.0"
    world.age()
    assert world.ingest() == {"unchanged": 1, "failed": 1}  # read once more
    assert world.ingest(load=never) == {"unchanged": 1, "failed": 1}


def test_limits() -> None:
    now = Limits(timeout=60, pixels=100, memory=1000, version="2")
    assert now.of("timeout") == "timeout=60 maxsight=2"
    for limit in (None, *get_args(Limit)):
        assert now.would_fail(now.of(limit))
    for settings, fails in (
        ("timeout=59 maxsight=2", False),
        ("timeout=61 maxsight=2", True),
        ("timeout=60 maxsight=1", False),
        ("memory=900 pixels=100 maxsight=2", True),  # of what is free there is more or less
        ("memory=500 pixels=100 maxsight=2", False),
        ("memory=1000 pixels=99 maxsight=2", False),
        ("other=1 maxsight=2", False),
        ("timeout=x maxsight=2", False),
        ("", False),
        (None, False),
    ):
        assert now.would_fail(settings) == fails, settings


class Changed:
    """A picture with stars, whose file then holds one that is above the limit on pixels."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        (world.films / "a.mp4").unlink()
        self.world, self.picture = world, world.films / "p.png"
        photographs()[1].resize((64, 64)).save(self.picture)
        Image.new("RGB", (32, 32), "red").save(world.films / "other.png")
        monkeypatch.setenv("MAXSIGHT_MAX_PIXELS", "50000")
        assert world.ingest() == {"added": 2}
        with Store.open(world.library, write=True) as store:
            self.first = store.known()[str(self.picture)]
            store.annotate(pa.table({"path": [str(self.picture)], "stars": [5]}))
        self.before = self.picture.read_bytes()
        photographs()[0].save(self.picture)
        assert world.ingest() == {"unchanged": 1, "failed": 1}

    def is_kept(self) -> None:
        """Found as it was before, and the failure stands beside it."""
        with Store.open(self.world.library) as store:
            assert store.known()[str(self.picture)] == self.first
            (stars,) = store.items(where="stars = 5", columns=["path"])["path"].to_pylist()
            assert list(store.failures()) == [stars] == [str(self.picture)]
            assert len(store.snapshot().item_vectors(self.first.item_id)) == 1
        with maxsight.open(self.world.library) as library:
            (reason,) = library.failures().values()
        assert reason.startswith("kept as it was before: ")
        assert "pixels" in reason
        assert verify(self.world.library).problems == ()


@pytest.fixture
def changed(world: World, monkeypatch: pytest.MonkeyPatch) -> Changed:
    return Changed(world, monkeypatch)


def test_a_kept_file_that_fails_by_a_limit_is_not_tried_at_every_run(
    changed: Changed, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = changed.world
    for _ in range(2):
        assert world.ingest(load=never) == {"unchanged": 1, "failed": 1}
        changed.is_kept()
        with Store.open(world.library, write=True) as store:
            store.compact(grace_seconds=0)
    changed.is_kept()
    monkeypatch.setenv("MAXSIGHT_MAX_PIXELS", "60000")  # raised, and not far enough
    assert world.ingest() == {"unchanged": 1, "failed": 1}
    changed.is_kept()
    monkeypatch.delenv("MAXSIGHT_MAX_PIXELS")
    assert world.ingest() == {"updated": 1, "unchanged": 1}
    with Store.open(world.library, write=True) as store:
        assert store.failures() == {}
        assert store.known()[str(changed.picture)].item_id == changed.first.item_id
        assert store.items(where="stars = 5").num_rows == 1
        store.compact(grace_seconds=0)
    assert verify(world.library).problems == ()


@pytest.mark.parametrize("is_touched", [False, True])
def test_a_kept_file_that_is_as_it_was_again(changed: Changed, *, is_touched: bool) -> None:
    changed.picture.write_bytes(changed.before)
    time = 1 if is_touched else changed.first.state.mtime_ns
    os.utime(changed.picture, ns=(time, time))
    same = {"unchanged": 1, "touched": 1} if is_touched else {"unchanged": 2}
    assert changed.world.ingest(load=never) == same
    with Store.open(changed.world.library) as store:
        assert store.failures() == {}
    assert changed.world.ingest(load=never) == {"unchanged": 2}


def test_a_kept_file_that_cannot_be_read_at_all_then(changed: Changed) -> None:
    changed.picture.write_text("no picture")
    assert changed.world.ingest() == {"unchanged": 1, "failed": 1}
    with maxsight.open(changed.world.library) as library:
        (reason,) = library.failures().values()
        assert "kept" not in reason
        assert library.items().num_rows == 1
    assert changed.world.ingest(load=never) == {"unchanged": 1, "failed": 1}


def test_a_kept_file_that_is_gone_moved_or_removed(changed: Changed) -> None:
    world = changed.world
    moved = world.films.with_name("moved")
    world.films.rename(moved)
    with maxsight.open(world.library) as library:
        assert library.relocate(world.films, moved).files == 2
    changed.picture = moved / "p.png"
    changed.first = dataclasses.replace(
        changed.first, state=dataclasses.replace(changed.first.state, path=str(changed.picture))
    )
    changed.is_kept()
    assert world.ingest(load=never, roots=(moved,)) == {"unchanged": 1, "failed": 1}
    with maxsight.open(world.library) as library:
        assert library.remove(changed.picture) == 1
        assert library.failures() == {}
    assert world.ingest(roots=(moved,)) == {"unchanged": 1, "failed": 1}
    changed.picture.unlink()
    assert world.ingest(load=never, roots=(moved,)) == {"unchanged": 1}
    with maxsight.open(world.library) as library:
        assert library.failures() == {}


def test_a_film_that_cannot_be_read_by_another_number_of_frames_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.ingest(1)
    held = world.units()
    monkeypatch.setenv("MAXSIGHT_MAX_PIXELS", "5000")
    assert world.ingest(5) == {"failed": 1}
    assert world.ingest(5, load=never) == {"failed": 1}
    assert world.units() == held
    assert world.ingest(load=never) == {"unchanged": 1}
    with Store.open(world.library) as store:
        assert store.failures() == {}


def test_list_says_which_files_are_kept(
    changed: Changed, capsys: pytest.CaptureFixture[str]
) -> None:
    from maxsight.cli.library import list_items

    list_items(str(changed.world.library))
    told = capsys.readouterr()
    assert "p.png: kept as it was before: " in told.err
    list_items(str(changed.world.library), json=True)
    rows = {Path(row["path"]).name: row for row in json.loads(capsys.readouterr().out)["items"]}
    assert rows["p.png"]["remark"].startswith("kept as it was before: ")
    assert rows["other.png"]["remark"] is None
