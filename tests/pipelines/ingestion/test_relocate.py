"""A folder that has another place now, told in one step."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from colour_grid import ColourGridEncoder
from hostile import distinct_pictures

from maxsight.errors import UsageError
from maxsight.index.store import Store
from maxsight.pipelines.ingestion.ingest import ingest
from maxsight.pipelines.ingestion.relocate import plan
from maxsight.pipelines.ingestion.walk import absolute

ENCODER = ColourGridEncoder()


def refuse() -> ColourGridEncoder:
    raise AssertionError("the encoder is not needed")


class World:
    def __init__(self, root: Path) -> None:
        self.old, self.new, self.library = root / "Pictures", root / "Bilder", root / "t.maxsight"
        names = ("1.png", "sub/2.png", "sub/caf\udce9.png")
        for name, picture in zip(names, distinct_pictures(3), strict=True):
            (self.old / name).parent.mkdir(parents=True, exist_ok=True)
            picture.save(self.old / name)
        (self.old / "bad.png").write_text("no picture")
        Store.create(
            self.library,
            encoder_uri=ENCODER.uri,
            fingerprint=ENCODER.fingerprint,
            dim=ENCODER.dim,
        ).close()
        self.index(self.old)
        with Store.open(self.library, write=True) as store:
            paths = [str(self.old / "1.png")]
            store.annotate(pa.table({"path": paths, "stars": [5]}))

    def index(self, *roots: Path, load: Callable[[], ColourGridEncoder] = lambda: ENCODER) -> str:
        with Store.open(self.library, write=True) as store:
            report = ingest(store, load, roots)
        names = ("added", "moved", "removed", "unchanged", "failed")
        return " ".join(f"{n}={v}" for n in names if (v := getattr(report, n)))

    def relocate(self, old: Path, new: Path) -> int:
        with Store.open(self.library, write=True) as store:
            changes, done = plan(old, new, store.known(), store.failures())
            store.apply(changes)
        return done.missing

    def rows(self) -> dict[str, int | None]:
        with Store.open(self.library) as store:
            stars = dict(
                zip(*store.items(columns=["item_id", "stars"]).to_pydict().values(), strict=True)
            )
            return {path: stars[item.item_id] for path, item in store.known().items()}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_everything_keeps_what_it_had(world: World) -> None:
    before = world.rows()
    world.old.rename(world.new)
    assert world.relocate(world.old, world.new) == 0
    assert world.rows() == {
        path.replace("Pictures", "Bilder"): stars for path, stars in before.items()
    }
    with Store.open(world.library) as store:
        assert list(store.failures()) == [str(world.new / "bad.png")]
    assert world.index(world.new, load=refuse) == "unchanged=3 failed=1"


def test_without_being_told_the_contents_say_so(world: World) -> None:
    world.old.rename(world.new)
    assert world.index(world.old, world.new, load=lambda: ENCODER) == "moved=3 failed=1"
    assert world.rows()[str(world.new / "1.png")] == 5
    assert world.index(world.new, load=refuse) == "unchanged=3 failed=1"


def test_files_that_are_not_there_are_counted(world: World) -> None:
    assert world.relocate(world.old, world.new) == 3
    assert world.relocate(world.new / "sub", world.new / "deeper" / "sub") == 2
    assert world.relocate(world.new, world.old) == 2
    assert world.relocate(world.old / "deeper", world.old) == 0
    assert world.index(world.old) == "unchanged=3 failed=1"


def test_what_is_there_already_is_not_overwritten(world: World) -> None:
    shutil.copytree(world.old, world.new)
    world.index(world.new)
    before = world.rows()
    with pytest.raises(UsageError, match=r"holds 3 files twice.*first: maxsight remove LIBRARY"):
        world.relocate(world.old, world.new)
    for old, new, reason in (
        (world.old.parent / "never", world.new, "no file at or below"),
        (world.old, world.old, "its place already"),
    ):
        with pytest.raises(UsageError, match=reason):
            world.relocate(old, new)
    assert world.rows() == before


def test_from_the_command_line(world: World) -> None:
    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "maxsight.cli", "relocate", world.library, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    done = run(world.old, world.new, "--json")
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    assert (answer["files"], answer["missing"]) == (3, 3)
    done = run(str(world.new) + "/", f"{world.old}/sub/..", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = run("nowhere", "elsewhere")
    assert done.returncode == 2
    assert "no file at or below" in done.stderr


def test_one_way_to_write_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a" / "deep")
    monkeypatch.chdir(tmp_path)
    place = str(tmp_path / "a")
    for path in ("a", "a/", "./a", "a//", "a/.", "a/deep/..", "x/../a", f"/{place}", f"{place}/"):
        assert absolute(path) == place, path
    assert absolute("link") == str(tmp_path / "link")
    # Above a link's target, as for the system.
    assert absolute("link/..") == place
    assert absolute("link/../deep/") == str(tmp_path / "a" / "deep")
    assert (absolute("/"), absolute("//"), absolute("/..")) == ("/", "/", "/")
    with pytest.raises(UsageError, match="an empty path"):
        absolute("")
    os.rmdir(tmp_path / "a" / "deep")
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(UsageError, match="current folder is gone"):
        absolute("a")
