"""What a damaged or a made-up library may do when it is opened: say so, and nothing else."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import lance
import numpy as np
import pyarrow as pa
import pytest
from lance.lance import DatasetBasePath

from maxsight.benchmarks.cases.faults import flip_reader, flips
from maxsight.errors import LibraryError
from maxsight.index import snapshot_tokens
from maxsight.index.derived import generations
from maxsight.index.files import sealed_json
from maxsight.index.files.arrays import read_array, read_arrays
from maxsight.index.late.late_index import LateIndex
from maxsight.index.late.token_files import extent_of
from maxsight.index.store import Store
from maxsight.index.tables import lance_tables, schema, versions
from maxsight.index.verify.verify import verify
from maxsight.index.writing import checksums


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """With both indexes, and rows that were removed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot_tokens, "HELD_TOKEN_BYTES", 0)
        library = tmp_path_factory.mktemp("made") / "library"
        flip_reader.make(library)
        yield library


@pytest.fixture
def library(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "library"))


def newest(library: Path, table: str) -> Path:
    lists = versions.manifests(library / table)
    return lists[max(lists)]


def search(library: Path) -> Any:
    with Store.open(library) as store:
        return store.snapshot().search(np.ones((1, 24), np.float32), 5)


def read_tokens(library: Path) -> None:
    with Store.open(library) as store:
        held = store.snapshot()
        held.tokens.of_rows(held.live_rows[:5])


def reseal_ledger(library: Path) -> None:
    (library / "checksums.txt").unlink()
    checksums.LedgerWriter(library).rewrite()


@pytest.mark.parametrize("table", [schema.ITEMS, schema.UNITS])
@pytest.mark.parametrize("part", ["list", "deletions"])
def test_a_flipped_byte_of_what_lance_trusts_is_an_error(
    library: Path, table: str, part: str
) -> None:
    if part == "list":
        file = newest(library, table)
    else:
        found = sorted((library / table / "_deletions").glob("*"))
        if not found:
            return
        file = found[-1]
    content = file.read_bytes()
    draw = random.Random(0)
    for place in draw.sample(range(len(content)), 20):
        flipped = bytearray(content)
        flipped[place] ^= 1 << draw.randrange(8)
        file.write_bytes(flipped)
        os.utime(file, ns=(0, place))  # another file, as far as this process can tell
        with pytest.raises(LibraryError, match=r"not what was written.*maxsight verify"):
            search(library)
        assert verify(library).problems
    file.write_bytes(content)
    assert search(library)


@pytest.mark.parametrize("place", ["s3://bucket/secret", "/home/somebody/else"])
def test_a_table_that_takes_rows_from_elsewhere_is_not_opened(
    library: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whoever can seal it, too; and before Lance sees it."""
    opened = lance.dataset(str(library / schema.UNITS))
    base = DatasetBasePath(place, name="b", is_dataset_root=False)
    opened.add_bases([base])
    reseal_ledger(library)
    ask = lance.dataset

    def asked(path: str, **named: Any) -> Any:
        return ask(path, **named) if "items" in path else pytest.fail("Lance was asked")

    monkeypatch.setattr(lance, "dataset", asked)
    for write in (False, True):
        with pytest.raises(LibraryError, match=f"from elsewhere.*{place}"):
            Store.open(library, write=write)


def test_what_matches_its_checksum_is_never_deleted(library: Path) -> None:
    """The ledger is as it should be, and Lance cannot read: the file is not to blame."""
    file = newest(library, schema.ITEMS)
    file.write_bytes(file.read_bytes()[:-40] + bytes(24) + file.read_bytes()[-16:])
    reseal_ledger(library)
    before = {path: path.read_bytes() for path in library.rglob("*") if path.is_file()}
    for repair in (False, True):
        with pytest.raises(LibraryError, match=r"what was written.*Nothing was changed"):
            verify(library, repair=repair)
    after = {path: path.read_bytes() for path in library.rglob("*") if path.is_file()}
    assert before.items() <= after.items()


def test_a_panic_is_an_error() -> None:
    class PanicException(BaseException):
        __module__ = "pyo3_runtime"

    with (
        pytest.raises(LibraryError, match=r"gave up.*verify /l --repair"),
        lance_tables.storage_errors(Path("/l/items.lance")),
    ):
        raise PanicException("index out of bounds")
    with pytest.raises(KeyboardInterrupt), lance_tables.storage_errors(Path("/l")):
        raise KeyboardInterrupt


def test_verify_looks_at_what_was_asked_for(library: Path) -> None:
    generations.want(library, "SQ8")
    assert not verify(library).problems
    file = library / "indexes/wanted.json"
    file.write_text(file.read_text().replace("SQ8", "SQ4"))
    (problem,) = verify(library).problems
    assert (problem.kind, problem.place) == ("index", "indexes/wanted.json")
    assert not verify(library, repair=True).problems
    assert not file.exists()


def test_what_a_killed_writer_left_half_made_goes(library: Path) -> None:
    left = [
        ".checksums.txt.partial",
        ".library.json.partial",
        "indexes/.wanted.json.partial",
        "items.lance/_versions/.tmpAb12Cd",
        "units.lance/data/.tmpxyz",
        "units.lance/_versions/18446744073709551000.manifest#1",
    ]
    for name in left:
        (library / name).write_bytes(b"half")
    found = verify(library)
    assert not found.problems
    assert sorted(found.leftovers) == sorted(left)
    Store.open(library, write=True).close()
    assert not verify(library).leftovers
    assert not [name for name in left if (library / name).exists()]


def _lists_out_of_range(index: Any) -> None:
    place = next(n for n in range(index.nlist) if index.invlists.list_size(n))
    faiss.rev_swig_ptr(index.invlists.get_ids(place), 1)[0] = 10**9


FAISS_LIES: dict[str, Callable[[Any], Any]] = {
    "a row that there is not": _lists_out_of_range,
    "more rows than its lists have": lambda index: setattr(index, "ntotal", index.ntotal + 1),
}


@pytest.mark.parametrize("lie", FAISS_LIES.values(), ids=FAISS_LIES)
def test_a_faiss_index_that_lies_is_not_used(library: Path, lie: Callable[[Any], Any]) -> None:
    (folder,) = (library / "indexes").glob("vectors-*")
    index = faiss.read_index(str(folder / "faiss.index"))
    lie(index)
    faiss.write_index(index, str(folder / "faiss.index"))
    _reseal_index(folder)
    with Store.open(library) as store:
        assert store.snapshot().state.built is None
        assert search(library)
    assert [problem.kind for problem in verify(library).problems] in (["index"], [])


def test_a_faiss_index_takes_no_more_memory_than_it_has_bytes(library: Path) -> None:
    (folder,) = (library / "indexes").glob("vectors-*")
    file = folder / "faiss.index"
    content = file.read_bytes()
    for place in range(40, len(content) - 8, 101):
        file.write_bytes(content[:place] + (2**38).to_bytes(8, "little") + content[place + 8 :])
        _reseal_index(folder)
        search(library)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("spec", "IVF1000000000,Flat"),
        ("spec", "HNSW999999999,SQ8"),
        ("dim", 10**9),
        ("dim", -1),
        ("dim", 25),
        ("rows", 10**30),
        ("rows", "many"),
        ("effort", {"probes": -1, "shortlist": 10}),
        ("effort", {"probes": 1e300, "shortlist": 10}),
        ("files", {"../../../etc/passwd": {"bytes": 1, "blake2b": "0"}}),
        ("files", {"/etc/passwd": {"bytes": 1, "blake2b": "0"}}),
        ("files", [1]),
        ("details", [[1, 2]]),
    ],
)
def test_records_of_vector_indexes_are_looked_at(library: Path, field: str, value: object) -> None:
    (folder,) = (library / "indexes").glob("vectors-*")
    fields = json.loads((folder / "index.json").read_text())
    sealed_json.write(folder / "index.json", fields | {field: value})
    with Store.open(library) as store:
        assert store.snapshot().state.built is None
    assert [problem.kind for problem in verify(library).problems] == ["index"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dim", 0),
        ("dim", 10**9),
        ("documents", -1),
        ("documents", 10**30),
        ("encodings", "x"),
        ("extents", {"../../secret": {"bytes": 4, "crc32": 0}}),
        ("extents", {}),
        ("extents", {"tokens.bin": {"bytes": "4", "crc32": 0}}),
        ("calibration", {"target": 1}),
        ("details", 7),
    ],
)
def test_records_of_token_indexes_are_looked_at(library: Path, field: str, value: object) -> None:
    (folder,) = (library / "indexes").glob("tokens-*")
    fields = json.loads((folder / "late.json").read_text())
    sealed_json.write(folder / "late.json", fields | {field: value})
    with pytest.raises(LibraryError):
        LateIndex.open(folder)
    assert [problem.kind for problem in verify(library).problems] == ["index"]


@pytest.mark.parametrize("name", ["lengths.bin", "labels.bin", "ids.bin", "tokens.bin"])
@pytest.mark.parametrize("cut", [1, 3, 8])
def test_numbers_that_end_within_one_are_damage(library: Path, name: str, cut: int) -> None:
    (folder,) = (library / "indexes").glob("tokens-*")
    fields = json.loads((folder / "late.json").read_text())
    size = fields["extents"][name]["bytes"] - cut
    fields["extents"][name] = vars(extent_of(folder / name, size))
    sealed_json.write(folder / "late.json", fields)
    with pytest.raises(LibraryError, match="damaged"):
        LateIndex.open(folder)


def _sizes_missing(rows: pa.Table) -> pa.Table:
    sizes = pa.array([[1.0]] * len(rows), pa.list_(pa.float32()))
    return rows.set_column(rows.schema.names.index("token_sizes"), "token_sizes", sizes)


def _bytes_missing(rows: pa.Table) -> pa.Table:
    few = pa.array([b"x"] * len(rows), pa.large_binary())
    return rows.set_column(rows.schema.names.index("tokens"), "tokens", few)


def _vectors_of_another_width(rows: pa.Table) -> pa.Table:
    flat = pa.array(np.zeros(7 * len(rows), np.float16))
    column = pa.FixedSizeListArray.from_arrays(flat, 7)
    return rows.set_column(rows.schema.names.index("vector"), "vector", column)


def _claims(value: int) -> Callable[[pa.Table], pa.Table]:
    def change(rows: pa.Table) -> pa.Table:
        counts = pa.array([value] * len(rows), pa.int64())
        return rows.set_column(rows.schema.names.index("unit_count"), "unit_count", counts)

    return change


def _paths_of_bytes(rows: pa.Table) -> pa.Table:
    paths = rows["path"].cast(pa.binary())
    return rows.set_column(rows.schema.names.index("path"), "path", paths)


@pytest.mark.parametrize(
    ("table", "lie"),
    [
        (schema.UNITS, _sizes_missing),
        (schema.UNITS, _bytes_missing),
        (schema.UNITS, _vectors_of_another_width),
        (schema.ITEMS, _paths_of_bytes),
        (schema.ITEMS, _claims(-1)),
        (schema.ITEMS, _claims(2**62)),
    ],
)
def test_rows_that_cannot_be_are_an_error(
    library: Path, table: str, lie: Callable[[pa.Table], pa.Table]
) -> None:
    rows = lie(lance.dataset(str(library / table)).to_table())
    lance.write_dataset(rows, str(library / table), mode="overwrite")
    shutil.rmtree(library / "indexes")
    reseal_ledger(library)
    with pytest.raises(LibraryError, match=r"damaged|of type"):
        read_tokens(library)


def test_an_array_is_as_long_as_its_file(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    np.save(file, np.zeros(4, np.float32))
    content = file.read_bytes()
    file.write_bytes(content.replace(b"(4,), ", b"(1<<", 1)[: len(content)])
    for shape in (b"(9,)", b"(3,)", b"(-4"):
        file.write_bytes(content.replace(b"(4,)", shape, 1))
        for mapped in (False, True):
            with pytest.raises(LibraryError, match="cannot be read"):
                read_array(file, mapped=mapped)
    file.write_bytes(content.replace(b"(4,), }    ", b"(4000000000000,), }"[:11], 1))
    with pytest.raises(LibraryError, match="cannot be read"):
        read_array(file)
    np.savez_compressed(tmp_path / "b.npz", a=np.zeros(10**6))
    with pytest.raises(LibraryError, match="compressed"):
        read_arrays(tmp_path / "b.npz", "a")


def test_damage_of_any_file_is_found_or_harmless(tmp_path: Path) -> None:
    done = list(flips.damages(tmp_path, flips=24, seed=3))
    assert len(done) == 24
    assert all(flip.was_found or flip.is_harmless for flip in done)


def _reseal_index(folder: Path) -> None:
    from maxsight.index.files.checksum import checksum

    fields = json.loads((folder / "index.json").read_text())
    fields["files"] = {name: vars(checksum(folder / name)) for name in fields["files"]}
    sealed_json.write(folder / "index.json", fields)
