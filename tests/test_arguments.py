"""One path is one path; an empty one, an address and a wrong number are usage errors everywhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import maxsight
from maxsight.arguments import choices, many_paths, one_path, positive_number, whole_number
from maxsight.errors import MaxsightError, UsageError
from maxsight.pipelines.query.language import Query, Term

NO_PATHS: list[Any] = [
    "",
    b"",
    "a\0b",
    "a\ud800",
    "s3://bucket/a",
    "https://x.org/a.jpg",
    "file:///a",
    None,
    3,
]
NO_PATHS += ["https:/x.org/a.jpg", Path("s3://bucket/a"), True, 1.5]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arguments")
    for number, colour in enumerate(["red", "green", "blue", "white"]):
        (folder / "pictures").mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), colour).save(folder / "pictures" / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def shared(folder: Path) -> Iterator[maxsight.Library]:
    with maxsight.open(folder / "shared.maxsight") as library:
        library.add(str(folder / "pictures"))
        yield library


@pytest.fixture
def library(folder: Path, tmp_path: Path) -> Iterator[maxsight.Library]:
    with maxsight.open(tmp_path / "own.maxsight") as library:
        library.add(folder / "pictures")
        yield library


@pytest.mark.parametrize("given", NO_PATHS, ids=repr)
def test_what_is_no_path(given: Any) -> None:
    with pytest.raises(UsageError):
        one_path(given)
    with pytest.raises(UsageError):
        many_paths([Path("/a"), given])


def test_one_path_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert many_paths("/a/b") == ["/a/b"]
    assert many_paths(b"/a/\xe9") == [os.fsdecode(b"/a/\xe9")]
    assert many_paths(Path("/a")) == ["/a"]
    assert many_paths(name for name in ("a", "b")) == ["a", "b"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:").mkdir()
    assert one_path("s3:/there") == "s3:/there"
    for given in (None, 3, object()):
        with pytest.raises(UsageError):
            many_paths(given)


def test_numbers_and_choices() -> None:
    assert whole_number(np.int64(3), what="k") == 3
    assert positive_number(np.float32(0.5), what="fps") == 0.5
    assert choices("image", ("image", "video"), what="a kind") == {"image"}
    given: Any
    for given in (0, -1, True, 1.0, "3", None, float("nan")):
        with pytest.raises(UsageError, match="k must be"):
            whole_number(given, what="k")
    for given in (0, -1.0, True, float("nan"), float("inf"), "3", None, 1j):
        with pytest.raises(UsageError, match="fps must be"):
            positive_number(given, what="fps")
    for given in ("audio", ["image", "audio"], [None], [], 3, [b"image"]):
        with pytest.raises(UsageError):
            choices(given, ("image", "video"), what="a kind")


@pytest.mark.parametrize("form", [str, os.fsencode, Path, lambda path: [path], lambda p: iter([p])])
def test_a_path_alone_removes_one_file(
    library: maxsight.Library, folder: Path, form: Callable[[Path], Any]
) -> None:
    assert library.remove(form(folder / "pictures" / "1.png")) == 1
    assert len(library.items()) == 3


def test_a_relative_path_alone(
    library: maxsight.Library, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert library.remove("pictures/1.png") == 1


CALLS: dict[str, Callable[[maxsight.Library, Any], object]] = {
    "add": lambda library, given: library.add(given),
    "add several": lambda library, given: library.add([given]),
    "remove": lambda library, given: library.remove(given),
    "remove several": lambda library, given: library.remove([given]),
    "relocate": lambda library, given: library.relocate(given, "/elsewhere"),
    "relocate to": lambda library, given: library.relocate("/elsewhere", given),
    "annotate": lambda library, given: library.annotate(given),
    "evaluate": lambda library, given: library.evaluate(given),
    "image": lambda library, given: library.search(image=given, where="1 = 1"),
    "phrases": lambda library, given: library.search("a", phrases=given or ""),
    "within": lambda library, given: library.moments("a", within=given or ""),
    "open": lambda library, given: maxsight.open(given),
}


@pytest.mark.parametrize("given", ["", "s3://bucket/a", "a\0b", "a\ud800b"])
@pytest.mark.parametrize("name", CALLS)
def test_every_path_is_looked_at(shared: maxsight.Library, name: str, given: str) -> None:
    with pytest.raises(UsageError):
        CALLS[name](shared, given)
    assert len(shared.items()) == 4


@pytest.mark.parametrize(
    "call",
    [
        lambda library: library.remove("/not/there"),
        lambda library: library.remove([library.items()["path"][0].as_py(), "/not/there"]),
        lambda library: library.search("a", kinds="audio"),
        lambda library: library.search("a", kinds=["image", "picture"]),
        lambda library: library.search("a", minus=[None]),
        lambda library: library.search("a", minus=b"b"),
        lambda library: library.search(""),
        lambda library: library.search("  "),
        lambda library: library.search(b"a"),
        lambda library: library.search("a", k=0),
        lambda library: library.search("a", k=True),
        lambda library: library.search("a", k=2.5),
        lambda library: library.search("a", where=3),
        lambda library: library.search("a", rerank="maybe"),
        lambda library: library.search(vector=np.full(384, np.nan)),
        lambda library: library.search(vector=np.full(384, np.inf)),
        lambda library: library.search(vector=np.zeros(384)),
        lambda library: library.search(vector=np.ones(3)),
        lambda library: library.search(vector=np.ones((1, 384))),
        lambda library: library.search(vector=np.ones(384, np.complex64)),
        lambda library: library.search(vector="abc"),
        lambda library: library.search(vector=[None] * 384),
        lambda library: library.moments("a", k=0),
        lambda library: library.moments("a", k=1.0),
        lambda library: library.add("/tmp", fps=float("nan")),
        lambda library: library.add("/tmp", fps=0),
        lambda library: library.add("/tmp", fps="1"),
        lambda library: library.add("/tmp", batch_size=0),
        lambda library: library.add("/tmp", token_limit=1.5),
        lambda library: library.add(None),
        lambda library: library.add(3),
        lambda library: library.drop_columns(["a"]),
        lambda library: library.drop_columns(3),
        lambda library: library.tune_index(recall=float("nan")),
        lambda library: library.query(Query((Term(text="a", weight=float("nan")),))),
        lambda library: library.query(Query((Term(text="a", weight="1"),))),  # type: ignore[arg-type]
        lambda library: library.query(Query((Term(text=3),))),  # type: ignore[arg-type]
        lambda library: library.search("caf\udce9"),  # as a Latin-1 terminal gives it
        lambda library: library.moments("a", minus="caf\udce9"),
        lambda library: library.moments_of(None),
        lambda library: library.moments_of(["a"]),
        lambda library: library.annotate({"path": []}),
        lambda library: library.add("/nowhere", index=3),
        lambda library: library.add("/nowhere", index="IVF\udce9"),
    ],
)
def test_usage_errors(shared: maxsight.Library, call: Callable[[maxsight.Library], object]) -> None:
    with pytest.raises(UsageError):
        call(shared)
    assert len(shared.items()) == 4


def test_one_kind_and_one_minus(shared: maxsight.Library) -> None:
    assert len(shared.search("a card", kinds="image")) == 4
    assert shared.search("a card", kinds="video") == []
    alone, several = (shared.search("a card", minus=given) for given in ("red", ["red"]))
    assert alone == several


@pytest.mark.parametrize("half", ["\ud800", "a\udfffb"])
@pytest.mark.parametrize(
    "call",
    [
        lambda library, half: library.search(half),
        lambda library, half: library.search("a", minus=half),
        lambda library, half: library.search("a", where=half),
        lambda library, half: library.search("a", where=f"path = '{half}'"),
        lambda library, half: library.search("a", kinds=half),
        lambda library, half: library.search("a", rerank=half),
        lambda library, half: library.query(Query((Term(text=half),))),
        lambda library, half: library.query(Query((Term(image=half),))),
        lambda library, half: library.moments(half),
        lambda library, half: library.items(where=half),
        lambda library, half: library.add([half]),
        lambda library, half: library.add(library.path.parent / "pictures", exclude=half),
        lambda library, half: library.add("/nowhere", index=half),
        lambda library, half: library.tune_index(index=half),
        lambda library, half: library.drop_columns(half),
        lambda library, half: maxsight.open(library.path, encoder=half).encoder,
        lambda library, half: maxsight.open(library.path, device=half).encoder,
        lambda library, half: maxsight.load(half),
        lambda library, half: maxsight.load(f"open_clip:ViT-B-32/{half}"),
    ],
)
def test_half_a_character_is_refused_in_words(
    shared: maxsight.Library, call: Callable[[maxsight.Library, str], object], half: str
) -> None:
    with pytest.raises(MaxsightError) as caught:
        call(shared, half)
    str(caught.value).encode()


def test_bytes_that_are_no_text_work_as_a_path(tmp_path: Path) -> None:
    """What the system gives for a name that is not UTF-8 is taken by every call."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    picture = folder / os.fsdecode(b"\xff.png")
    Image.new("RGB", (16, 16), "red").save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(picture)
    (folder / "notes.csv").write_text("path,stars\n\\xff.png,3\n", encoding="utf-8")
    (folder / "queries.csv").write_text("text,path\nred,\\xff.png\n", encoding="utf-8")
    with maxsight.open(folder / "l.maxsight") as library:
        assert library.add(str(folder)).added == 1
        assert library.annotate(folder / "notes.csv").unknown == ()
        (hit,) = library.search("red", where="stars = 3")
        assert hit.path == str(picture)
        assert library.evaluate(folder / "queries.csv", depth=10).success[1] == 1
        assert library.search(image=picture, include_references=True)[0].path == hit.path
        as_bytes: Any = os.fsencode(picture)
        assert library.remove(as_bytes) == 1
