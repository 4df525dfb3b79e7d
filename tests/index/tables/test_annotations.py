"""Columns of the user's own, and globs over paths."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxsight.errors import FilterError, LibraryLocked, UsageError
from maxsight.index.records import Changes, Failure, FileState
from maxsight.index.store import Store
from maxsight.index.tables.annotations import read_table
from maxsight.index.tables.where.globs import glob_expression
from maxsight.index.verify.verify import verify

Create = Callable[..., Store]


@pytest.fixture
def store(create: Create, samples: Any) -> Any:
    with create() as store:
        store.apply(Changes(added=[samples.item(f"/{name}", f"{name}*2") for name in "abc"]))
        yield store


def table(**columns: Any) -> pa.Table:
    return pa.table(columns)


def found(store: Store, where: str) -> list[str]:
    paths: list[str] = store.items(where=where)["path"].to_pylist()
    snapshot = store.snapshot()
    hits = snapshot.search([[1.0] * snapshot.dim], 99, allowed=snapshot.allowed(where=where))[0]
    assert {hit.path for hit in hits} == set(paths)
    return sorted(paths)


def test_columns_become_part_of_where(store: Store) -> None:
    done = store.annotate(
        table(
            path=["/a", "/b", "/nowhere"],
            place=["Rome", None, "Oslo"],
            stars=[5, 3, 1],
            weight=[0.5, 1.5, 2.5],
            day=[date(2024, 5, 1), None, None],
            good=[True, False, True],
        )
    )
    assert (done.files, done.unknown) == (2, ("/nowhere",))
    assert done.columns == {
        "place": "text",
        "stars": "integers",
        "weight": "floats",
        "day": "dates",
        "good": "booleans",
    }
    assert found(store, "place = 'Rome'") == ["/a"]
    assert found(store, "place IS NULL") == ["/b", "/c"]
    assert found(store, "stars >= 3 AND weight > 1") == ["/b"]
    assert found(store, "day > '2024-04-30' AND day < '2024-05-02'") == ["/a"]
    assert found(store, "good") == ["/a"]
    assert store.items().column_names[-5:] == ["place", "stars", "weight", "day", "good"]
    with pytest.raises(
        FilterError, match=r"no column plaice.*captured_at, settings, remark, place, stars"
    ):
        store.items(where="plaice = 'Rome'")


def test_annotations_stay_with_the_file(store: Store, samples: Any) -> None:
    store.annotate(table(path=["/a", "/b", "/c"], stars=[1, 2, 3]))
    store.apply(
        Changes(
            added=[samples.item("/new", "new")],
            replaced=[(0, samples.item("/a", "changed"))],
            restated=[(1, FileState("/moved", 1, 1))],
            removed=[2],
            failed=[Failure(FileState("/bad", 1, 1), "bad")],
        )
    )
    store.apply(Changes(failed=[Failure(FileState("/bad", 2, 2), "still")]))
    store.compact(grace_seconds=0)
    rows = store.items().sort_by("item_id").to_pylist()
    assert [(row["path"], row["stars"]) for row in rows] == [
        ("/a", 1),
        ("/moved", 2),
        ("/new", None),
    ]
    store.annotate(table(path=["/a"], stars=[None], place=["here"]))
    store.annotate(table(path=["/new"], stars=pa.array([9], pa.int8())))
    rows = store.items().sort_by("item_id").to_pylist()
    assert [(row["stars"], row["place"]) for row in rows] == [(None, "here"), (2, None), (9, None)]
    samples.check(
        store.snapshot(), {0: ("/a", "changed"), 1: ("/moved", "b*2"), 3: ("/new", "new")}
    )
    assert verify(store.path).problems == ()


def test_columns_are_dropped(store: Store, samples: Any) -> None:
    store.annotate(table(path=["/a", "/b"], place=["Rome", "Oslo"], stars=[1, 2], x=[1.5, None]))
    with Store.open(store.path) as reader:
        before = reader.snapshot()
        for names, message in (
            (["stars", "plaice"], "plaice is no column of yours, .*: you have place, stars, x"),
            (["width"], "width is no column of yours"),
        ):
            with pytest.raises(UsageError, match=message):
                store.drop_columns(names)
        assert reader.snapshot() is before
        store.drop_columns(["place", "stars", "place"])
        assert store.items().column_names[-2:] == ["remark", "x"]
        with pytest.raises(FilterError, match="no column place"):
            found(store, "place = 'Rome'")
        assert found(store, "x > 1") == ["/a"]
        assert before.allowed(where="stars = 2") is not None, "of the state it is a picture of"
    store.apply(Changes(added=[samples.item("/new", "new")], restated=[(0, FileState("/z", 1, 1))]))
    store.annotate(table(path=["/z", "/new"], place=[7, 8]))
    assert found(store, "place > 7") == ["/new"], "a column of that name may be another now"
    store.compact(grace_seconds=0)
    assert found(store, "x > 1 AND place = 7") == ["/z"]
    store.drop_columns(["x", "place"])
    with pytest.raises(UsageError, match="you have none"):
        store.drop_columns(["x"])
    samples.check(
        store.snapshot(), {0: ("/z", "a*2"), 1: ("/b", "b*2"), 2: ("/c", "c*2"), 3: ("/new", "new")}
    )
    assert verify(store.path).problems == ()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"place": ["x"]}, "need a column path"),
        ({"path": [1], "place": ["x"]}, "need a column path of text"),
        ({"path": [None], "place": ["x"]}, "need a column path of text"),
        ({"path": ["/a", None], "place": ["x", "y"]}, "no path"),
        ({"path": ["/a", "/a"], "place": ["x", "y"]}, "hold /a twice"),
        ({"path": ["/a"]}, "need columns beside path"),
        ({"path": ["/a"], "width": [1]}, "width is a column the library fills itself"),
        ({"path": ["/a"], "status": ["live"]}, "status is a column the library fills"),
        ({"path": ["/a"], "_rowid": [1]}, "cannot be called '_rowid'"),
        ({"path": ["/a"], "my place": ["x"]}, "cannot be called 'my place'"),
        ({"path": ["/a"], "held": ["x"]}, "held holds integers in this library and text in"),
        ({"path": ["/a"], "held": [1.5]}, "held holds integers in this library and floats in"),
        ({"path": ["/a"], "x": [["list"]]}, "can be kept"),
        ({"path": ["/a"], "x": pa.array([2**63], pa.uint64())}, "does not fit integers"),
    ],
)
def test_what_cannot_be_a_column(store: Store, columns: dict[str, Any], message: str) -> None:
    store.annotate(table(path=["/a"], held=[1]))
    before = store.items().to_pylist()
    with pytest.raises(UsageError, match=message):
        store.annotate(table(**columns))
    assert store.items().to_pylist() == before


def test_readers_do_not_annotate(store: Store) -> None:
    with Store.open(store.path) as reader, pytest.raises(LibraryLocked):
        reader.annotate(table(path=["/a"], x=[1]))


@pytest.mark.parametrize(
    ("cells", "values", "kind"),
    [
        (["1", "", "-20"], [1, None, -20], pa.int64()),
        (["1", "2.5", "1e3"], [1.0, 2.5, 1000.0], pa.float64()),
        (["007", "8"], ["007", "8"], pa.string()),
        (["9223372036854775808"], [2.0**63], pa.float64()),
        (
            ["2024-02-29", "2024-05-01 12:30", "2024-05-01T12:30:01.5"],
            [
                datetime(2024, 2, 29),
                datetime(2024, 5, 1, 12, 30),
                datetime(2024, 5, 1, 12, 30, 1, 500_000),
            ],
            pa.timestamp("us"),
        ),
        (["2024-02-30"], ["2024-02-30"], pa.string()),
        (["1", "two"], ["1", "two"], pa.string()),
        (["1e999", "2"], ["1e999", "2"], pa.string()),
        (["nan", "inf"], ["nan", "inf"], pa.string()),
        (["0x10"], ["0x10"], pa.string()),
        (["", ""], [None, None], pa.null()),
    ],
)
def test_cells_say_what_they_are(
    tmp_path: Path, cells: list[str], values: list[Any], kind: pa.DataType
) -> None:
    file = tmp_path / "table.csv"
    lines = "".join(f"{number}.jpg,{cell}\n" for number, cell in enumerate(cells))
    file.write_text("\ufeffpath,x\n" + lines, encoding="utf-8")
    read = read_table(file)
    assert read["path"].to_pylist() == [str(tmp_path / f"{n}.jpg") for n in range(len(cells))]
    assert read["x"].to_pylist() == values
    assert read.schema.field("x").type == kind


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column path"),
        ("place\nx\n", "no column path"),
        ("path,x,x\n", "names a column twice"),
        ("path,x\na\n", "row 2: 1 cells under 2 headings"),
        ("path,x\na,b,c\n", "row 2: 3 cells"),
        ('path,x\na,"b\n', "cannot read"),
        ("path,x\na,\udcff\n", "cannot read"),
    ],
)
def test_what_is_no_table(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "table.csv"
    file.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(UsageError, match=message):
        read_table(file)
    with pytest.raises(UsageError, match="cannot read"):
        read_table(tmp_path / "missing.csv")


@pytest.mark.parametrize(
    ("where", "paths"),
    [
        ("glob(path, '**/Rome/*.jpg')", {"/Rome/a.jpg", "/x/Rome/b.jpg", "/x/Rome/c'[1].jpg"}),
        ("glob(path, '/x/**')", {"/x/Rome/b.jpg", "/x/Rome/c'[1].jpg", "/x/Rome/d/e.jpg"}),
        ("glob(path, '/*/?.png')", {"/new\nline/f.png"}),
        ("GLOB( path , '**/[a-b].jpg' )", {"/Rome/a.jpg", "/x/Rome/b.jpg"}),
        ("glob(path, '**/[!a].jpg')", {"/x/Rome/b.jpg", "/x/Rome/d/e.jpg"}),
        ("glob(path, '**/c''[[]1].jpg')", {"/x/Rome/c'[1].jpg"}),
        ("NOT glob(path, '**.jpg')", {"/new\nline/f.png"}),
        ("path = 'glob(path, ''x'')' OR path = '/Rome/a.jpg'", {"/Rome/a.jpg"}),
        ("glob(kind, 'im*') AND glob(path, '/R**')", {"/Rome/a.jpg"}),
        ("glob(path, '*')", set()),
    ],
)
def test_globs(create: Create, samples: Any, where: str, paths: set[str]) -> None:
    names = ["/Rome/a.jpg", "/x/Rome/b.jpg", "/x/Rome/c'[1].jpg", "/x/Rome/d/e.jpg"]
    names.append("/new\nline/f.png")
    with create() as store:
        store.apply(Changes(added=[samples.item(name, name) for name in names]))
        assert set(found(store, where)) == paths
        with pytest.raises(FilterError, match="glob"):
            store.items(where="glob(path)")


@given(pattern=st.text("ab/*?.[]!^&~'", max_size=8), path=st.text("ab/.-^!", max_size=8))
@settings(max_examples=300, deadline=None)
def test_any_glob_is_a_regular_expression(pattern: str, path: str) -> None:
    """Of one component, it finds what the standard library's does."""
    import pyarrow.compute as pc

    expression = glob_expression(pattern)
    matches = pc.match_substring_regex(pa.array([path]), expression)[0].as_py()
    if "/" not in pattern + path and "**" not in pattern:
        assert matches == fnmatch.fnmatchcase(path, pattern)
