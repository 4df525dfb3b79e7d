"""``maxsight verify`` and ``maxsight annotate``, on a library that needs no encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from shell import Shell

import maxsight
from maxsight.index.records import Changes, EncodedItem, FileState
from maxsight.index.store import Store


def picture(path: Path) -> EncodedItem:
    return EncodedItem(
        state=FileState(str(path), 10, 10),
        kind="image",
        content_hash=path.name,
        width=1,
        height=1,
        vectors=np.eye(8, dtype=np.float32)[len(path.stem) % 8][None],
    )


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "some.maxsight"
    with Store.create(path, encoder_uri="builtin", fingerprint="f", dim=8) as store:
        store.apply(Changes(added=[picture(tmp_path / name) for name in ("a.jpg", "bb.jpg")]))
    return path


def test_verify(library: Path, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    answer = shell("verify", library)
    assert (answer.code, answer.out.partition(":")[0]) == (0, "all is well"), answer.err
    (data,) = (library / "units.lance" / "data").iterdir()
    data.write_bytes(data.read_bytes()[:-1])
    found = shell("verify", library, "--json")
    assert found.code == 3
    problem = found.json["problems"][0]
    assert (problem["kind"], problem["place"]) == ("damaged", f"units.lance/data/{data.name}")
    answer = shell("verify", library, "--repair")
    assert answer.code == 0
    assert "repaired: took 2 files out of the library whose vectors are lost" in answer.out
    with maxsight.open(library) as opened:
        assert opened.verify().problems == ()
        assert len(opened.items()) == 0


def test_annotate(library: Path, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    table = tmp_path / "table.csv"
    table.write_text("path,place,stars\na.jpg,Rome,5\nbb.jpg,,3\nnone.jpg,,\n")
    answer = shell("annotate", library, table)
    assert (answer.code, answer.out) == (1, "2 files: place (text), stars (integers)\n")
    assert answer.err == f"not in the library: {tmp_path}/none.jpg\n"
    answer = shell("annotate", library, table, "--json")
    assert (answer.code, answer.json["unknown"]) == (1, [str(tmp_path / "none.jpg")])
    where = "glob(path, '**/?.jpg') AND stars > 4"
    (item,) = shell("list", library, "--where", where, "--json").json["items"]
    assert (item["path"], item["place"], item["stars"]) == (str(tmp_path / "a.jpg"), "Rome", 5)


def test_from_python(library: Path, tmp_path: Path) -> None:
    import pyarrow as pa

    with maxsight.open(library) as opened:
        done = opened.annotate(pa.table({"path": [str(tmp_path / "a.jpg")], "stars": [5]}))
        assert (done.files, done.unknown) == (1, ())
        assert opened.items(where="stars = 5")["path"].to_pylist() == [str(tmp_path / "a.jpg")]
        assert opened.verify().problems == ()
        assert opened.verify(repair=True).repaired == ()
        assert len(opened.items()) == 2
