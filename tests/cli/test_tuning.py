"""``maxsight tune-index`` and what ``info`` says of the index."""

from __future__ import annotations

import re
import shutil
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from shell import Shell

from maxsight.index.records import Changes, EncodedItem, FileState
from maxsight.index.store import Store
from maxsight.pipelines.query.text_cache import TextCache


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


def test_indexing_says_what_index_it_made(shell: Shell, own: Path) -> None:
    source = shell("list", own, "--json").json["items"][0]["path"]
    answer = shell("index", own, source, "--index", "SQ8", "--device", "cpu")
    assert re.search(r"index SQ8 built on cpu: \d+ vectors, recall [01]\.\d{3}", answer.out)
    assert shell("index", own, source, "--json").json["index"]["action"] == "kept"


@pytest.fixture
def practised(own: Path, tmp_path: Path) -> Shell:
    """Of somebody who has asked so much that no other texts are needed to learn from."""
    shell = Shell(tmp_path)
    with Store.open(own) as store:
        vectors = unit_vectors(2000, store.manifest.dim, seed=1)
        texts = {f"text {number}": vector for number, vector in enumerate(vectors)}
        with closing(TextCache(tmp_path / "cache" / "texts.sqlite")) as cache:
            cache.put(store.manifest.fingerprint, texts)
    return shell


def unit_vectors(count: int, dim: int, *, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def test_a_recall_that_is_not_reached(practised: Shell, own: Path) -> None:
    """Sixteen codes for thousands of vectors: a shortlist of 500 does not hold what is nearest."""
    shell = practised
    with Store.open(own, write=True) as store:
        vectors = unit_vectors(3000, store.manifest.dim, seed=0)
        starts = np.arange(len(vectors), dtype=np.float64)
        film = EncodedItem(
            state=FileState("/film.mp4", 1, 1),
            kind="video",
            content_hash="film",
            width=1,
            height=1,
            vectors=vectors,
            spans=np.stack([starts, starts + 1], axis=1),
            duration_s=float(len(vectors)),
        )
        store.apply(Changes(added=[film]))
    answer = shell("tune-index", own, "--index", "PQ1x4", "--quiet")
    assert answer.code == 1, answer.err
    told = r"recall (0\.\d+) of 0\.95 asked for, .*: not reached, try another --index"
    (reached,) = re.findall(told, answer.out)
    assert 0 < float(reached) < 0.9
    # Who asks for no more than there is, is content with it.
    answer = shell("tune-index", own, "--index", "SQ8", "--quiet")
    assert answer.code == 0, answer.err
    answer = shell("tune-index", own, "--recall", "0.5", "--json")
    assert (answer.code, answer.json["action"], answer.json["index"]) == (0, "tuned", "SQ8")


def test_a_damaged_index_costs_a_warning(practised: Shell, own: Path) -> None:
    shell = practised
    asked = ("search", own, "a cup of coffee", "-k", "3", "--json")
    exact = shell(*asked).json["hits"]
    assert shell("index", own, own.parent, "--index", "SQ8").code == 0
    (own / "indexes" / "vectors-1" / "faiss.index").write_bytes(b"damaged")
    answer = shell(*asked)
    assert (answer.code, answer.json["hits"]) == (0, exact)
    (warning,) = answer.err.splitlines()
    assert "faiss.index has 7 bytes" in warning
    assert f"`maxsight verify {own} --repair`" in warning
    repaired = shell("verify", own, "--repair")
    assert repaired.code == 0, repaired.err
    answer = shell(*asked)
    assert (answer.json["hits"], answer.err) == (exact, "")
    assert shell("index", own, own.parent).code == 0
    assert shell("info", own, "--json").json["info"]["index"] == "SQ8"


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
