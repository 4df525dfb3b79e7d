"""JSON of strangers: whatever is wrong with it, one kind of error says so."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxsight import strict_json
from maxsight.errors import LibraryError, UsageError
from maxsight.index.tables.manifest import Manifest
from maxsight.pipelines.decoding import messages
from maxsight.pipelines.query.expansion import Expansion

DEEP = "[" * 200_000 + "]" * 200_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (DEEP, "too deep"),
        ('{"a":' * 200_000, "too deep"),
        ("[" * 65 + "]" * 65, "more than 64 deep"),
        ("[" * 64 + "{}" + "]" * 64, "more than 64 deep"),
        ('{"a": 1, "b": {"c": 1, "c": 1}}', "'c' twice"),
        ("[NaN]", "NaN"),
        ("-Infinity", "Infinity"),
        ('{"a": 1e999}', "1e999"),
        ("1" * 33, "too large"),
        ("9" * 5000, "too large"),
        ("", "Expecting value"),
        (b"\xff", "utf-8"),
        (b'"' + b"a" * strict_json.MOST_BYTES + b'"', "longer than"),
    ],
)
def test_what_is_refused(text: str | bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        strict_json.parse(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[" * 64 + "1" + "]" * 64, None),
        (b'\xef\xbb\xbf{"a": [1, 2.5, -3e2, null, true]}', {"a": [1, 2.5, -300.0, None, True]}),
        (r'"\udce9"', "\udce9"),
        ("-" + "9" * 32, -int("9" * 32)),
    ],
)
def test_what_is_read(text: str | bytes, value: object) -> None:
    read = strict_json.parse(text)
    assert value is None or read == value


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(_values)
def test_finite_values_come_back(value: object) -> None:
    text = json.dumps(value)
    if "Infinity" in text:
        with pytest.raises(ValueError, match="Infinity"):
            strict_json.parse(text)
    else:
        assert strict_json.parse(text) == value


@given(st.binary(max_size=64) | st.text('[]{}",:\\0123456789.eE+-nulltrue ', max_size=64))
def test_no_other_error_than_value_error(text: bytes | str) -> None:
    with contextlib.suppress(ValueError):
        strict_json.parse(text)


def test_a_file_must_hold_an_object_and_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    file.write_text("[1]")
    with pytest.raises(ValueError, match="object"):
        strict_json.read(file)
    file.write_text("{}" + " " * 100)
    assert strict_json.read(file) == {}
    with pytest.raises(OSError, match="larger than 10 bytes"):
        strict_json.read(file, most_bytes=10)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(OSError, match="a pipe, not a file"):
        strict_json.read(file)


def test_every_reader_of_json_is_one_error_away_from_a_deep_one(tmp_path: Path) -> None:
    (tmp_path / "library.json").write_text(DEEP)
    with pytest.raises(LibraryError, match="too deep"):
        Manifest.read(tmp_path)
    phrases = tmp_path / "phrases.json"
    phrases.write_text('{"*": ' + DEEP + "}")
    with pytest.raises(UsageError, match="too deep"):
        Expansion.read(phrases)

    header = DEEP.encode()
    stream = [len(header).to_bytes(4, "little") + bytes(4), header]

    def read_exactly(buffer: memoryview) -> bool:
        buffer[:] = stream.pop(0)
        return True

    with pytest.raises(ValueError, match="too deep"):
        messages.read(read_exactly)
