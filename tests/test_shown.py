r"""Names are shown without what acts on a terminal or cannot be seen."""

from __future__ import annotations

import json
import logging
import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxsight.errors import MediaError
from maxsight.shown import in_json, log_as_shown, shown

ACTING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain [red]name[/red].png", "plain [red]name[/red].png"),
        ("größe 日本 Ω.png", "größe 日本 Ω.png"),
        ("a\x1b[2J", r"a\x1b[2J"),
        ("a\n\r\t\b\x7f", r"a\x0a\x0d\x09\x08\x7f"),
        ("\x9b31m", r"\x9b31m"),
        ("gpj.\u202eexe", r"gpj.\u202eexe"),
        ("a\u200bb\ufeff\u2028\u2029\u2066", r"a\u200bb\ufeff\u2028\u2029\u2066"),
        ("a\u00ad\u3164\u2800", r"a\xad\u3164\u2800"),
        ("\U000e0041\U000e0fff", r"\U000e0041\U000e0fff"),
        (os.fsdecode(b"caf\xe9\x9b.png"), r"caf\xe9\x9b.png"),
        ("\ud800", r"\ud800"),
        ("a\u200db\u200c", r"a\u200db\u200c"),
        ("👩‍🚀 نمی‌خواهم", "👩‍🚀 نمی‌خواهم"),
        ("Bild\u202f1\u00a02", "Bild\u202f1\u00a02"),
    ],
)
def test_what_is_shown(text: str, expected: str) -> None:
    assert shown(text) == expected
    assert shown(expected) == expected
    assert str(MediaError(text)) == expected


@given(st.text(st.characters()))
def test_nothing_acting_is_left(text: str) -> None:
    left = {unicodedata.category(character) for character in shown(text).replace("\u200d", "")}
    assert not (left - {"Cf"} if "\u200c" in text else left) & ACTING


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_reads_back(text: str) -> None:
    escaped = in_json(json.dumps(text, ensure_ascii=False))
    assert json.loads(escaped) == text
    assert shown(escaped) == escaped


def test_json_of_bytes_that_are_no_text_is_what_is_shown() -> None:
    name = os.fsdecode(b"\\caf\xe9")
    assert json.loads(in_json(json.dumps(name, ensure_ascii=False))) == shown(name)


def test_logs_show_names_too(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = list(root.handlers)
    try:
        log_as_shown()
        logging.getLogger("maxsight.test").warning("%s: damaged", "a\x1b[2J\n")
    finally:
        root.handlers[:] = before
    assert "a\\x1b[2J\\x0a: damaged\n" in capsys.readouterr().err
