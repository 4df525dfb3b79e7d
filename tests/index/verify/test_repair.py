"""A repair beside writers, and one that ends early."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import lance
import pytest
from damaged_library import flip, index_again

from maxsight.errors import LibraryLocked
from maxsight.index.building import vector_index
from maxsight.index.records import Changes
from maxsight.index.store import Store
from maxsight.index.tables import versions
from maxsight.index.verify.verify import Verification, verify


@pytest.mark.parametrize("spec", [None, "SQ8"])
def test_a_repair_leaves_what_is_no_index(library: Path, spec: str | None) -> None:
    """Files of other programs, and what was asked for by name."""
    with Store.open(library, write=True) as store:
        vector_index.bring_up_to_date(store.snapshot(), spec)
    folder = library / "indexes"
    folder.mkdir(exist_ok=True)
    for name in (".DS_Store", "Thumbs.db"):
        (folder / name).write_bytes(b"?")
    (folder / ".vectors-7.partial").mkdir()
    before = {file.name for file in folder.iterdir()} - {".vectors-7.partial"}
    assert verify(library).problems == ()
    repaired = verify(library, repair=True)
    assert (repaired.problems, repaired.repaired) == ((), ())
    assert {file.name for file in folder.iterdir()} == before
    with Store.open(library, write=True) as store:
        assert vector_index.bring_up_to_date(store.snapshot()).index == (spec or "exact")


def test_beside_a_writer(library: Path, samples: Any) -> None:
    """Nothing looks damaged for being half of one state and half of the next."""
    ended = threading.Event()

    def write() -> None:
        with Store.open(library, write=True) as store:
            for number in itertools.count():
                name = f"/{number}*"
                (item_id,) = store.apply(Changes(added=[samples.item(name, f"{number}*3")]))
                store.apply(Changes(removed=[item_id]))
                if number % 4 == 0:
                    store.compact()
                if ended.is_set():
                    break

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(6):
            assert verify(library).problems == ()
    finally:
        ended.set()
        writer.join()
    found = verify(library)
    assert (found.problems, found.unrecorded, found.items) == ((), 0, 6)


def test_a_repair_may_end_at_any_step(
    library: Path, samples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is interrupted at every sixth of the steps that force something to the disk."""
    manifests = versions.manifests(library / "items.lance")
    flip(manifests[max(manifests)])
    (units, *_) = lance.dataset(str(library / "units.lance")).get_fragments()
    flip(library / "units.lance" / min(versions.files_of(units)))
    force = os.fsync
    for steps in range(0, 120, 6):
        shutil.copytree(library, copy := library.with_name(f"copy{steps}"))
        left = steps

        def interrupted(descriptor: int) -> None:
            nonlocal left
            if not left:
                raise KeyboardInterrupt
            left -= 1
            force(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", interrupted)
            with contextlib.suppress(KeyboardInterrupt):
                verify(copy, repair=True)
        assert verify(copy, repair=True).problems == ()
        if left:
            break
    assert steps > 8
    index_again(copy, samples)


def test_nobody_repairs_under_a_writer(library: Path) -> None:
    with Store.open(library, write=True):
        assert isinstance(verify(library), Verification)
        with pytest.raises(LibraryLocked):
            verify(library, repair=True)


def test_progress_reaches_its_end(library: Path) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}
    verify(library, progress=lambda stage, *place: seen.setdefault(stage, []).append(place))
    assert list(seen) == ["checksums", "rows"]
    for places in seen.values():
        assert places == sorted(places)
        assert places[-1][0] == places[-1][1]
