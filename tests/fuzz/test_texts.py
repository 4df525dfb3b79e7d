"""Short texts of other people's: encoder names, dates, patterns, filters, names of files."""

from __future__ import annotations

import fnmatch
import unicodedata
from datetime import datetime

from fuzzed import edited
from hypothesis import example, given
from hypothesis import strategies as st

from maxsight.errors import MaxsightError
from maxsight.index.where import parser
from maxsight.index.where.tokens import NoCondition
from maxsight.models import options
from maxsight.pipelines.ignore_rules import IgnoreRules
from maxsight.pipelines.notes import time_of
from maxsight.pipelines.tiff_tags import first_directory
from maxsight.shown import shown

PIECES = st.lists(
    st.sampled_from(
        ["open_clip:", "hf-hub:", "ViT-B-32", "/", "..", "?", "&", "=", "merge", "tokens", "value"]
        + ["tempscale", "prune", "1e999", "-1", "13", "\x1b", "\u202e", "%00", "#", ":", "nan"]
    )
    | st.text(max_size=4),
    max_size=8,
).map("".join)


@given(PIECES)
def test_encoder_names(uri: str) -> None:
    try:
        found = options.parse(uri)
    except MaxsightError:
        return
    # What it is written as is read as the same.
    assert options.parse(str(found)) == found


@given(
    st.text(max_size=30)
    | st.from_regex(r"\d{0,5}[-:/.]\d{0,3}[-:/.]\d{0,3}[T ]?\d{0,3}:?\d{0,3}:?\d{0,3}( [AP]M)?")
    | st.from_regex(r"(Mon|Tue)?,? ?\d{0,3} (Jan|Feb|Xyz) \d{0,5} \d{0,2}:\d{0,2}")
    | st.binary(max_size=24)
    | st.integers()
)
def test_dates(text: object) -> None:
    found = time_of(text)
    assert found is None or (isinstance(found, datetime) and found.tzinfo is None)
    assert found is None or 1826 <= found.year <= datetime.now().year + 1


@given(
    st.text(alphabet="ab*?[]!-/\\#^. \u00e9", max_size=12),
    st.text(alphabet="ab/.\u00e9-", max_size=12),
)
@example("*" * 4_000 + "b", "a" * 255)
@example("**/" * 2_000 + "b", "a/" * 100)
@example("[" + "a-" * 2_000, "a")
def test_patterns(pattern: str, name: str) -> None:
    try:
        verdict = IgnoreRules("/r", [pattern], source="test").verdict(f"/r/{name}", is_folder=False)
    except MaxsightError:
        return
    plain = set(pattern) <= set("ab*?.\u00e9-") and "**" not in pattern and pattern
    if plain and "/" not in name:
        assert verdict == (True if fnmatch.fnmatchcase(name, pattern) else None)


TERMS = st.recursive(
    st.sampled_from(
        ["width", "kind", "path", "1", "'a'", "1e999", "NULL", "TRUE", "''''", '"width"', "-5"]
        + ["nothing", "/* x", "--", "'", "\x00", "9" * 40, "captured_at", "DATE '2024-05-01'"]
    ),
    lambda inner: st.builds(
        "{}{}{}".format,
        inner,
        st.sampled_from(
            [" = ", " > ", " AND ", " OR ", " + ", " IN (", ") ", " IS NOT ", " LIKE ", " BETWEEN "]
            + [" NOT ", "(", ", ", " % ", " || ", ";", " :: ", "[", " CASE WHEN "]
        ),
        inner,
    ),
    max_leaves=12,
)
COLUMNS: dict[str, parser.ColumnKind] = {"width": "integer", "kind": "text", "path": "text"}


@given(
    TERMS
    | st.text(max_size=40)
    | edited(b"width > 1000 AND kind = 'image'").map(lambda b: b.decode("latin-1"))
)
@example("(" * 100_000)
@example("NOT " * 100_000 + "TRUE")
@example(" OR ".join(["width = 1"] * 20_000))
@example("1" + "+1" * 50_000 + " > 0")
@example("kind IN (" + "'a'," * 100_000 + "'b')")
@example("'" + "a" * 5_000_000 + "' = kind")
def test_filters(where: str) -> None:
    try:
        made = parser.condition(where, COLUMNS)
    except NoCondition as error:
        assert len(str(error)) < 2_000
        return
    assert len(made.sql) <= 64 * len(where) + 1_000


@given(st.text(max_size=30))
def test_names_are_shown_without_what_acts(name: str) -> None:
    text = shown(name)
    assert not {unicodedata.category(c) for c in text} & {"Cc", "Zl", "Zp", "Cs"}
    assert shown(text) == text
    text.encode()


@given(
    st.binary(max_size=80)
    | edited(
        b"II*\x00\x08\x00\x00\x00\x02\x00" + b"\x00\x01\x03\x00\x01\x00\x00\x00\x05\x00\x00\x00" * 2
    )
)
@example(b"II+\x00\x08\x00\x00\x00" + b"\xff" * 40)
def test_directories_of_tiff(content: bytes) -> None:
    tags = first_directory(content)
    for tag in (0, 256, 257, 339) if tags is not None else ():
        assert tags is not None
        assert len(tags.values(tag, most=8)) <= 8
        tags.value(tag, 1)
        assert len(tags.content(tag)) <= len(content)
