"""Short texts of other people's: encoder names, dates, patterns, filters, names of files."""

from __future__ import annotations

import fnmatch
import math
import unicodedata
from datetime import datetime
from pathlib import Path

import pytest
from fuzzed import edited
from hypothesis import example, given
from hypothesis import strategies as st

from maxsight import settings
from maxsight.arguments import one_path, one_place
from maxsight.cli.search import parse_terms
from maxsight.errors import MaxsightError
from maxsight.index.tables.where import parser
from maxsight.index.tables.where.tokens import NoCondition
from maxsight.models import options
from maxsight.models.builtin.phrases import phrases
from maxsight.pipelines.ingestion.choices import step_of
from maxsight.pipelines.ingestion.ignore_rules import IgnoreRules
from maxsight.pipelines.media.notes import time_of
from maxsight.pipelines.media.tiff_tags import first_directory
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
@example("??")
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


@given(
    st.lists(
        st.sampled_from(["a dog", " and ", ",", ";", " on ", "1,000", "\t", "the ", "\x00"])
    ).map("".join)
    | st.text(max_size=20)
)
@example(" " * 4_000)
@example("," * 4_000)
@example("a" + " \n" * 4_000 + "and")
def test_things_in_a_text(text: str) -> None:
    things = phrases(text)
    assert len(things) <= 16
    assert bool(things) == bool(text.strip())


@given(
    text=st.none() | st.text(max_size=8),
    image=st.lists(
        PIECES | st.sampled_from(["~nosuchuser/x.jpg", "~", "\x00", "a^2", "a^"]), max_size=2
    ),
    plus=st.lists(
        st.text(max_size=6) | st.sampled_from(["a^" + "9" * 400, "^1", "a^.5"]), max_size=2
    ),
)
@example(text=None, image=["a" * 5_000], plus=[])
@example(text=None, image=["~nosuchuser/x.jpg"], plus=[])
def test_terms(text: str | None, image: list[str], plus: list[str]) -> None:
    try:
        terms = parse_terms(text=text, image=image, plus=plus)
    except MaxsightError as error:
        assert len(str(error)) < 10_000
        return
    assert all(math.isfinite(term.weight) for term in terms)


@given(st.text(max_size=12) | st.from_regex(r"\s?[0-9.]{1,5}([KMGT]i?)?B?"))
@example(".1")
@example("9" * 400 + "GB")
def test_settings(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        try:
            for name in ("MAXSIGHT_MEMORY", "MAXSIGHT_MAX_PIXELS", "MAXSIGHT_KERNELS"):
                patch.setenv(name, text)
        except ValueError:  # a zero byte or half a character, which no environment can hold
            return
        for read in (settings.memory, settings.max_pixels, settings.kernels_room):
            try:
                found = read()
            except MaxsightError:
                continue
            assert found is None or isinstance(found, str) or found > 0


@given(PIECES | st.binary(max_size=8) | st.none() | st.integers())
@example("~nosuchuser/x")
def test_paths(given: object) -> None:
    try:
        found = one_path(given)
        place = one_place(given)
    except MaxsightError:
        return
    assert found
    assert "\x00" not in found
    assert found.startswith("~") or place == Path(found)


@given(st.none() | PIECES | st.from_regex(r"(a=1 )?fps=[0-9.e+-]{0,6}( b)?"))
def test_steps_of_films(stored: str | None) -> None:
    step = step_of(stored)
    assert step is None or 0 <= step < math.inf
