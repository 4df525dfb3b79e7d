"""Libraries that were damaged, and what is found and saved of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest
from damaged_library import every_file, expected, flip, index_again

from maxsight.errors import LibraryError, LibraryNotFound
from maxsight.index.building import vector_index
from maxsight.index.files import checksum
from maxsight.index.files.sealed_json import seal
from maxsight.index.late.late_index import LateIndex
from maxsight.index.records import Changes
from maxsight.index.store import Store
from maxsight.index.tables import versions
from maxsight.index.verify.verify import verify
from maxsight.index.writing import checksums

Create = Callable[..., Store]


def test_a_sound_library(library: Path, samples: Any) -> None:
    found = verify(library)
    assert found.problems == ()
    assert (found.items, found.units) == (6, 9)
    assert found.unrecorded == 0
    assert found.orphans == 2  # the replaced one's and the removed one's
    assert found.files == len(checksums.table_files(library))
    assert verify(library, repair=True).orphans == 0
    with Store.open(library) as store:
        samples.check(store.snapshot(), expected())


def test_a_flipped_byte_is_found_in_any_file(library: Path) -> None:
    passing = {"write.lock", "latest_version_hint.json"}
    files = [file for file in every_file(library) if file.name not in passing]
    assert len(files) > 20
    for file in files:
        content = file.read_bytes()
        for place in {0, len(content) // 2, len(content) - 2}:
            flip(file, place)
            name = file.relative_to(library).as_posix()
            try:
                problems = verify(library).problems
            except LibraryError:
                assert name == "library.json"  # a schema no maxsight knows
            else:
                assert name in {problem.place for problem in problems}, (name, place, problems)
            file.write_bytes(content)
    assert verify(library).problems == ()


def test_a_missing_file_is_found(library: Path) -> None:
    for name in ("items.lance", "units.lance"):
        opened = lance.dataset(str(library / name))
        parts = {
            part for fragment in opened.get_fragments() for part in versions.files_of(fragment)
        }
        newest = versions.manifests(library / name)[opened.version]
        for file in [*(library / name / part for part in parts), newest]:
            content = file.read_bytes()
            file.unlink()
            problems = [
                problem for problem in verify(library).problems if problem.kind == "missing"
            ]
            assert problems
            assert all(problem.place in str(file) for problem in problems)
            file.write_bytes(content)
    shutil.rmtree(library / "units.lance")
    assert "units.lance" in {problem.place for problem in verify(library).problems}
    with pytest.raises(LibraryError, match="restore the folder"):
        verify(library, repair=True)


@pytest.mark.parametrize(
    ("table", "how"), [("items.lance", "flip"), ("units.lance", "flip"), ("units.lance", "delete")]
)
def test_lost_data_leaves_the_rest(library: Path, samples: Any, table: str, how: str) -> None:
    """Each file that the newest version needs, in turn: the others stay, none is wrong."""
    opened = lance.dataset(str(library / table))
    parts = [sorted(versions.files_of(fragment)) for fragment in opened.get_fragments()]
    sound = library.with_name("sound")
    shutil.copytree(library, sound)
    fewest = 6
    for part in (part for files in parts for part in files):
        shutil.rmtree(library)
        shutil.copytree(sound, library)
        file = library / table / part
        flip(file) if how == "flip" else file.unlink()
        with Store.open(sound) as before:
            ids = {path: item.item_id for path, item in before.known().items()}
        repaired = verify(library, repair=True)
        assert repaired.problems == ()
        assert any("dropped the damaged part" in done for done in repaired.repaired)
        fewest = min(fewest, repaired.items)
        with Store.open(library) as store:
            kept = {item.item_id: (p, item.content_hash) for p, item in store.known().items()}
            assert kept.items() <= expected().items()
            samples.check(store.snapshot(), kept)
        with Store.open(library, write=True) as store:
            (new,) = store.apply(Changes(added=[samples.item("/new", "new")]))
            assert new > max(ids.values()) + 1
            store.apply(Changes(removed=[new]))
        index_again(library, samples)
        assert verify(library).problems == ()
    assert fewest < 6


@pytest.mark.parametrize("table", ["items.lance", "units.lance"])
@pytest.mark.parametrize("how", ["flip", "zero", "delete"])
def test_a_lost_version_falls_back(library: Path, samples: Any, table: str, how: str) -> None:
    manifests = versions.manifests(library / table)
    newest = manifests[max(manifests)]
    if how == "delete":
        newest.unlink()
    elif how == "zero":
        newest.write_bytes(bytes(newest.stat().st_size))
    else:
        flip(newest)
    repaired = verify(library, repair=True)
    assert repaired.problems == ()
    assert repaired.repaired
    index_again(library, samples)
    assert verify(library).problems == ()
    assert verify(library, repair=True).repaired == ()


def test_what_only_old_versions_need_goes(library: Path, samples: Any) -> None:
    manifests = versions.manifests(library / "items.lance")
    flip(manifests[1])
    (problem,) = verify(library).problems
    assert "only older versions" in problem.text
    repaired = verify(library, repair=True)
    assert (repaired.problems, repaired.items) == ((), 6)
    with Store.open(library, write=True) as store:
        store.compact(grace_seconds=0)
        samples.check(store.snapshot(), expected())


def test_a_damaged_ledger_is_no_damaged_library(library: Path, samples: Any) -> None:
    ledger = library / checksum.FILE_NAME
    content = ledger.read_bytes()
    lines = content.splitlines(keepends=True)
    ledger.write_bytes(b"".join([lines[0].replace(b"items", b"itens"), *lines[1:]]) + b"torn li")
    (problem,) = verify(library).problems
    assert (problem.kind, problem.text) == ("ledger", "line 1 is damaged")
    assert verify(library).unrecorded == 1
    assert verify(library, repair=True).problems == ()
    ledger.unlink()
    assert verify(library).unrecorded == len(checksums.table_files(library))
    Store.open(library, write=True).close()
    found = verify(library)
    assert (found.problems, found.unrecorded) == ((), 0)


def test_a_torn_line_is_written_again(library: Path, samples: Any) -> None:
    ledger = library / checksum.FILE_NAME
    content = ledger.read_bytes()
    for cut in (1, 30, content[:-1].rfind(b"\n") + 2):
        ledger.write_bytes(content[: len(content) - cut] if cut < 100 else content[:cut])
        assert verify(library).problems == ()
        assert verify(library).unrecorded
        with Store.open(library, write=True) as store:
            store.apply(Changes())
        assert checksum.read(library).files.keys() == checksums.table_files(library)


def write_units(library: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Wrong rows, rightly written."""
    table = library / "units.lance"
    rows = change(lance.dataset(str(table)).to_table())
    lance.write_dataset(rows, str(table), mode="overwrite")
    Store.open(library, write=True).close()  # which gives them checksums


def with_vector(rows: pa.Table, row: int, vector: float) -> pa.Table:
    vectors = np.stack(rows["vector"].to_numpy())
    vectors[row] = vector
    flat = pa.array(vectors.astype(np.float16).ravel())
    place = rows.schema.get_field_index("vector")
    column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    return rows.set_column(place, rows.schema.field("vector"), column)


def with_item(rows: pa.Table, row: int, item_id: int) -> pa.Table:
    ids = rows["item_id"].to_numpy().copy()
    ids[row] = item_id
    place = rows.schema.get_field_index("item_id")
    return rows.set_column(place, rows.schema.field("item_id"), pa.array(ids))


@pytest.mark.parametrize(
    ("change", "text", "lost"),
    [
        (lambda rows: with_vector(rows, 1, np.nan), "not finite or not of length 1", {"/b"}),
        (lambda rows: with_vector(rows, 3, 0.7), "not finite or not of length 1", {"/c"}),
        (lambda rows: rows.filter(rows["unit_id"].to_numpy() != 2), "missing or double", {"/b"}),
        (lambda rows: pa.concat_tables([rows, rows.slice(3, 1)]), "twice or out of", {"/c"}),
        (lambda rows: with_item(rows, 3, 1), "not made from", {"/c"}),
        (lambda rows: with_item(rows, 0, 5), None, set()),  # nobody's
    ],
)
def test_rows_that_contradict_each_other(
    library: Path, samples: Any, change: Any, text: str | None, lost: set[str]
) -> None:
    write_units(library, change)
    problems = verify(library).problems
    assert any(text in problem.text for problem in problems) if text else not problems
    repaired = verify(library, repair=True)
    assert repaired.problems == ()
    assert repaired.items == 6 - len(lost)
    with Store.open(library) as store:
        samples.check(store.snapshot(), expected(lost))
    index_again(library, samples)


def test_overlapping_claims(library: Path, samples: Any) -> None:
    items = lance.dataset(str(library / "items.lance"))
    items.update({"first_unit": "first_unit - 1"}, where="path = '/d'")
    assert any("claim units of another" in problem.text for problem in verify(library).problems)
    assert verify(library, repair=True).problems == ()
    index_again(library, samples)


def test_library_json(library: Path, samples: Any) -> None:
    file = library / "library.json"
    fields = json.loads(file.read_text())
    file.write_text(json.dumps(fields | {"fingerprint": "other"}))
    (problem,) = verify(library).problems
    assert (problem.kind, problem.place) == ("damaged", "library.json")
    with pytest.raises(LibraryError, match="checksum"):
        Store.open(library)
    with pytest.raises(LibraryError, match="restore it from a backup"):
        verify(library, repair=True)
    file.unlink()
    with pytest.raises(LibraryNotFound):
        verify(library)


@pytest.mark.parametrize("forged", [{"dim": 7}, {"token_dim": 5}])
def test_library_json_that_fits_no_table(library: Path, forged: dict[str, int]) -> None:
    """What nobody can open is not well, whatever its checksums say."""
    file = library / "library.json"
    file.write_text(json.dumps(seal(json.loads(file.read_text()) | forged)))
    with Store.open(library) as store, pytest.raises(LibraryError, match="has a column"):
        store.snapshot()
    problems = verify(library).problems
    assert any(problem.place == "library.json" for problem in problems), problems
    assert any(problem.place == "library.json" for problem in verify(library, repair=True).problems)


@pytest.fixture(scope="session")
def original_with_index(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = Path(shutil.copytree(original, tmp_path_factory.mktemp("indexed") / "library"))
    with Store.open(library, write=True) as store:
        assert vector_index.build(store.snapshot(), "IVF2,Flat").action == "built"
    return library


def newer_units(folder: Path) -> None:
    """As if the library were an older copy of the one the index was made from."""
    with Store.open(folder.parent.parent, write=True) as store:
        library_id, rows = store.manifest.library_id, 9
    record = json.loads((folder / "index.json").read_text())
    np.save(folder / "unit_ids.npy", np.arange(90, 90 + rows))
    found = checksum.checksum(folder / "unit_ids.npy")
    record["files"]["unit_ids.npy"] = {"bytes": found.bytes, "blake2b": found.blake2b}
    assert record["details"]["library_id"] == library_id
    (folder / "index.json").write_text(json.dumps(seal(record)))


def another_library(folder: Path) -> None:
    record = json.loads((folder / "index.json").read_text())
    record["details"]["library_id"] = "another"
    (folder / "index.json").write_text(json.dumps(seal(record)))


def test_an_index_of_tokens(create: Create, samples: Any) -> None:
    with create(token_dim=16) as store:
        items = [samples.item(f"/{n}", f"{n}*6", tokens=16) for n in range(30)]
        store.apply(Changes(added=items))
        library, library_id = store.path, store.manifest.library_id
        snapshot = store.snapshot()
    folder = library / "indexes" / "tokens-1"
    folder.parent.mkdir()

    def build(owner: str, first: int) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        unit_ids = np.arange(first, first + 180)
        details = {"library_id": owner}
        LateIndex.build(folder, [snapshot.tokens.held], labels=unit_ids, details=details)

    def texts() -> list[str]:
        return [problem.text for problem in verify(library).problems]

    build(library_id, 0)
    assert texts() == []
    files = list(every_file(folder))
    assert len(files) == 7
    for file in files:
        content = file.read_bytes()
        flip(file)
        assert texts(), file
        file.write_bytes(content)
    build("another", 0)
    assert "another library" in texts()[0]
    build(library_id, 500)
    assert "never held" in texts()[0]
    (folder.parent / ".tokens-2.partial").mkdir()
    assert verify(library, repair=True).problems == ()
    assert list(folder.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda folder: flip(folder / "faiss.index"), "not what was written"),
        (lambda folder: (folder / "unit_ids.npy").unlink(), "cannot be read"),
        (lambda folder: flip(folder / "index.json"), "damaged"),
        (lambda folder: (folder / "index.json").unlink(), "cannot be read"),
        (another_library, "another library"),
        (newer_units, "never held"),
    ],
)
def test_an_index_that_does_not_fit_goes(
    original_with_index: Path,
    tmp_path: Path,
    samples: Any,
    damage: Callable[[Path], object],
    text: str,
) -> None:
    library = Path(shutil.copytree(original_with_index, tmp_path / "library"))
    assert verify(library).problems == ()
    damage(library / "indexes" / "vectors-1")
    (problem,) = verify(library).problems
    assert (problem.kind, problem.place) == ("index", "indexes/vectors-1")
    assert text in problem.text
    repaired = verify(library, repair=True)
    assert repaired.problems == ()
    assert "the next `maxsight index` makes it again" in repaired.repaired[0]
    with Store.open(library) as store:
        samples.check(store.snapshot(), expected())


def test_an_index_is_not_blamed_for_a_table(original_with_index: Path, tmp_path: Path) -> None:
    library = Path(shutil.copytree(original_with_index, tmp_path / "library"))
    manifests = versions.manifests(library / "units.lance")
    flip(manifests[max(manifests)])
    assert {problem.kind for problem in verify(library).problems} == {"damaged"}
