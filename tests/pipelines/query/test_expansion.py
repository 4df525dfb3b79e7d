"""Phrases that stand for a text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maxsight.errors import UsageError
from maxsight.pipelines.query.expansion import Expansion
from maxsight.pipelines.query.language import Term


def written(folder: Path, content: object) -> Path:
    path = folder / "phrases.json"
    path.write_text(json.dumps(content))
    return path


def test_phrases_templates_or_the_text_itself(tmp_path: Path) -> None:
    expansion = Expansion.read(
        written(
            tmp_path,
            {"Grey  Heron": ["a tall bird", "a bird in water"], "*": ["a photo of {}", "{}"]},
        )
    )
    assert expansion.of("grey heron ") == ("a tall bird", "a bird in water")
    assert expansion.of("a {} bus") == ("a photo of a {} bus", "a {} bus")
    assert Expansion.read(written(tmp_path, {})).of("bus") == ("bus",)


@pytest.mark.parametrize(
    "content", [[], {"a": "b"}, {"a": []}, {"a": ["b", 3]}, {"a": [" "]}, {"*": ["no place"]}]
)
def test_files_that_hold_something_else(tmp_path: Path, content: object) -> None:
    with pytest.raises(UsageError, match=r"phrases\.json"):
        Expansion.read(written(tmp_path, content))


def test_terms_get_phrases_and_keep_all_else(tmp_path: Path) -> None:
    expansion = Expansion.read(written(tmp_path, {"bus": ["a red bus", "a coach"]}))
    bus, image = expansion.apply([Term(text="Bus", weight=-0.5), Term(image=Path("a.jpg"))])
    assert (bus.text, bus.weight) == ("Bus", -0.5)
    assert bus.phrases == ("a red bus", "a coach")
    assert (image.image, image.phrases) == (Path("a.jpg"), ())


def test_no_file_and_no_json(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        Expansion.read(tmp_path / "none.json")
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(UsageError, match="cannot read"):
        Expansion.read(broken)
