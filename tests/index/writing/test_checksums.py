"""The ledger of checksums, and what a power cut leaves."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maxsight.errors import LibraryError
from maxsight.index.files import checksum
from maxsight.index.files.checksum import Checksum
from maxsight.index.records import Changes
from maxsight.index.store import Store
from maxsight.index.tables import versions
from maxsight.index.verify.verify import verify
from maxsight.index.writing import checksums
from maxsight.index.writing.checksums import LedgerWriter

Create = Callable[..., Store]


def test_every_file_has_a_line_after_every_step(create: Create, samples: Any) -> None:
    with create() as store:
        library = store.path
        for n in range(3):
            store.apply(Changes(added=[samples.item(f"/{n}", str(n))], removed=[n - 1][:n]))
            recorded = checksum.read(library)
            assert recorded.files.keys() == checksums.table_files(library)
            assert recorded.damaged_lines == ()
            for name, expected in recorded.files.items():
                assert checksum.checksum(library / name) == expected
        store.compact(grace_seconds=0)
        assert checksum.read(library).files.keys() == checksums.table_files(library)
    with Store.open(library) as reader:
        before = (library / checksum.FILE_NAME).read_bytes()
        reader.snapshot()
        assert (library / checksum.FILE_NAME).read_bytes() == before


def test_the_digest_is_blake2b(tmp_path: Path) -> None:
    """As `b2sum --length 128` prints it."""
    file = tmp_path / "abc"
    file.write_bytes(b"abc")
    assert checksum.checksum(file) == Checksum(3, "cf4ab791c62b8d2b2109c90275287816")


def test_the_ledger_at_every_length(create: Create, samples: Any) -> None:
    """Cut anywhere, as by a death in the middle of a write, it holds its whole lines."""
    with create() as store:
        library = store.path
    file = library / checksum.FILE_NAME
    content = file.read_bytes()
    whole = checksum.read(library).files
    for length in range(0, len(content), 7):
        file.write_bytes(content[:length])
        recorded = checksum.read(library)
        assert recorded.damaged_lines == ()
        assert recorded.files.items() <= whole.items()
        assert len(recorded.files) == content[:length].count(b"\n")
        writer = LedgerWriter(library)
        writer.take()
        writer.commit()
        assert checksum.read(library).files == whole


@pytest.mark.parametrize("bit", range(8))
def test_any_flipped_bit_of_the_ledger_damages_one_line(create: Create, bit: int) -> None:
    with create() as store:
        library = store.path
    file = library / checksum.FILE_NAME
    content = file.read_bytes()
    whole = checksum.read(library).files
    for place in range(0, len(content), 11):
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        file.write_bytes(bytes(flipped))
        recorded = checksum.read(library)
        assert recorded.files.items() < whole.items()
        lost = len(whole) - len(recorded.files)
        is_newline = content[place : place + 1] == b"\n"
        assert lost == 1 or (is_newline and lost <= 2)


def test_a_full_disk_delays_lines_and_fails_no_step(
    create: Create, samples: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with create() as store:
        with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
            patch.setattr(os, "pwrite", full)
            store.apply(Changes(added=[samples.item("/a", "a")]))
        assert "lags behind: No space left" in caplog.text
        assert verify(store.path).unrecorded
        assert verify(store.path).problems == ()
        store.apply(Changes(added=[samples.item("/b", "b")]))
        assert verify(store.path).unrecorded == 0
        samples.check(store.snapshot(), {0: ("/a", "a"), 1: ("/b", "b")})


def test_a_disk_that_cannot_keep_what_it_took_is_an_error(
    create: Create, samples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with create() as store:
        store.apply(Changes(added=[samples.item("/a", "a")]))

        def broken(_: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", broken)
            with pytest.raises(LibraryError, match="Input/output error"):
                store.apply(Changes(added=[samples.item("/b", "b")]))
        # The units were there, and no item claimed them.
        samples.check(store.snapshot(), {0: ("/a", "a")})
        store.apply(Changes(added=[samples.item("/b", "b")]))
        assert verify(store.path).problems == ()


@pytest.mark.parametrize("how", ["empty", "zeros", "half"])
@pytest.mark.parametrize("lost", ["manifest", "data", "units"])
def test_a_power_cut_costs_the_step_under_way_alone(
    create: Create, samples: Any, how: str, lost: str
) -> None:
    """Files that were not forced to the disk yet are torn in any way; what has a line is whole."""
    with create() as store:
        library = store.path
        store.apply(Changes(added=[samples.item("/a", "a"), samples.item("/b", "b*3")]))
        store.apply(Changes(removed=[0]))
    acknowledged = library.with_name("acknowledged")
    shutil.copytree(library, acknowledged)
    ledger = (library / checksum.FILE_NAME).read_bytes()
    with Store.open(library, write=True) as store:
        store.apply(Changes(added=[samples.item("/c", "c*2")], removed=[1]))
    (library / checksum.FILE_NAME).write_bytes(ledger)
    unrecorded = checksums.table_files(library) - checksum.read(library).files.keys()
    if lost == "units":  # the items had not been written
        for name in [name for name in unrecorded if name.startswith("items")]:
            (library / name).unlink()
    part = "/data/" if lost == "data" else "_versions/"
    torn = [file for name in unrecorded if part in name and (file := library / name).exists()]
    assert torn
    # Lance's own hint at the newest version has no line, as it changes with every step.
    hints = list(library.glob("*/_versions/latest_version_hint.json"))
    assert len(hints) == 2
    for file in [*torn, *hints]:
        content = file.read_bytes()
        size = len(content)
        file.write_bytes({"empty": b"", "zeros": bytes(size), "half": content[: size // 2]}[how])

    assert verify(library).problems
    with Store.open(library, write=True) as store:
        samples.check(store.snapshot(), {1: ("/b", "b*3")})
        (added,) = store.apply(Changes(added=[samples.item("/d", "d*2")]))
        samples.check(store.snapshot(), {1: ("/b", "b*3"), added: ("/d", "d*2")})
    assert verify(library).problems == ()


def test_damage_of_what_was_acknowledged_is_not_taken_for_a_power_cut(
    create: Create, samples: Any
) -> None:
    with create() as store:
        store.apply(Changes(added=[samples.item("/a", "a")]))
        library = store.path
    manifests = versions.manifests(library / "items.lance")
    manifests[max(manifests)].write_bytes(b"")
    with pytest.raises(LibraryError):
        Store.open(library, write=True)
    assert manifests[max(manifests)].exists()
    (library / checksum.FILE_NAME).unlink()
    with pytest.raises(LibraryError):
        Store.open(library, write=True)
    assert manifests[max(manifests)].exists()


def test_a_ledger_of_other_bytes_is_told_in_a_few_lines(create: Create) -> None:
    with create() as store:
        library = store.path
    (library / checksum.FILE_NAME).write_bytes(b"x\n" * 100_000)
    told = [problem for problem in verify(library).problems if problem.kind == "ledger"]
    assert len(told) == 21
    assert "99,980 lines more" in told[-1].text


def test_a_file_of_a_terabyte_is_not_read(create: Create, samples: Any) -> None:
    with create() as store:
        library = store.path
        store.apply(Changes(added=[samples.item("/1", "1*1")]))
    file = next((library / "units.lance/data").iterdir())
    os.truncate(file, 1 << 40)
    assert ("damaged", f"units.lance/data/{file.name}") in {
        (problem.kind, problem.place) for problem in verify(library).problems
    }
