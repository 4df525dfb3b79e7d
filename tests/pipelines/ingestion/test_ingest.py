"""The whole way from files to a library: real files, processes, encoder, store."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from brightening import write_film
from colour_grid import ColourGridEncoder
from ingested_world import (
    ENCODER,
    PICTURES,
    CountingEncoder,
    World,
    assert_right,
    counts,
    create,
    fill,
    never,
)
from PIL import Image

from maxsight.index.records import Changes
from maxsight.index.store import Store
from maxsight.models.embeddings import Embeddings
from maxsight.pipelines.ingestion.ingest import Progress

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
            table = snapshot.tokens.of_units([hit.unit_id])
            restored = table.tokens * table.scales[:, None]
            assert np.linalg.norm(restored, axis=1) == pytest.approx(1, abs=0.02)
            assert (table.sizes == 1).all()
            lengths.add(len(restored))
            if hit.kind == "image":
                expected = ENCODER.encode_images([Image.open(hit.path)], tokens=True).tokens
                assert expected is not None
                assert (restored * expected.numpy()).sum(1).min() > 0.995
    assert lengths == {5, 8}  # rows of the grid; the filter blurs the edge into a fifth


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
