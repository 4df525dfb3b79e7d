"""JSON that we read: whatever it holds, it is a value or one of our errors."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzzed import VALUES, as_json, edited, wrong_fields
from hypothesis import given
from hypothesis import strategies as st

from maxsight import strict_json
from maxsight.errors import MaxsightError
from maxsight.index.ann import saved
from maxsight.index.derived import generations
from maxsight.index.files import sealed_json
from maxsight.index.late.manifest import FILE as LATE
from maxsight.index.late.manifest import LateManifest
from maxsight.index.tables.manifest import FILE_NAME, Manifest
from maxsight.models.open_clip import config
from maxsight.pipelines.query.expansion import Expansion

MANIFEST = {
    "schema": 1,
    "library_id": "a" * 32,
    "encoder_uri": "builtin",
    "fingerprint": "f",
    "dim": 512,
    "token_dim": None,
    "created": "2026-01-01T00:00:00+00:00",
    "token_limit": None,
    "mix": {"alike": 2.0, "unlike": 0.25},
}
RECORD = {
    "schema": 1,
    "codes": "5bit",
    "dim": 64,
    "documents": 2,
    "encodings": None,
    "calibration": {
        "target": 0.9,
        "proposed": 0,
        "shortlist": 2,
        "recall": 1.0,
        "ceiling": 1.0,
        "queries": 2,
        "given": False,
    },
    "extents": {"tokens.bin": {"bytes": 3, "crc32": 7}},
    "details": {},
}
CONFIG = {
    "model_cfg": {
        "embed_dim": 512,
        "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 16},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 512,
            "heads": 8,
            "layers": 12,
        },
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}
INDEX = {"schema": 1, "spec": "SQ8", "dim": 8, "effort": [0, 10], "files": {}, "details": {}}
PHRASES = {"heron": ["a bird", "a tall bird"], "*": ["a photo of {}"]}


@given(st.binary(max_size=64) | edited(as_json({"a": [1, 2.5, {"b": None}], "c": "\u00e9"})))
def test_bytes(content: bytes) -> None:
    try:
        value = strict_json.parse(content)
    except ValueError:
        return
    # What was accepted is what JSON says, and can be written again.
    json.dumps(value, allow_nan=False)


@given(VALUES)
def test_values_are_read_as_they_are_written(value: Any) -> None:
    try:
        assert strict_json.parse(as_json(value)) == value
    except ValueError:
        flat = repr(value)
        assert "nan" in flat or "inf" in flat or any(c.isdigit() for c in flat)


@pytest.mark.parametrize("piece", ["[", '{"a":', "[[", '[{"":'])
@pytest.mark.parametrize("count", [65, 5_000, 200_000])
def test_depth(piece: str, count: int) -> None:
    with pytest.raises(ValueError, match=r"deep|Expecting|bytes|JSON|char"):
        strict_json.parse(piece * count)


@pytest.mark.parametrize("digits", ["1e999", "-1e999", "1" * 5_000, "NaN", "Infinity"])
def test_numbers_that_are_none(digits: str) -> None:
    with pytest.raises(ValueError, match="number"):
        strict_json.parse(digits)


def _manifest(folder: Path) -> None:
    found = Manifest.read(folder)
    assert found.dim > 0
    assert found.mix is None or all(map(math.isfinite, dataclasses.astuple(found.mix)))


READERS: dict[str, tuple[str, dict[str, Any], Callable[[Path], object]]] = {
    "manifest": (FILE_NAME, MANIFEST, _manifest),
    "token index": (LATE, RECORD, LateManifest.read),
    "wanted": ("indexes/wanted.json", {"index": "SQ8"}, generations.wanted),
    "vector index": ("index.json", INDEX, saved.load),
    "phrases": (
        "phrases.json",
        PHRASES,
        lambda folder: Expansion.read(folder / "phrases.json").of("x"),
    ),
    "encoder": (
        "open_clip_config.json",
        CONFIG,
        lambda folder: config.read(folder / "open_clip_config.json", encoder="e"),
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("json")
    (made / "indexes").mkdir()
    return made


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
def test_files(folder: Path, name: str, data: st.DataObject) -> None:
    file, fields, read = READERS[name]
    given_fields: Any = data.draw(wrong_fields(fields) | VALUES)
    # Of a stranger who knows how to seal what he wrote.
    if isinstance(given_fields, dict) and data.draw(st.booleans()):
        given_fields = sealed_json.seal(given_fields)
    content = data.draw(st.just(as_json(given_fields)) | edited(as_json(given_fields)))
    (folder / file).write_bytes(content)
    try:
        read(folder)
    except MaxsightError as error:
        assert len(str(error)) < 4_000
