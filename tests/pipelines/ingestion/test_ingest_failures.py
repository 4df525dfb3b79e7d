"""What could not be read or encoded: it costs itself alone, and is remembered."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from brightening import write_film
from colour_grid import ColourGridEncoder
from hostile import photographs
from ingested_world import ENCODER, PICTURES, World, assert_right, counts, fill, never
from PIL import Image

from maxsight.errors import BackendError, LibraryError, UsageError
from maxsight.index.store import Store
from maxsight.models.embeddings import Embeddings
from maxsight.pipelines.ingestion.ingest import ingest


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
