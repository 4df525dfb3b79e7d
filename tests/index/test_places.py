"""Where a library may stand: under names and on disks that storage engines do not expect."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maxsight.index.building import vector_index
from maxsight.index.records import Changes
from maxsight.index.store import Store
from maxsight.index.verify.verify import verify

NAMES = {
    "latin-1": os.fsdecode(b"Urlaub-M\xfcnchen"),
    "newline": "new\nline",
    "tab": "tab\there",
    "delete": "del\x7f",
    "escape": "\x1b[31mred",
    "hash": "a#b?c%20d",
    "scheme": "s3:",
    "drive": "C:\\photos",
    "dots": "..dots..",
    "emoji": "\U0001f600 smile",
    "bidi": "\u202egnp",
    "long": "x" * 250,
}


def contents(folder: Path) -> dict[str, bytes]:
    """The files and what they hold, the lines of the ledger in one order."""
    return {
        path.relative_to(folder).as_posix(): b"".join(sorted(path.read_bytes().splitlines(True)))
        for path in folder.rglob("*")
        if path.is_file() and path.name != "write.lock"
    }


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_library_stands_under_any_name(
    create: Callable[..., Store], samples: Any, tmp_path: Path, name: str
) -> None:
    with create("plain") as store:
        store.apply(Changes(added=[samples.item(f"/{n}", f"{n}*2") for n in range(20)]))
        vector_index.build(store.snapshot(), "IVF2,Flat")
    before = contents(tmp_path / "plain")
    (tmp_path / name).mkdir()
    moved = (tmp_path / "plain").rename(tmp_path / name / "here")
    expected = {n: (f"/{n}", f"{n}*2") for n in range(20)}
    with Store.open(moved) as reader:
        samples.check(reader.snapshot(), expected)
        assert reader.snapshot().state.built is not None
    assert not verify(moved).problems
    assert verify(moved, repair=True).repaired == ()
    back = moved.rename(tmp_path / "back")
    assert contents(back) == before
    there = shutil.copytree(back, tmp_path / name / "copy")
    with Store.open(there, write=True) as store:
        store.apply(Changes(added=[samples.item("/x", "x*2")], removed=[3]))
        vector_index.build(store.snapshot(), "IVF3,Flat")
        store.compact(grace_seconds=0)
        samples.check(
            store.snapshot(),
            {n: pair for n, pair in expected.items() if n != 3} | {20: ("/x", "x*2")},
        )
    with Store.create(
        tmp_path / name / "new", encoder_uri="t", fingerprint="f", dim=samples.dim
    ) as store:
        store.apply(Changes(added=[samples.item("/y", "y")]))
    assert not verify(tmp_path / name / "new").problems


def test_a_library_needs_no_hard_links(
    create: Callable[..., Store], samples: Any, tmp_path: Path
) -> None:
    """Made on such a disk, or copied there."""
    with create("copied") as store:
        store.apply(Changes(added=[samples.item(f"/{n}", f"{n}*2") for n in range(5)]))
    program = Path(__file__).with_name("without_links.py")
    done = subprocess.run(
        [sys.executable, program, tmp_path, tmp_path / "copied"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.endswith("done\n"), done.stderr
