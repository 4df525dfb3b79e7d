"""Filters, through our grammar and Lance. Run by test_apart.py in its own process."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxsight.errors import FilterError
from maxsight.index.tables import schema
from maxsight.index.tables.filters import matching_items
from maxsight.index.tables.where import vocabulary

ROWS = pa.table(
    {
        "path": ["/a/Rome/x.jpg", "/b/y.mp4", "/c/'z'.png", "/d/\u00e9.png"],
        "status": [schema.LIVE] * 4,
        "kind": ["image", "video", "image", None],
        "width": pa.array([1000, 2000, None, 7], pa.int32()),
        "bytes": pa.array([5, None, 7, 2**62], pa.int64()),
        "duration_s": [None, 3.5, None, 0.0],
        "captured_at": pa.array([datetime(2024, 5, 1, 12), None] * 2, pa.timestamp("us")),
        "ok": [True, False, None, True],
        "Place": ["Rome", None, "", "Oslo\n"],
    }
)
TEXTS = st.sampled_from(
    ["''", "'a'", "'%o_e'", "'**/*.jpg'", "'(a|b)+'", "'[a-'", "'\u00e9'", "'day'"]
)
TEXTS |= st.text(max_size=6).map(lambda text: "'" + text.replace("'", "''") + "'")
NUMBERS = st.sampled_from(
    ["0", "-1", "1.5", "1e300", "9223372036854775807", "9" * 30, "2147483648"]
)
NUMBERS |= st.integers(-(2**70), 2**70).map(str)
TIMES = st.sampled_from(["DATE '2024-05-01'", "TIMESTAMP '2024-05-01 12:00:00'", "now()", "'2024'"])
TIMES |= st.sampled_from(["DATE '0000-00-00'", "TIMESTAMP '999999-01-01'", "CURRENT_DATE"])
COLUMNS = st.sampled_from(["path", "kind", "width", "bytes", "duration_s", "captured_at", "ok"])
COLUMNS |= st.sampled_from(["status", "Place", '"Place"', "place", "nothing", "path_bytes"])
LEAVES = COLUMNS | TEXTS | NUMBERS | TIMES | st.sampled_from(["NULL", "TRUE", "FALSE"])
SIGNS = ["=", "<>", "<", ">=", "AND", "OR", "+", "-", "*", "/", "%", "||", "LIKE", "ILIKE"]
SIGNS += ["IS DISTINCT FROM", "NOT LIKE"]
FUNCTIONS = sorted(vocabulary.FUNCTIONS)


def deeper(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    several = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(SIGNS), inner),
        st.builds(
            lambda name, given: f"{name}({', '.join(given)})", st.sampled_from(FUNCTIONS), several
        ),
        st.builds(lambda part, given: f"{part} IN ({', '.join(given)})", inner, several),
        st.builds("{} BETWEEN {} AND {}".format, inner, inner, inner),
        st.builds("(NOT {})".format, inner),
        st.builds("({} IS NOT {})".format, inner, st.sampled_from(["NULL", "TRUE", "UNKNOWN"])),
        st.builds("CASE WHEN {} THEN {} ELSE {} END".format, inner, inner, inner),
        st.builds("glob({}, {})".format, inner, TEXTS),
        st.builds("regexp_like({}, {}, {})".format, inner, TEXTS, st.sampled_from(["'i'", "'Ux'"])),
        st.builds(
            "extract({} FROM {})".format, st.sampled_from(sorted(vocabulary.PARTS_OF_TIME)), inner
        ),
        st.builds(
            "{}({} AS {})".format,
            st.sampled_from(["cast", "try_cast"]),
            inner,
            st.sampled_from(sorted(vocabulary.TYPES)),
        ),
    )


CONDITIONS = st.recursive(LEAVES, deeper, max_leaves=8)


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return lance.write_dataset(ROWS, str(tmp_path_factory.mktemp("items") / "items.lance"))


@given(where=CONDITIONS)
def test_filters_are_answered_or_refused(items: Any, where: str) -> None:
    """And a condition, its opposite and its absence share the rows among them."""
    found = []
    for text in (where, f"NOT ({where})", f"({where}) IS NULL"):
        try:
            paths = matching_items(items, text, ["path"], Path("library"))["path"].to_pylist()
        except FilterError as error:
            assert len(str(error)) < 2_000
            return
        assert len(paths) == len(set(paths))
        found += paths
    if not {"now", "today"} & set(where.lower().split("(")):
        assert sorted(found) == sorted(ROWS["path"].to_pylist())
