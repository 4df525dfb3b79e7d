"""What is kept of films that are not done: whole records, of the right film, none through links."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maxsight.index.records import TokenTable
from maxsight.index.store import Store
from maxsight.index.verify.verify import verify
from maxsight.index.writing import partial
from maxsight.index.writing.partial import Keeper, PartialFilm, Stretch


def film(library: Path, **changes: object) -> PartialFilm:
    source = library.parent / "film.mp4"
    source.write_bytes(bytes(100))
    fields = {
        "content_hash": "ab" * 32,
        "settings": "fps=1",
        "fingerprint": "f",
        "dim": 8,
        "token_dim": None,
        "path": str(source),
        "bytes": 100,
    }
    return PartialFilm(**{**fields, **changes})  # type: ignore[arg-type]


def stretch(first: int, count: int, *, token_dim: int | None = None) -> Stretch:
    rng = np.random.default_rng(first)
    vectors = rng.normal(size=(count, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    starts = np.arange(first, first + count, dtype=np.float64)
    tokens = None
    if token_dim is not None:
        offsets = np.arange(count + 1, dtype=np.int64) * 3
        tokens = TokenTable(
            tokens=rng.integers(-127, 127, (3 * count, token_dim)).astype(np.int8),
            scales=rng.random(3 * count).astype(np.float32),
            sizes=np.ones(3 * count, np.float32),
            offsets=offsets,
        )
    return Stretch(np.stack([starts, starts + 1], axis=1), vectors, tokens, f"mark {first}")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "test.maxsight"
    Store.create(path, encoder_uri="e", fingerprint="f", dim=8).close()
    return path


@pytest.mark.parametrize("token_dim", [None, 4])
def test_what_is_kept_comes_back(token_dim: int | None, library: Path) -> None:
    own = film(library, token_dim=token_dim)
    parts = [stretch(0, 5, token_dim=token_dim), stretch(5, 3, token_dim=token_dim)]
    Keeper(library).append(own, parts[0])
    Keeper(library).append(own, parts[1])  # the next run
    assert partial.found(library) == [own]
    for loaded, given in zip(partial.load(library, own), parts, strict=True):
        assert loaded.mark == given.mark
        np.testing.assert_array_equal(loaded.spans, given.spans)
        np.testing.assert_array_equal(loaded.vectors, given.vectors)
        if given.tokens is not None and loaded.tokens is not None:
            for name in ("tokens", "scales", "sizes", "offsets"):
                np.testing.assert_array_equal(
                    getattr(loaded.tokens, name), getattr(given.tokens, name)
                )
    for other in ({"settings": "fps=2"}, {"fingerprint": "g"}, {"content_hash": "cd" * 32}):
        assert partial.load(library, film(library, token_dim=token_dim, **other)) == []
    Keeper(library).remove(own)
    assert partial.found(library) == []


def test_a_record_that_a_killed_writer_left_is_written_over(library: Path) -> None:
    own, keeper = film(library), Keeper(library)
    keeper.append(own, stretch(0, 5))
    keeper.append(own, stretch(5, 5))
    (file,) = (library / partial.FOLDER).iterdir()
    whole = file.read_bytes()
    for cut in range(1, 200, 17):
        file.write_bytes(whole[:-cut])
        assert [part.mark for part in partial.load(library, own)] == ["mark 0"]
        assert list(partial.problems(library)) == []
        Keeper(library).append(own, stretch(7, 2))
        assert [part.mark for part in partial.load(library, own)] == ["mark 0", "mark 7"]


def test_every_flipped_byte_is_found_or_harmless(library: Path) -> None:
    own, keeper = film(library), Keeper(library)
    keeper.append(own, stretch(0, 2))
    keeper.append(own, stretch(2, 2))
    (file,) = (library / partial.FOLDER).iterdir()
    whole = file.read_bytes()
    vectors = [part.vectors.tobytes() for part in partial.load(library, own)]
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        file.write_bytes(content)
        loaded = [part.vectors.tobytes() for part in partial.load(library, own)]
        assert loaded == vectors[: len(loaded)], place
        Keeper(library).append(own, stretch(4, 1))
        assert partial.load(library, own)[-1].mark == "mark 4"


# The last: sizes that only numbers without an end add up to.
@pytest.mark.parametrize("wrong", [{"token_dim": {}}, {"token_dim": []}, {"dim": 1 << 62}])
def test_a_beginning_that_makes_no_sense_is_damage(wrong: dict[str, Any], library: Path) -> None:
    Keeper(library).append(film(library, **wrong), stretch(0, 4, token_dim=4))
    (file,) = (library / partial.FOLDER).iterdir()
    assert [path for path, _ in partial.problems(library)] == [file]


def test_verify_names_damage_and_repair_deletes_it(library: Path) -> None:
    own = film(library)
    Keeper(library).append(own, stretch(0, 5))
    assert verify(library).problems == ()
    (file,) = (library / partial.FOLDER).iterdir()
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    (problem,) = verify(library).problems
    assert (problem.kind, problem.place) == ("partial", f"partial/{file.name}")
    assert verify(library, repair=True).problems == ()
    assert not file.exists()


def test_compaction_deletes_what_no_run_takes_up(library: Path) -> None:
    own = film(library)
    gone = film(library, path=str(library / "gone.mp4"), content_hash="cd" * 32)
    grown = film(library, bytes=99, content_hash="ef" * 32)
    for one in (own, gone, grown):
        Keeper(library).append(one, stretch(0, 2))
    (library / partial.FOLDER / "stray").write_bytes(b"?")
    with Store.open(library, write=True) as store:
        store.compact()
    assert partial.found(library) == [own]
    partial.clear(library, {(own.content_hash, own.settings)})
    assert os.listdir(library / partial.FOLDER) == []


def test_nothing_is_written_through_links(
    library: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = film(library)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (library / partial.FOLDER).symlink_to(elsewhere)
    Keeper(library).append(own, stretch(0, 2))
    assert os.listdir(elsewhere) == []
    (library / partial.FOLDER).unlink()
    Keeper(library).append(own, stretch(0, 2))
    (file,) = (library / partial.FOLDER).iterdir()
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    file.unlink()
    file.symlink_to(victim)
    Keeper(library).append(own, stretch(0, 2))
    assert victim.read_bytes() == b"precious"
    assert caplog.text.count("is not kept") == 2
    file.unlink()
    os.mkfifo(file)
    assert partial.load(library, own) == []
    assert [path for path, _ in partial.problems(library)] == [file]
