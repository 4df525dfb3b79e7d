"""Writers that are killed, readers beside a writer, disks that fill up."""

from __future__ import annotations

import itertools
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from maxsight.benchmarks.cases.faults import crashes
from maxsight.errors import LibraryError, LibraryLocked
from maxsight.index import snapshot_tokens
from maxsight.index.building import vector_index
from maxsight.index.records import Changes
from maxsight.index.snapshot import Snapshot
from maxsight.index.store import Store
from maxsight.index.verify.verify import verify
from maxsight.index.writing.lock import WriteLock

Create = Callable[..., Store]


@contextmanager
def writer(library: Path, seed: str, *, grace_seconds: float = 0) -> Iterator[int]:
    """A process that changes the library; killed, not stopped, at the end."""
    command = [sys.executable, str(Path(__file__).with_name("writer.py")), str(library), seed]
    process = subprocess.Popen(
        [*command, str(grace_seconds)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n", process.communicate()[1]
        yield process.pid
    finally:
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, errors


class Witness:
    """Everything ever seen of a library; each new state must fit it."""

    def __init__(self, samples: Any) -> None:
        self._samples = samples
        self._token_of: dict[int, str] = {}
        self._item_of_unit: dict[int, tuple[int, str]] = {}

    def see(self, snapshot: Snapshot, known: dict[str, Any] | None = None) -> bool:
        """Check a snapshot; False if a compaction has taken away what it would be checked by."""
        try:
            rows = snapshot.state.items.to_table(["item_id", "content_hash"], "status = 'live'")
        except (OSError, ValueError):  # whatever Lance raises for a missing file
            return False
        everything = snapshot.search(self._samples.unit_vectors(1), 10**6)[0]
        paths = {hit.item_id: hit.path for hit in everything}
        assert len(set(paths.values())) == len(paths) == snapshot.item_count
        assert len({hit.unit_id for hit in everything}) == len(everything) == snapshot.unit_count
        contents = dict(zip(rows["item_id"].to_pylist(), rows["content_hash"].to_pylist()))
        assert contents.keys() == paths.keys()
        for item_id, path in paths.items():
            token = path.split("/")[1]
            assert self._token_of.setdefault(item_id, token) == token
        for hit in everything:
            owner = hit.item_id, contents[hit.item_id]
            assert self._item_of_unit.setdefault(hit.unit_id, owner) == owner
        self._samples.check(snapshot, {i: (path, contents[i]) for i, path in paths.items()})
        if known is not None:
            assert {path: item.item_id for path, item in known.items()} == {
                path: item_id for item_id, path in paths.items()
            }
        return True


@pytest.mark.slow
def test_killed_writers_leave_whole_steps(create: Create, samples: Any) -> None:
    """kill -9 at 10 random moments, the next writer going on from there."""
    with create() as store:
        library = store.path
    random_moment = random.Random(4)
    witness = Witness(samples)
    for attempt in range(10):
        with writer(library, f"w{attempt}", grace_seconds=0):
            time.sleep(random_moment.uniform(0, 0.4))
        with Store.open(library) as reader:
            witness.see(reader.snapshot(), reader.known())
            assert not set(reader.failures()) & set(reader.known())
    with Store.open(library, write=True) as store:
        before = {path: item.item_id for path, item in store.known().items()}
        assert before
        store.compact(grace_seconds=0)
        witness.see(store.snapshot(), store.known())
        assert {path: item.item_id for path, item in store.known().items()} == before
        snapshot = store.snapshot()
        assert snapshot.row_count >= snapshot.unit_count
    with Store.open(library) as reader:
        fresh = reader.snapshot()
        assert len(fresh.tokens._stored_units) == fresh.row_count == fresh.unit_count


@pytest.mark.slow
def test_no_moment_of_death_loses_anything(tmp_path: Path) -> None:
    """At a call that changes the disk, within one, or any time: nine of the benchmark's deaths."""
    ends = list(crashes.deaths(tmp_path, kills=9, seed=5))
    assert len({end.moment for end in ends}) == 3


@pytest.mark.slow
def test_the_benchmark_of_deaths_notices_a_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was acknowledged is then taken away by somebody else."""
    seen: list[Path] = []

    def verify_and_lose(library: Path) -> Any:
        found = verify(library)
        with Store.open(library, write=True) as store:
            if known := store.known():
                store.apply(Changes(removed=[next(iter(known.values())).item_id]))
                seen.append(library)
        return found

    monkeypatch.setattr(crashes, "verify", verify_and_lose)
    with pytest.raises(crashes.WrongState, match="lacks"):
        list(crashes.deaths(tmp_path, kills=20, seed=5))
    assert seen


@pytest.mark.slow
def test_readers_beside_a_writer_see_whole_steps(create: Create, samples: Any) -> None:
    """Long-lived and fresh readers, while a writer commits and compacts without a grace period."""
    with create() as store:
        library = store.path
    failures: list[BaseException] = []
    versions: set[int] = set()
    deadline = float("inf")

    def follow() -> None:
        try:
            witness = Witness(samples)
            with Store.open(library) as reader:
                previous = -1
                while time.monotonic() < deadline:
                    snapshot = reader.snapshot()
                    assert snapshot.items_version >= previous
                    previous = snapshot.items_version
                    if witness.see(snapshot):
                        versions.add(previous)
        except BaseException as error:
            failures.append(error)
            raise

    def reopen() -> None:
        try:
            witness = Witness(samples)
            while time.monotonic() < deadline:
                with Store.open(library) as reader:
                    witness.see(reader.snapshot())
        except BaseException as error:
            failures.append(error)
            raise

    with writer(library, "w", grace_seconds=0):
        deadline = time.monotonic() + 6
        threads = [threading.Thread(target=work) for work in (follow, reopen)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures
    assert len(versions) > 5


def test_the_lock_names_the_other_process_and_dies_with_it(create: Create, samples: Any) -> None:
    with create() as store:
        library = store.path
    with (
        writer(library, "w") as process,
        pytest.raises(LibraryLocked, match=f"process {process}"),
    ):
        Store.open(library, write=True)
    Store.open(library, write=True).close()


def test_a_child_that_outlives_the_writer_does_not_keep_the_lock(create: Create) -> None:
    """Decoder processes may be slow to notice that their parent was killed."""
    with create() as store:
        library = store.path
    script = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from maxsight.index.writing.lock import WriteLock\n"
        f"lock = WriteLock(Path({str(library)!r}))\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os.close(1)\n"
        "    time.sleep(60)\n"
        "print(child, flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        with pytest.raises(LibraryLocked, match=f"process {process.pid}"):
            Store.open(library, write=True)
        process.kill()
        process.communicate()
        os.kill(child, 0)
        Store.open(library, write=True).close()
    finally:
        os.kill(child, signal.SIGKILL)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writes beyond ``size`` bytes a file fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("limit", [100, 2000, 20_000])
def test_a_write_the_disk_refuses_loses_nothing(create: Create, samples: Any, limit: int) -> None:
    with create() as store:
        store.apply(Changes(added=[samples.item("/a", "a")]))
        step = Changes(added=[samples.item("/b", "b*900")], removed=[0])
        with file_size_limit(limit), pytest.raises(LibraryError, match="no space left"):
            store.apply(step)
        samples.check(store.snapshot(), {0: ("/a", "a")})
        (added,) = store.apply(step)
        samples.check(store.snapshot(), {added: ("/b", "b*900")})


@pytest.mark.parametrize("limit", [1000, 30_000])
@pytest.mark.parametrize("kind", ["vectors", "tokens"])
def test_an_index_the_disk_refuses_leaves_nothing(
    create: Create, samples: Any, monkeypatch: pytest.MonkeyPatch, kind: str, limit: int
) -> None:
    monkeypatch.setattr(snapshot_tokens, "HELD_TOKEN_BYTES", 0 if kind == "tokens" else 2**40)
    with create(token_dim=32) as store:
        items = [samples.item(f"/{n}", f"{n}*50", tokens=32) for n in range(50)]
        store.apply(Changes(added=items))
        spec = "exact" if kind == "tokens" else "Flat"
        with file_size_limit(limit), pytest.raises(LibraryError, match=r"left for .*index"):
            vector_index.bring_up_to_date(store.snapshot(), spec)
        assert not list((store.path / "indexes").iterdir())
        samples.check(store.snapshot(), {n: (f"/{n}", f"{n}*50") for n in range(50)})
        vector_index.bring_up_to_date(store.snapshot(), spec)
        assert f"{kind}-1" in {path.name for path in (store.path / "indexes").iterdir()}
        assert verify(store.path).problems == ()


def test_the_next_writer_clears_away_what_a_killed_one_left_half_made(create: Create) -> None:
    """An index may take gigabytes, and the next one may have another name, or not be wanted."""
    with create() as store:
        library = store.path
    for name in (".vectors-3.partial", ".tokens-1.partial", ".vectors-2.deleted"):
        (library / "indexes" / name).mkdir(parents=True)
        (library / "indexes" / name / "faiss.index").write_bytes(b"half")
    Store.open(library).close()
    assert len(list((library / "indexes").iterdir())) == 3, "a reader leaves them to the writer"
    Store.open(library, write=True).close()
    assert not list((library / "indexes").iterdir())


KILLED_CREATION = """
import os, sys
from maxsight.index.store import Manifest, Store
Manifest.write = lambda *args: os.kill(os.getpid(), 9)
Store.create(sys.argv[1], encoder_uri="t", fingerprint="f", dim=24)
"""


@pytest.mark.parametrize("next_one", ["creates", "writes"])
def test_what_a_killed_creation_left_goes(tmp_path: Path, samples: Any, next_one: str) -> None:
    library, draft = tmp_path / "library", tmp_path / ".library.partial"
    made = {"encoder_uri": "t", "fingerprint": "f", "dim": samples.dim}
    if next_one == "writes":
        Store.create(tmp_path / "other", **made).close()
    subprocess.run([sys.executable, "-c", KILLED_CREATION, str(library)], check=False)
    assert (draft / "items.lance").is_dir()
    if next_one == "writes":
        (tmp_path / "other").rename(library)
        found = verify(library)
        assert (found.problems, found.leftovers) == ((), ("../.library.partial",))
        Store.open(library).close()
        assert draft.exists(), "a reader leaves it to the writer"
        Store.open(library, write=True).close()
    else:
        Store.create(library, **made).close()
    assert os.listdir(tmp_path) == ["library"]
    found = verify(library)
    assert (found.problems, found.leftovers) == ((), ())


@pytest.mark.parametrize("kind", ["file", "link", "folder of another kind", "being made"])
def test_what_is_no_draft_is_left_as_it_is(tmp_path: Path, samples: Any, kind: str) -> None:
    library, draft, mine = tmp_path / "library", tmp_path / ".library.partial", tmp_path / "mine"
    made = {"encoder_uri": "t", "fingerprint": "f", "dim": samples.dim}
    mine.mkdir()
    (mine / "diary.txt").write_text("mine")
    if kind == "file":
        draft.write_text("mine")
    elif kind == "link":
        draft.symlink_to(mine)
    else:
        draft.mkdir()
        (draft / ("units.lance" if kind == "being made" else "diary.txt")).write_text("mine")
    lock = WriteLock(draft) if kind == "being made" else None
    said = "already open for writing" if lock else r"\.library\.partial is in the way"
    with pytest.raises(LibraryError, match=said):
        Store.create(library, **made)
    assert (mine / "diary.txt").read_text() == "mine"
    if lock:
        assert (draft / "units.lance").read_text() == "mine"
    if lock:
        lock.release()
        return
    assert not library.exists()
    Store.create(tmp_path / "other", **made).close()
    (tmp_path / "other").rename(library)
    assert not verify(library).leftovers
    Store.open(library, write=True).close()
    place = draft if kind == "file" else draft / "diary.txt"
    assert place.read_text() == "mine"


@pytest.mark.parametrize("limit", [0, 10, 1000])
def test_a_library_is_created_whole_or_not_at_all(create: Create, limit: int) -> None:
    with create() as store:
        parent = store.path.parent
    with file_size_limit(limit), pytest.raises(LibraryError):
        create("new", token_dim=7)
    assert sorted(path.name for path in parent.iterdir()) == ["library"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_read_only_disk(tmp_path: Path, samples: Any) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount here")
    try:
        library = disk / "library"
        with Store.create(library, encoder_uri="t", fingerprint="f", dim=samples.dim) as store:
            store.apply(Changes(added=[samples.item("/a", "a*3")]))
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with Store.open(library) as store:
            samples.check(store.snapshot(), {0: ("/a", "a*3")})
            assert len(store.items(where="kind = 'video'")) == 1
        assert verify(library).problems == ()
        for change in (
            lambda: Store.open(library, write=True),
            lambda: verify(library, repair=True),
        ):
            with pytest.raises(LibraryError, match=r"Read-only file system.*must be writable"):
                change()
        with pytest.raises(LibraryError, match=r"cannot create .*Read-only"):
            Store.create(disk / "new", encoder_uri="t", fingerprint="f", dim=samples.dim)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk(tmp_path: Path, samples: Any) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount here")
    try:
        library = disk / "library"
        with Store.create(library, encoder_uri="t", fingerprint="f", dim=samples.dim) as store:
            expected: dict[int, tuple[str, str]] = {}

            def fill() -> None:
                for n in itertools.count():
                    (item_id,) = store.apply(Changes(added=[samples.item(f"/{n}", f"{n}*3000")]))
                    expected[item_id] = (f"/{n}", f"{n}*3000")

            with pytest.raises(LibraryError, match=rf"no space left for {library}.*disk of {disk}"):
                fill()
            assert len(expected) > 2
            samples.check(store.snapshot(), expected)
            # Removing needs a little room of its own; a full disk is freed from outside first.
            subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
            first = min(expected)
            store.apply(Changes(removed=[first]))
            del expected[first]
            store.compact(grace_seconds=0)
            samples.check(store.snapshot(), expected)
        assert verify(library).problems == ()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
