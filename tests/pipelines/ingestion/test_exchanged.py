"""Known files under each other's names: what a person noted goes with the picture."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from colour_grid import ColourGridEncoder
from hostile import distinct_pictures
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maxsight.index.store import Store
from maxsight.index.verify.verify import verify
from maxsight.pipelines.ingestion.ingest import IngestInterrupted, ingest

ENCODER = ColourGridEncoder()
PICTURES = distinct_pictures(8)
Load = Callable[[], ColourGridEncoder]


def never() -> ColourGridEncoder:
    raise AssertionError("nothing is to be encoded")


class World:
    """A folder of pictures, named by letters, with as many stars as their place in the alphabet."""

    def __init__(self, root: Path, names: str, *, stars: str = "abcdef") -> None:
        self.photos, self.library = root / "photos", root / "t.maxsight"
        self.photos.mkdir()
        self.contents: dict[str, bytes] = {}
        for name, picture in zip("abcdefgh", PICTURES, strict=True):
            picture.save(root / "draft.png")
            self.contents[name] = (root / "draft.png").read_bytes()
        for name in names:
            self.write(name, name)
        Store.create(
            self.library,
            encoder_uri=ENCODER.uri,
            fingerprint=ENCODER.fingerprint,
            dim=ENCODER.dim,
        ).close()
        self.ingest(lambda: ENCODER)
        with Store.open(self.library, write=True) as store:
            chosen = [name for name in names if name in stars]
            paths = [str(self.path(name)) for name in chosen]
            counts = [1 + "abcdef".index(name) for name in chosen]
            store.annotate(pa.table({"path": paths, "stars": counts}))

    def path(self, name: str) -> Path:
        return self.photos / f"{name}.png"

    def write(self, name: str, content: str) -> None:
        self.path(name).write_bytes(self.contents[content])

    def rename(self, *pairs: str) -> None:
        """``ab`` is from a to b, all at once; what stood at b is gone, or goes elsewhere."""
        for pair in pairs:
            self.path(pair[0]).rename(self.photos / f"{pair}.draft")
        for pair in pairs:
            (self.photos / f"{pair}.draft").rename(self.path(pair[1]))

    def ingest(self, load: Load = never) -> dict[str, int]:
        with Store.open(self.library, write=True) as store:
            report = ingest(store, load, [self.photos])
        names = ("added", "updated", "unchanged", "moved", "touched", "removed", "failed")
        return {name: value for name in names if (value := getattr(report, name))}

    def stars(self) -> dict[str, int | None]:
        """Name -> stars; every file has the vector of what it holds."""
        with Store.open(self.library) as store:
            rows = store.items(columns=["path", "stars"]).to_pylist()
            snapshot, known = store.snapshot(), store.known()
        assert sorted(known) == sorted(map(str, self.photos.glob("*.png")))
        for path, item in known.items():
            held = Path(path).read_bytes()
            (name,) = (name for name, content in self.contents.items() if content == held)
            picture = PICTURES["abcdefgh".index(name)]
            (vector,) = ENCODER.encode_images([picture]).vectors.numpy()
            assert float(snapshot.item_vectors(item.item_id)[0] @ vector) > 0.999
        assert verify(self.library).problems == ()
        return {Path(row["path"]).stem: row["stars"] for row in rows}


@pytest.mark.parametrize(
    ("names", "renames", "counts", "stars"),
    [
        ("ab", "ab ba", {"moved": 2}, {"a": 2, "b": 1}),
        ("abc", "ab bc ca", {"moved": 3}, {"a": 3, "b": 1, "c": 2}),
        ("abcd", "ab ba cd dc", {"moved": 4}, {"a": 2, "b": 1, "c": 4, "d": 3}),
        ("abc", "ab bc", {"moved": 2, "removed": 1}, {"b": 1, "c": 2}),
        ("abc", "ab bg", {"moved": 2, "unchanged": 1}, {"b": 1, "g": 2, "c": 3}),
        ("ab", "ab", {"moved": 1, "removed": 1}, {"b": 1}),
    ],
)
def test_names_in_exchange(
    tmp_path: Path, names: str, renames: str, counts: dict[str, int], stars: dict[str, int]
) -> None:
    world = World(tmp_path, names)
    world.rename(*renames.split())
    assert world.ingest() == counts
    assert world.stars() == stars
    assert world.ingest() == {"unchanged": len(stars)}


def test_a_chain_with_a_new_file_at_its_end_interrupted(tmp_path: Path) -> None:
    world = World(tmp_path, "abc")
    world.rename("ab", "bc", "cd")
    world.write("a", "h")

    def interrupted() -> ColourGridEncoder:
        raise KeyboardInterrupt

    with pytest.raises(IngestInterrupted):
        world.ingest(interrupted)
    assert world.ingest(lambda: ENCODER) == {"added": 1, "unchanged": 3}
    assert world.stars() == {"a": None, "b": 1, "c": 2, "d": 3}


def test_an_original_that_an_editor_keeps_under_another_name(tmp_path: Path) -> None:
    """The notes stay with the picture that is in use, whether the other name is known or not."""
    world = World(tmp_path, "ab")
    world.rename("ag")
    world.write("a", "h")
    assert world.ingest(lambda: ENCODER) == {"added": 1, "updated": 1, "unchanged": 1}
    assert world.stars() == {"a": 1, "b": 2, "g": None}


@pytest.mark.parametrize(("stars", "result"), [("b", {"b": 2}), ("a", {"b": 1}), ("", {"b": None})])
def test_nothing_noted_is_lost_to_a_picture_without_notes(
    tmp_path: Path, stars: str, result: dict[str, int | None]
) -> None:
    world = World(tmp_path, "abf", stars=stars + "f")
    world.rename("ab")
    world.ingest()
    assert world.stars() == result | {"f": 6}


def test_copies_stay_with_their_paths(tmp_path: Path) -> None:
    world = World(tmp_path, "abc")
    world.write("d", "a")
    assert world.ingest() == {"added": 1, "unchanged": 3}
    world.rename("ab", "ba")
    assert world.ingest() == {"updated": 2, "unchanged": 2}
    assert world.stars() == {"a": 1, "b": 2, "c": 3, "d": None}
    world.write("c", "b")  # a known file becomes a copy of another one
    assert world.ingest() == {"updated": 1, "unchanged": 3}
    assert world.stars() == {"a": 1, "b": 2, "c": 3, "d": None}


WORLDS = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("abcde"), min_size=1)


@given(after=WORLDS, stars=st.sets(st.sampled_from("abcd")))
@settings(
    deadline=None, max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_exchange(
    tmp_path_factory: pytest.TempPathFactory, after: dict[str, str], stars: set[str]
) -> None:
    world = World(tmp_path_factory.mktemp("world"), "abcdf", stars="f" + "".join(sorted(stars)))
    for time, name in enumerate("abcd", 1):
        if name not in after:
            world.path(name).unlink()
        elif after[name] != name:
            world.write(name, after[name])
            os.utime(world.path(name), ns=(time, time))
    world.ingest((lambda: ENCODER) if "e" in after.values() else never)
    found = world.stars()
    assert found.pop("f") == 6
    assert found.keys() == after.keys()
    values = [value for value in found.values() if value is not None]
    assert len(set(values)) == len(values)
    if len(set(after.values())) == len(after) == 4 and "e" not in after.values():
        expected = {name: 1 + "abcd".index(c) if c in stars else None for name, c in after.items()}
        assert found == expected
    for name in stars:  # gone only with its picture, or its path
        if name in after and name in after.values():
            assert 1 + "abcd".index(name) in values
