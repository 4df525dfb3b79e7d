"""``maxsight tune-index`` and what ``info`` says of the index."""

from __future__ import annotations

import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from shell import Shell


@pytest.fixture
def own(library: Path, tmp_path: Path) -> Path:
    """A copy of the demo's library that may be changed."""
    return Path(shutil.copytree(library, tmp_path / "own.maxsight"))


def test_an_index_is_made_measured_drawn_and_used(shell: Shell, own: Path, tmp_path: Path) -> None:
    exact = shell("search", own, "a cup of coffee", "-k", "3", "--json").json["hits"]
    plot = tmp_path / "recall.svg"
    answer = shell("tune-index", own, "--index", "SQ8", "--plot", plot)
    assert answer.code == 0, answer.err
    assert "recall, pictures" in answer.out
    assert "recall, texts" in answer.out
    assert "intrinsic dimensionality" in answer.out
    drawn = ElementTree.parse(plot).getroot()
    assert len(drawn.findall("{http://www.w3.org/2000/svg}circle")) >= 4
    said = shell("tune-index", own, "--json").json
    assert (said["index"], said["action"], said["target"]) == ("SQ8", "tuned", 0.95)
    assert said["point"]["recall"]["texts"] >= 0.95
    assert set(said["order"]["recall"]) == {"stored", "shuffled", "descending", "ascending"}
    info = shell("info", own, "--json").json["info"]
    assert info["index"] == "SQ8"
    assert info["recall"]["texts"] == said["point"]["recall"]["texts"]
    assert info["bytes_by_part"]["indexes"] > 0
    assert sum(info["bytes_by_part"].values()) == info["bytes_on_disk"]
    assert info["memory_estimate"] > 0
    assert shell("search", own, "a cup of coffee", "-k", "3", "--json").json["hits"] == exact
    assert "index    SQ8, recall@10" in shell("info", own).out


def test_nothing_to_tune(shell: Shell, own: Path) -> None:
    answer = shell("tune-index", own)
    assert answer.code == 0
    assert "index exact: up to " in answer.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(("--recall", "1.5"), "must lie between 0 and 1"), (("--index", "nonsense"), "nonsense")],
)
def test_mistakes(shell: Shell, own: Path, arguments: tuple[str, ...], told: str) -> None:
    answer = shell("tune-index", own, *arguments)
    assert answer.code == 2
    assert told in answer.err


def test_too_little_memory_says_how_much(shell: Shell, own: Path) -> None:
    answer = shell("search", own, "a cup of coffee", MAXSIGHT_MEMORY="1MB")
    assert answer.code == 3
    assert "MiB with their vectors on disk, and MAXSIGHT_MEMORY allows 1 MiB" in answer.err
