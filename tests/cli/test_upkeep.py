"""``maxsight verify`` and ``maxsight annotate``, on a library that needs no encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from shell import Shell

import maxsight
from maxsight.index.records import Changes, EncodedItem, FileState
from maxsight.index.store import Store
from maxsight.index.tables import versions


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


def test_columns_are_dropped(library: Path, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    table = tmp_path / "table.csv"
    table.write_text("path,place,stars,x\na.jpg,Rome,5,1\nbb.jpg,,3,2\n")
    assert shell("annotate", library, table).code == 0
    answer = shell("annotate", library, "--drop", "place", "--drop", "x")
    assert (answer.code, answer.out, answer.err) == (0, "dropped: place, x\n", "")
    items = shell("list", library, "--where", "stars > 4", "--json").json["items"]
    assert [item["path"] for item in items] == [str(tmp_path / "a.jpg")]
    assert "place" not in items[0]
    answer = shell("annotate", library, "--drop", "width")
    assert answer.code == 2
    assert "width is no column of yours, which alone can be dropped: you have stars" in answer.err
    for arguments in ((), (table, "--drop", "stars")):
        answer = shell("annotate", library, *arguments)
        assert answer.code == 2
        assert "columns to fill, or columns to --drop" in answer.err
    assert shell("annotate", library, "--drop", "stars", "--json").json == {"dropped": ["stars"]}
    assert shell("verify", library).code == 0


@pytest.mark.parametrize("table", ["items.lance", "units.lance"])
def test_verify_needs_no_table_that_can_be_opened(
    library: Path, tmp_path: Path, table: str
) -> None:
    shell = Shell(tmp_path)
    manifests = versions.manifests(library / table)
    newest = manifests[max(manifests)]
    newest.write_bytes(newest.read_bytes()[:20])
    answer = shell("list", library)
    assert answer.code == 3
    assert "maxsight verify" in answer.err
    assert "tells what of the library is sound, and with --repair goes on with that" in answer.err
    assert ".rs" not in answer.err, "where in its source Lance says it"
    found = shell("verify", library, "--json")
    assert (found.code, found.err) == (3, "")
    places = [problem["place"] for problem in found.json["problems"]]
    assert f"{table}/_versions/{newest.name}" in places
    answer = shell("verify", library, "--repair")
    assert (answer.code, answer.err) == (0, "")
    assert f"repaired: dropped {table}/_versions/{newest.name}" in answer.out
    assert shell("list", library, "--json").code == 0
    file = library / "library.json"
    file.write_text(file.read_text().replace("builtin", "another"))
    found = shell("verify", library, "--json")
    assert (found.code, [p["place"] for p in found.json["problems"]]) == (3, ["library.json"])
    answer = shell("verify", tmp_path / "none")
    assert answer.code == 3
    assert "is not a library" in answer.err


def test_a_library_too_large_to_be_searched_can_be_compacted(library: Path, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    assert shell("info", library, MAXSIGHT_MEMORY="1MB").code == 3
    answer = shell("compact", library, "--json", MAXSIGHT_MEMORY="1MB")
    assert answer.code == 0, answer.err
    assert 0 < answer.json["bytes_after"] < 2 * answer.json["bytes_before"]


def test_from_python(library: Path, tmp_path: Path) -> None:
    import pyarrow as pa

    with maxsight.open(library) as opened:
        done = opened.annotate(pa.table({"path": [str(tmp_path / "a.jpg")], "stars": [5]}))
        assert (done.files, done.unknown) == (1, ())
        assert opened.items(where="stars = 5")["path"].to_pylist() == [str(tmp_path / "a.jpg")]
        assert opened.verify().problems == ()
        assert opened.verify(repair=True).repaired == ()
        assert len(opened.items()) == 2
        opened.drop_columns("stars")
        assert "stars" not in opened.items().column_names
