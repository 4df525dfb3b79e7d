"""Does indexing again do exactly what changed, and survive being killed at any moment?

Everything runs as a user's process, ``maxsight index LIBRARY FOLDER --json``, on a copy of real
pictures. A count that is off by one ends the benchmark with an error, it does not become a row.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from maxsight.benchmarks.material import pictures
from maxsight.benchmarks.measure import processes
from maxsight.benchmarks.measure.rows import Row
from maxsight.index.store import Store

# Batches of other sizes let the encoder's sums differ in their last bits, then float16 rounds.
VECTOR_TOLERANCE = 4e-3
_COUNTS = ("added", "updated", "unchanged", "moved", "touched", "removed", "failed")
# Decoders left behind by a killed run must notice within this time.
_ORPHANS_MAY_LIVE_S = 5.0


@dataclass(frozen=True, eq=False)
class Contents:
    """What a library says it holds.

    Attributes:
        hashes: path -> hash of the content.
        vectors: path -> (U, D) float32.
    """

    hashes: Mapping[str, str]
    vectors: Mapping[str, np.ndarray]


def run(
    data: Path,
    *,
    count: int = 5000,
    kills: int = 20,
    changed: int = 100,
    encoder: str = "builtin",
    seed: int = 0,
) -> list[Row]:
    """Measure on drawings.

    Args:
        data: folder for fetched and rendered material.
        count: how many drawings.
        kills, changed, encoder, seed: as in :func:`measure`.
    """
    folder = pictures.drawings(data, count)
    return measure(folder, kills=kills, changed=changed, encoder=encoder, seed=seed)


def measure(
    material: Path, *, kills: int, changed: int, encoder: str = "builtin", seed: int = 0
) -> list[Row]:
    """Measure on a copy of any folder of pictures, no two of them alike.

    Args:
        material: stays as it is.
        kills: how often a run is ended by ``kill -9``.
        changed: files each of: touched, renamed, edited, deleted, added.
        encoder: its URI.
        seed: of the moments and the files.

    Returns:
        Seconds of each run and, where it is asserted, what was counted.

    Raises:
        AssertionError: a count, or a library after the kills, is not what it must be.
    """
    draw = random.Random(seed)
    count = len(_files(material))
    case = f"{count:,} pictures"
    with tempfile.TemporaryDirectory(prefix="maxsight-incremental-") as scratch:
        folder = Path(scratch) / "pictures"
        shutil.copytree(material, folder)
        whole = Indexing(Path(scratch) / "whole.maxsight", folder, encoder)
        killed = Indexing(Path(scratch) / "killed.maxsight", folder, encoder)

        first = whole.finish(expect={"added": count})
        second = whole.finish(expect={"unchanged": count})
        again = "second run, nothing changed"
        rows = [
            _seconds(case, "first run", first),
            _seconds(case, again, second),
            Row("incremental", case, again, "time / first run", round(second / first, 4), "x"),
        ]
        rows += kill_and_finish(killed, whole.library, kills=kills, usual_s=first, draw=draw)

        for name, (counted, change) in _CHANGES.items():
            before = _files(folder)
            change(draw.sample(before, changed))
            after = _files(folder)
            same = min(len(before), len(after)) - (changed if len(before) == len(after) else 0)
            took = whole.finish(expect={counted: changed, "unchanged": same})
            rows.append(_seconds(case, f"after {name}", took))
            rows.append(Row("incremental", case, f"after {name}", counted, changed, "files"))
        _assert_describes(whole.library, folder)
        # The other library takes all of it in one run, and must end up the same.
        killed.finish(expect=None)
        assert_same(contents(killed.library), contents(whole.library))
    return rows


@dataclass(frozen=True)
class Indexing:
    """``maxsight index LIBRARY FOLDER`` as a process."""

    library: Path
    folder: Path
    encoder: str

    def start(self) -> subprocess.Popen[str]:
        """Begin a run."""
        program = Path(sys.executable).with_name("maxsight")
        options = ["--json", "--encoder", self.encoder]
        return subprocess.Popen(
            [program, "index", self.library, self.folder, *options],
            stdout=subprocess.PIPE,
            text=True,
        )

    def finish(self, *, expect: Mapping[str, int] | None) -> float:
        """Run to the end.

        Args:
            expect: the run's counts; those not named must be zero. None: whatever they are.

        Returns:
            Seconds from the process's start to its end.

        Raises:
            AssertionError: the counts are others.
        """
        begun = time.perf_counter()
        process = self.start()
        output, _ = process.communicate()
        seconds = time.perf_counter() - begun
        if process.returncode:
            raise AssertionError(f"maxsight index ended with {process.returncode}: {output}")
        report = json.loads(output)
        counted = {name: report[name] for name in _COUNTS}
        if expect is not None and counted != dict.fromkeys(_COUNTS, 0) | dict(expect):
            raise AssertionError(f"expected {dict(expect)} and nothing else, got {counted}")
        return seconds


def kill_and_finish(
    indexing: Indexing, truth: Path, *, kills: int, usual_s: float, draw: random.Random
) -> list[Row]:
    """Index a folder with runs that are killed, then with one that is not.

    Half of the runs are killed at a moment of their start-up, half at one of their work; those
    together last as long as an undisturbed run. One that ends before its moment is not counted:
    its library is compared like the last one, and the next run begins a new one.

    Args:
        indexing: of a library that is not there yet.
        truth: the library of an uninterrupted run over the same folder.
        usual_s: seconds of that run.

    Raises:
        AssertionError: the library differs from ``truth``, or a process outlived its parent.
    """
    count = len(_files(indexing.folder))
    case = f"{count:,} pictures"
    start_up = _seconds_until_work(indexing)
    work = max(0.5, usual_s - start_up)
    moments = [draw.uniform(0.1, start_up) for _ in range(kills // 2)]
    moments += [
        start_up + draw.uniform(0, 1.6 * work / (kills - kills // 2))
        for _ in range(len(moments), kills)
    ]
    draw.shuffle(moments)
    whole = contents(truth)
    stored: list[int] = []
    storing = early = 0
    while moments:
        process = indexing.start()
        try:
            process.communicate(timeout=moments[-1])
        except subprocess.TimeoutExpired:
            _kill(process)
            stored.append(_stored(indexing.library))
            storing += stored[-1] > max(stored[:-1], default=0)
            moments.pop()
            continue
        assert_same(contents(indexing.library), whole)
        shutil.rmtree(indexing.library)
        stored.clear()
        early += 1
        # The machine is faster than it was when the moments were chosen.
        moments = [0.8 * moment for moment in moments]
    before = stored[-1] if stored else 0
    last = indexing.finish(expect={"added": count - before, "unchanged": before})
    mine = contents(indexing.library)
    assert_same(mine, whole)
    equal = sum(np.array_equal(mine.vectors[path], whole.vectors[path]) for path in whole.vectors)
    contender = f"after {kills} kill -9"
    figures = (
        ("killed runs that stored something", storing, "", kills),
        ("runs that ended before their moment", early, "", kills + early),
        ("stored before the last run", before, "files", 1),
        ("the last run", round(last, 3), "s", 1),
        ("files as in an uninterrupted run", len(mine.hashes), "files", 1),
        ("vectors equal to the last bit", round(100 * equal / count, 2), "%", count),
        ("size / uninterrupted run", round(_size(indexing.library) / _size(truth), 3), "x", 1),
    )
    return [
        Row("incremental", case, contender, metric, value, unit, runs=runs)
        for metric, value, unit, runs in figures
    ]


def contents(library: Path) -> Contents:
    """Read back everything a library holds.

    Raises:
        AssertionError: a path twice, or a unit that no file owns.
    """
    with Store.open(library) as store:
        items = store.items(columns=["path", "content_hash", "item_id"])
        snapshot = store.snapshot()
        paths = items["path"].to_pylist()
        if len(set(paths)) != len(paths):
            raise AssertionError(f"{len(paths) - len(set(paths))} paths stand twice in {library}")
        if snapshot.unit_count != len(paths):
            raise AssertionError(f"{snapshot.unit_count} units for {len(paths)} pictures")
        vectors = {
            path: snapshot.item_vectors(item)
            for path, item in zip(paths, items["item_id"].to_pylist())
        }
    return Contents(dict(zip(paths, items["content_hash"].to_pylist())), vectors)


def assert_same(mine: Contents, truth: Contents) -> None:
    """Assert that two libraries hold the same files with the same vectors.

    Raises:
        AssertionError: they do not; the message names a file.
    """
    if mine.hashes != truth.hashes:
        differing = set(mine.hashes.items()) ^ set(truth.hashes.items())
        raise AssertionError(f"{len(differing)} files differ, one is {min(differing)}")
    for path, vectors in truth.vectors.items():
        difference = float(np.abs(mine.vectors[path] - vectors).max())
        if not difference <= VECTOR_TOLERANCE:
            raise AssertionError(f"the vector of {path} differs by {difference}")


def _touch(chosen: list[Path]) -> None:
    for path in chosen:
        state = path.stat()
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1_000_000_000))


def _rename(chosen: list[Path]) -> None:
    for path in chosen:
        path.rename(path.with_name(f"renamed-{path.name}"))


def _edit(chosen: list[Path]) -> None:
    for path in chosen:
        picture = Image.open(path).convert("RGB")
        picture.paste((200, 30, 30), (0, 0, picture.width // 3, picture.height // 3))
        picture.save(path)


def _delete(chosen: list[Path]) -> None:
    for path in chosen:
        path.unlink()


def _add(chosen: list[Path]) -> None:
    for path in chosen:
        picture = Image.open(path).convert("RGB").transpose(Image.Transpose.ROTATE_180)
        picture.save(path.with_name(f"new-{path.stem}.png"))


# name -> (what the report must count, how the files are changed)
_CHANGES: dict[str, tuple[str, Callable[[list[Path]], None]]] = {
    "touching": ("touched", _touch),
    "renaming": ("moved", _rename),
    "editing": ("updated", _edit),
    "deleting": ("removed", _delete),
    "adding": ("added", _add),
}


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _seconds_until_work(indexing: Indexing) -> float:
    """Start-up of a run that encodes a single picture: the work itself comes on top."""
    with tempfile.TemporaryDirectory(prefix="maxsight-incremental-") as scratch:
        one = Path(scratch) / "one"
        one.mkdir()
        shutil.copy(_files(indexing.folder)[0], one)
        single = Indexing(Path(scratch) / "one.maxsight", one, indexing.encoder)
        return single.finish(expect={"added": 1})


def _stored(library: Path) -> int:
    if not (library / "library.json").exists():
        return 0
    with Store.open(library) as store:
        return len(store.items(columns=["item_id"]))


def _kill(process: subprocess.Popen[str]) -> None:
    """``kill -9`` for a run; its decoders must then end by themselves."""
    decoders = processes.descendants(process.pid)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + _ORPHANS_MAY_LIVE_S
    while orphans := decoders & set(processes.running()):
        if time.monotonic() > deadline:
            for pid, _ in orphans:
                os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"{len(orphans)} processes outlived their killed parent")
        time.sleep(0.05)


def _assert_describes(library: Path, folder: Path) -> None:
    """The library must hold the folder's files as they are now, by content."""
    found = contents(library).hashes
    there = {str(path) for path in _files(folder)}
    if set(found) != there:
        raise AssertionError(f"{len(set(found) ^ there)} paths differ from the folder's")
    pairs = {(found[path], hashlib.sha256(Path(path).read_bytes()).digest()) for path in there}
    if len(pairs) != len({content for _, content in pairs}):
        raise AssertionError("the library's content hashes are not those of the files")


def _size(library: Path) -> int:
    return sum(path.stat().st_size for path in library.rglob("*") if path.is_file())


def _seconds(case: str, contender: str, seconds: float) -> Row:
    return Row("incremental", case, contender, "wall time", round(seconds, 3), "s")
