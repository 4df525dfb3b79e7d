"""Patterns of what to leave out, against the library that Python's own tools match them with."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxsight.errors import UsageError
from maxsight.pipelines.ingestion.ignore_rules import (
    FILE_NAME,
    IgnoreRules,
    given_rules,
    read_rules,
)
from maxsight.pipelines.media.files import NotNow

NAMES = st.sampled_from(["a", "b", "ab", "a.png", "b.jpg", "*", "a b"])
PARTS = st.sampled_from(
    ["a", "b", "ab", "*", "a*", "*.png", "?", "[ab]", "[!a]", "[^a]", "**", r"\*"]
)
PATTERNS = st.builds(
    lambda rooted, parts, folder: ("/" if rooted else "") + "/".join(parts) + folder,
    st.booleans(),
    st.lists(PARTS, min_size=1, max_size=3),
    st.sampled_from(["", "/"]),
)


def left_out(rules: IgnoreRules, path: str) -> bool:
    """As a walk asks: folder by folder, from above."""
    names = path.split("/")
    return any(
        rules.verdict("/base/" + "/".join(names[: depth + 1]), is_folder=depth + 1 < len(names))
        for depth in range(len(names))
    )


@given(lines=st.lists(PATTERNS, max_size=4), names=st.lists(NAMES, min_size=1, max_size=4))
@settings(deadline=None, max_examples=300)
def test_as_others_read_them(lines: list[str], names: list[str]) -> None:
    pathspec = pytest.importorskip("pathspec")
    path = "/".join(names)
    wanted = pathspec.GitIgnoreSpec.from_lines(lines).match_file(path)
    assert left_out(IgnoreRules("/base", lines, source="test"), path) == wanted


@pytest.mark.parametrize(
    ("pattern", "path", "is_left_out"),
    [
        ("*.png", "deep/down/x.png", True),
        ("*.png", "x.png.jpg", False),
        ("drafts/", "2019/drafts/x.jpg", True),
        ("drafts/", "2019/drafts", False),  # a file of that name
        ("/top.jpg", "sub/top.jpg", False),
        ("sub/*.jpg", "sub/x.jpg", True),
        ("sub/*.jpg", "sub/deep/x.jpg", False),
        ("sub/**/x.jpg", "sub/x.jpg", True),
        ("sub/**/x.jpg", "sub/a/b/x.jpg", True),
        ("**/raw", "a/raw/x.jpg", True),
        ("sub/**", "sub/x.jpg", True),
        ("IMG_00[0-4]?.jpg", "IMG_0031.jpg", True),
        (r"\!x.jpg", "!x.jpg", True),
        (r"\#x.jpg", "#x.jpg", True),
        ("x.jpg  ", "x.jpg", True),
        (r"x\ ", "x ", True),
        ("caf\udce9.jpg", "caf\udce9.jpg", True),
        ("[", "[", True),
    ],
)
def test_patterns(pattern: str, path: str, is_left_out: bool) -> None:
    assert left_out(IgnoreRules("/base", [pattern], source="test"), path) == is_left_out


def test_the_last_line_that_fits_counts() -> None:
    rules = IgnoreRules("/base", ["# all", "", "*.png", "!keep.png"], source="test")
    assert rules.verdict("/base/x.png", is_folder=False) is True
    assert rules.verdict("/base/keep.png", is_folder=False) is False
    assert rules.verdict("/base/x.jpg", is_folder=False) is None
    rules = IgnoreRules("/base", ["*", "!a"], source="test")
    assert [left_out(rules, path) for path in ("b", "a", "a/b", "a/a")] == [
        True,
        False,
        True,
        False,
    ]


def test_no_pattern_takes_for_ever() -> None:
    began = time.perf_counter()
    rules = IgnoreRules("/", ["*a" * 100 + "b", "/".join(["**", "a*"] * 40) + "/b"], source="test")
    assert rules.verdict("/" + "/".join(["a" * 250] * 12), is_folder=False) is None
    assert time.perf_counter() - began < 1


def test_what_is_no_rule(tmp_path: Path) -> None:
    for pattern in ("", "#comment", "/", "!", "././", "a\ud800"):
        with pytest.raises(UsageError, match="is no pattern"):
            given_rules("/base", [pattern])
    (tmp_path / FILE_NAME).write_bytes(b"\0" * 9)
    with pytest.raises(NotNow, match="not a text"):
        read_rules(tmp_path.as_posix())
