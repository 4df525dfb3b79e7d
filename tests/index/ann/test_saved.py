"""An index in a folder: it comes back as it was, or says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from clustered import asked, clustered

from maxsight.errors import LibraryError, SchemaTooNew
from maxsight.index.ann import auto, saved
from maxsight.index.ann.contract import Effort, VectorIndex

DIM = 32
SPECS = [
    "exact",
    "IVF8,PQ16x4fs+int8",
    "HNSW8,SQ8",
    "leanvec:16/IVF8,SQ8",
    "leanvec-id:16/IVF8,PQ8x4fs+int8",
]
STORED = clustered(1200, DIM)
QUERIES = asked(5, DIM)


@pytest.fixture(scope="module", autouse=True)
def _one_core() -> Iterator[None]:
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(threads)


def make(spec: str) -> VectorIndex:
    index = auto.make(spec, DIM)
    index.train(STORED.astype(np.float32), asked(200, DIM, seed=3))
    index.add(STORED)
    index.effort = Effort(5, 60)
    return index


@pytest.mark.parametrize("spec", SPECS)
def test_it_comes_back_and_grows(spec: str, tmp_path: Path) -> None:
    index = make(spec)
    folder = tmp_path / "below" / "one"
    record = saved.save(
        index, folder, arrays={"ids.npy": np.arange(3)}, details={"library": "a", "n": 3}
    )
    assert [path.name for path in folder.parent.iterdir()] == ["one"]
    assert saved.read(folder) == record
    assert saved.problems(folder) == []
    again, details = saved.load(folder)
    assert details == {"library": "a", "n": 3}
    np.testing.assert_array_equal(np.load(folder / "ids.npy"), np.arange(3))
    assert (again.dim, again.effort, len(again)) == (DIM, Effort(5, 60), 1200)
    assert (again.spec, type(again)) == (index.spec, type(index))
    more = clustered(40, DIM, seed=9)
    for _ in range(2):
        for one, other in zip(index.search(QUERIES, 20), again.search(QUERIES, 20), strict=True):
            np.testing.assert_array_equal(one, other)
        index.add(more)
        again.add(more)
    assert len(again) == 1280
    # What is in memory now is not in the file.
    assert saved.problems(folder) == []
    saved.save(again, tmp_path / "two")
    assert len(saved.load(tmp_path / "two")[0]) == 1280


def test_a_folder_is_never_written_over(tmp_path: Path) -> None:
    index = make("exact")
    saved.save(index, tmp_path / "one")
    with pytest.raises(LibraryError, match="is there already"):
        saved.save(index, tmp_path / "one")


def test_what_a_killed_save_left_is_no_index_and_no_obstacle(tmp_path: Path) -> None:
    left = tmp_path / ".one.partial"
    left.mkdir()
    (left / "faiss.index").write_bytes(b"half")
    saved.save(make("exact"), tmp_path / "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one"]


def test_a_failed_save_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        saved.save(make("exact"), tmp_path / "one", details={"a": object()})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("spec", ["IVF8,PQ16x4fs+int8", "leanvec-id:16/IVF8,SQ8"])
def test_every_flipped_byte_and_every_lost_file_is_found(spec: str, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    saved.save(make(spec), folder)
    draw = np.random.default_rng(0)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(files) > 2
    for file in files:
        content = file.read_bytes()
        for place in draw.integers(0, len(content), 8).tolist():
            file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            if file.name == saved.FILE:
                with pytest.raises(LibraryError, match=r"make the index again|update maxsight"):
                    saved.problems(folder)
            else:
                assert saved.problems(folder)
        file.write_bytes(content[:-2])
        with pytest.raises(LibraryError, match="make the index again"):
            saved.load(folder)
        file.unlink()
        with pytest.raises(LibraryError):
            saved.load(folder)
        file.write_bytes(content)
    assert saved.problems(folder) == []
    saved.load(folder)


@pytest.mark.filterwarnings("ignore:Data type alias")
def test_numpys_own_errors_do_not_get_through(tmp_path: Path) -> None:
    """Whatever byte of a header is flipped, loading tells the file and what to do, or works."""
    folder = tmp_path / "one"
    saved.save(make("leanvec:16/SQ8+int8"), folder)
    refused: list[tuple[Path, str]] = []
    for name in ("projections.npz", "int8.npy", "int8-scales.npy"):
        (file,) = folder.glob(name)
        content = file.read_bytes()
        ends = {*range(min(300, len(content))), *range(len(content) - 300, len(content))}
        for place in sorted(ends):
            file.write_bytes(content[:place] + bytes([content[place] ^ 8]) + content[place + 1 :])
            try:
                saved.load(folder)
            except LibraryError as error:
                refused.append((file, str(error)))
        file.write_bytes(content)
    assert len(refused) > 500
    assert all(str(file) in told and "make the index again" in told for file, told in refused)
    assert saved.problems(folder) == []
    saved.load(folder)


@pytest.mark.parametrize(
    "arrays",
    [
        {"queries": np.zeros((16, 32), np.float32)},
        {"queries": np.zeros((16, 32), np.float32), "rows": np.zeros((8, 32), np.float32)},
        {"queries": np.zeros((16, 32)), "rows": np.zeros((16, 32))},
        {"queries": np.array([None]), "rows": np.array([None])},
    ],
)
def test_projections_that_do_not_fit(tmp_path: Path, arrays: dict[str, Any]) -> None:
    index = make("leanvec:16/SQ8")
    index.save(tmp_path)
    np.savez(tmp_path / "projections.npz", **arrays)
    with pytest.raises(LibraryError, match=r"projections\.npz .*make the index again"):
        auto.make("leanvec:16/SQ8", DIM).load(tmp_path)


def test_a_newer_layout(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    saved.save(make("exact"), folder)
    fields = json.loads((folder / saved.FILE).read_text())
    (folder / saved.FILE).write_text(json.dumps({"schema": 99, "checksum": fields["checksum"]}))
    with pytest.raises(SchemaTooNew, match="schema 99"):
        saved.load(folder)
