"""File names that speak to the terminal, in every verb that prints them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from shell import Answer, Shell

import maxsight

NAMES = [
    b"a\x1b]0;OWNED\x1b\\\x1b[31m.png",
    b"b[bold red]c[link=x.org]d.png",
    "e\u202egnp.png".encode(),
    "f\x9b2J\u2028\u200b.png".encode(),
    b"caf\xe9.png",
    b"g\n0 forged line\r.png",
]
SHOWN = [
    r"a\x1b]0;OWNED\x1b\\x1b[31m.png",
    "b[bold red]c[link=x.org]d.png",
    r"e\u202egnp.png",
    r"f\x9b2J\u2028\u200b.png",
    r"caf\xe9.png",
    r"g\x0a0 forged line\x0d.png",
]
ACTS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\ud800-\udfff]")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shell, Answer]:
    """A library of pictures with such names, and what making it printed."""
    folder = tmp_path_factory.mktemp("names")
    pictures = os.fsencode(folder) + b"/pictures/"
    os.mkdir(pictures)
    for number, name in enumerate(NAMES):
        with open(pictures + name, "wb") as file:
            Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(file, "PNG")
        with open(pictures + b"no picture " + name, "w") as text:
            text.write("nothing")
    shell = Shell(folder)
    return shell, shell("index", "lib.maxsight", "pictures")


def check(answer: Answer, names: list[str]) -> None:
    for said in (answer.out, answer.err):
        assert not ACTS.search(said)
        assert not any(line.startswith("0 forged") for line in said.splitlines())
    for name in names:
        assert name in answer.out + answer.err


def test_index_lists_failures(hostile: tuple[Shell, Answer]) -> None:
    check(hostile[1], [f"no picture {name}" for name in SHOWN])


@pytest.mark.parametrize(
    "arguments", [("list",), ("search", "a card"), ("info",)], ids=lambda given: str(given[0])
)
def test_reading(hostile: tuple[Shell, Answer], arguments: tuple[str, ...]) -> None:
    verb, *rest = arguments
    check(hostile[0](verb, "lib.maxsight", *rest), SHOWN)


@pytest.mark.parametrize("verb", ["list", "search"])
def test_json(hostile: tuple[Shell, Answer], verb: str) -> None:
    shell, _ = hostile
    answer = shell(verb, "lib.maxsight", *(["a card"] if verb == "search" else []), "--json")
    assert not ACTS.search(answer.out)
    found = answer.json["items" if verb == "list" else "hits"]
    names = [name.decode("utf-8", "backslashreplace") for name in NAMES]
    assert sorted(Path(each["path"]).name for each in found) == sorted(names)


def test_annotate_and_verify(hostile: tuple[Shell, Answer]) -> None:
    shell, _ = hostile
    (shell.folder / "notes.csv").write_text(
        'path,place\n"nowhere\x1b[2J\u202e.png",x\n', encoding="utf-8"
    )
    check(shell("annotate", "lib.maxsight", "notes.csv"), [r"nowhere\x1b[2J\u202e.png"])
    check(shell("verify", "lib.maxsight"), [])


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "lib.maxsight", "a", "--image", "nowhere\x1b[2J"),
        ("search", "lib.maxsight", "a", "--where", "nowhere\x1b[2J"),
        ("search", "lib.maxsight", "a", "--nowhere\x1b[2J"),
        ("index", "lib.maxsight", "nowhere\x1b[2J"),
        ("index", "new.maxsight", ".", "--encoder", "nowhere\x1b[2J"),
    ],
    ids=lambda given: " ".join(given).encode("unicode_escape").decode(),
)
def test_errors(hostile: tuple[Shell, Answer], arguments: tuple[str, ...]) -> None:
    answer = hostile[0](*arguments)
    assert answer.code in (2, 3)
    check(answer, [r"nowhere\x1b[2J"])


def test_numbers_that_json_lacks_are_null(tmp_path: Path, hostile: tuple[Shell, Answer]) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(picture)
    with maxsight.open(tmp_path / "own.maxsight") as library:
        library.add(picture)
        table = {"path": [str(picture)], "far": [float("inf")], "none": [float("nan")]}
        library.annotate(pa.table(table))
    (item,) = hostile[0]("list", tmp_path / "own.maxsight", "--json").json["items"]
    assert item["far"] is None
    assert item["none"] is None


def test_wrong_options_are_json_too(hostile: tuple[Shell, Answer]) -> None:
    answer = hostile[0]("list", "--nonsense", "--json")
    assert answer.code == 2
    assert "--nonsense" in json.loads(answer.out)["error"]["message"]


def test_a_pipe_that_takes_ascii_only(hostile: tuple[Shell, Answer]) -> None:
    shell, _ = hostile
    (shell.folder / "umlaut").mkdir(exist_ok=True)
    Image.new("RGB", (8, 8)).save(shell.folder / "umlaut" / "röt.png")
    assert shell("index", "umlaut.maxsight", "umlaut", PYTHONIOENCODING="ascii").code == 0
    told = shell("list", "umlaut.maxsight", PYTHONIOENCODING="ascii")
    assert told.code == 0, told.err
    assert r"r\xf6t.png" in told.out
    told = shell("list", "umlaut.maxsight", "--json", PYTHONIOENCODING="ascii")
    assert Path(told.json["items"][0]["path"]).name == "röt.png"
