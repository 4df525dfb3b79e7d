"""The command line as users and programs meet it: real processes, real pictures."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from shell import Answer, Shell

PICTURES = Path("maxsight-demo/pictures")


def names(answer: Answer) -> list[str]:
    return [Path(hit["path"]).name for hit in answer.json["hits"]]


def test_the_demo_finds_what_it_shows(demo: tuple[Shell, Answer]) -> None:
    shell, answer = demo
    assert answer.code == 0, answer.err
    for title in ("Pictures by words", "A picture plus a change in words", "Moments in a film"):
        assert title in answer.out
    assert "coffee.jpg" in answer.out
    assert "green-apple.webp" in answer.out
    assert re.search(r"\d:\d\d – \d:\d\d\s+film\.mp4", answer.out)
    assert (shell.folder / "maxsight-demo" / "sheet.html").stat().st_size > 10_000


def test_a_second_demo_indexes_nothing(shell: Shell) -> None:
    report = shell("demo", "--json").json["report"]
    assert (report["added"], report["updated"], report["failed"]) == (0, 0, 0)


def test_search_by_text(shell: Shell, library: Path) -> None:
    answer = shell("search", library, "a cup of coffee", "-k", "3", "--json")
    assert answer.code == 0, answer.err
    assert names(answer)[0] == "coffee.jpg"
    first = answer.json["hits"][0]
    assert set(first) == {"rank", "path", "kind", "score", "start", "end", "item_id"}
    assert set(answer.json) == {"query", "hits", "timing_ms"}
    assert "coffee.jpg" in shell("search", library, "a cup of coffee", "-k", "3").out


def test_a_picture_plus_a_change(shell: Shell, library: Path) -> None:
    apple = PICTURES / "red-apple.webp"
    answer = shell("search", library, "green", "--image", apple, "-k", "3", "--json")
    assert "green-apple.webp" in names(answer)
    assert "red-apple.webp" not in names(answer)
    kept = shell("search", library, "--image", apple, "--include-reference", "-k", "1", "--json")
    assert names(kept) == ["red-apple.webp"]


def test_weights_and_minus(shell: Shell, library: Path) -> None:
    plain = shell("search", library, "a musical instrument", "-k", "8", "--json")
    without = shell("search", library, "a musical instrument", "--minus", "a guitar", "--json")
    assert "guitar.webp" in names(plain)
    assert "guitar.webp" not in names(without)[:3]
    terms = shell("search", library, "cat", "--minus", "dog^0.25", "--json").json["query"]["terms"]
    assert [term["weight"] for term in terms] == [1.0, -0.25]


def test_where_and_kind(shell: Shell, library: Path) -> None:
    answer = shell("search", library, "a cat", "--where", "path LIKE '%.jpg'", "--json")
    assert all(name.endswith(".jpg") for name in names(answer))
    film = shell("search", library, "a cat", "--kind", "video", "--json").json["hits"]
    assert [hit["kind"] for hit in film] == ["video"]
    assert 0 <= film[0]["start"] < film[0]["end"]


def test_a_vector(shell: Shell, library: Path, tmp_path: Path) -> None:
    dim = shell("info", library, "--json").json["info"]["dim"]
    np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(size=dim).astype(np.float32))
    assert len(names(shell("search", library, "--vector", tmp_path / "v.npy", "--json"))) == 10
    np.save(tmp_path / "v.npy", np.ones(5))
    wrong = shell("search", library, "--vector", tmp_path / "v.npy")
    assert wrong.code == 2
    assert str(dim) in wrong.err


def test_moments(shell: Shell, library: Path) -> None:
    answer = shell("moments", library, "a cat", "-k", "2", "--sheet", "m.html", "--json")
    assert answer.code == 0, answer.err
    best = answer.json["moments"][0]
    assert {"rank", "path", "start", "end", "score"} <= set(best)
    assert (shell.folder / "m.html").exists()
    nowhere = shell("moments", library, "a cat", "--in", "nothing.mp4")
    assert nowhere.code == 2
    assert "nothing.mp4" in nowhere.err


def test_info_list_remove(shell: Shell, library: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.maxsight"
    assert shell("index", own, PICTURES / "coffee.jpg", PICTURES / "bus.webp").code == 0
    info = shell("info", own, "--json").json["info"]
    assert (info["images"], info["videos"], info["encoder"]) == (2, 0, "builtin")
    listed = shell("list", own, "--where", "width > 0", "--json").json["items"]
    assert sorted(Path(item["path"]).name for item in listed) == ["bus.webp", "coffee.jpg"]
    assert shell("remove", own, PICTURES / "bus.webp", "--json").json == {"removed": 1}
    assert names(shell("search", own, "a bus", "--json")) == ["coffee.jpg"]
    assert shell("compact", own, "--json").code == 0


def test_files_that_cannot_be_read_are_listed(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture at all")
    own = tmp_path / "own.maxsight"
    answer = shell("index", own, tmp_path, shell.folder / PICTURES / "bus.webp")
    assert answer.code == 1
    assert "1 added" in answer.out
    assert "broken.jpg" in answer.err
    report = shell("index", own, tmp_path, "--json")
    assert report.code == 1
    assert [Path(f["path"]).name for f in report.json["failures"]] == ["broken.jpg"]


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (("search", "nowhere.maxsight", "cat"), 3, "maxsight index"),
        (("info", "nowhere.maxsight"), 3, "no library"),
        (("search", "LIBRARY"), 2, "empty query"),
        (("search", "LIBRARY", "  "), 2, "empty"),
        (("search", "LIBRARY", "cat", "--minus", "cat", "-k", "0"), 2, "-k"),
        (("search", "LIBRARY", "--minus", "cat"), 2, "minus"),
        (("search", "LIBRARY", "cat", "--where", "color = 1"), 2, "columns"),
        (("search", "LIBRARY", "cat", "--kind", "audio"), 2, "video"),
        (("search", "LIBRARY", "cat", "--image", "not-there.jpg"), 2, "not-there.jpg"),
        (("index", "LIBRARY", "not-there"), 2, "not-there"),
        (("index", "LIBRARY", ".", "--encoder", "open_clip:ViT-B-32/openai"), 3, "builtin"),
        (("index", "new.maxsight", ".", "--encoder", "nonsense"), 2, "builtin"),
        (("bench", "nonsense"), 2, "builtin-recall"),
        (("search", "LIBRARY", "never asked before", "--device", "abacus"), 2, "abacus"),
    ],
)
def test_mistakes_say_what_to_do(
    shell: Shell, library: Path, arguments: tuple[str, ...], code: int, hint: str
) -> None:
    given = [str(library) if argument == "LIBRARY" else argument for argument in arguments]
    answer = shell(*given)
    assert answer.code == code, answer.err
    assert hint in answer.err
    assert "Traceback" not in answer.err


def test_errors_are_json_too(shell: Shell) -> None:
    answer = shell("info", "nowhere.maxsight", "--json")
    assert answer.code == 3
    assert answer.json["error"]["type"] == "LibraryNotFound"


def test_ctrl_c_keeps_what_was_done(shell: Shell, tmp_path: Path) -> None:
    own = tmp_path / "own.maxsight"
    # Tests that run in the background have inherited a shell's order to ignore Ctrl-C.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from maxsight.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "index", str(own), str(PICTURES)],
        cwd=shell.folder,
        env=shell.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not own.exists():
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    # A fast machine is done before the signal comes: it may end the interpreter's own clearing up.
    assert process.returncode in (0, 130, -signal.SIGINT), errors
    assert "Traceback" not in errors
    assert shell("index", own, PICTURES).code == 0
    assert shell("info", own, "--json").json["info"]["images"] == 101


def test_no_colours_in_a_pipe(shell: Shell, library: Path) -> None:
    for arguments in (("search", library, "cat"), ("doctor",), ("--help",), ("info", "nowhere")):
        answer = shell(*arguments)
        assert "\x1b" not in answer.out + answer.err


def test_a_search_with_a_cached_text_imports_neither_torch_nor_an_encoder(
    shell: Shell, library: Path
) -> None:
    shell("search", library, "a lighthouse")
    script = (
        "import sys; from maxsight.cli import app\n"
        f"app(['search', {str(library)!r}, 'a lighthouse'], standalone_mode=False)\n"
        "print([m for m in ('torch', 'open_clip', 'av', 'decord', 'tokenizers', 'PIL') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=shell.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_docs_say_what_the_program_says() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "typer", "maxsight.cli", "utils", "docs", "--name", "maxsight"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    documented = Path(__file__).parents[2] / "docs" / "cli.md"
    assert documented.read_text(encoding="utf-8").strip() == done.stdout.strip(), "make docs"
