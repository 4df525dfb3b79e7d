"""Does damage of any byte of a library end a search, or go unseen?

A library with an index of vectors and one of tokens is copied, a random file of the copy is
damaged (a bit flipped, the end cut off, a block of zeros), and another process searches it: all,
filtered, for moments, by tokens, and verifies it. It may answer, or say what is damaged; a signal,
a panic that leaves the library or a traceback ends the benchmark with an error, and so does damage
that changes an answer and that verification does not find. Where Lance panics on a damaged row,
which it writes to standard error, and the caller gets one error, is counted.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxsight.benchmarks.cases.faults import flip_reader
from maxsight.benchmarks.measure.rows import Row, timed

_BENCHMARK = "flips"
_KINDS = ("flipped", "cut", "zeroed")
_BLOCK = 512


class Unseen(AssertionError):
    """Damage that ended a reader, or changed what it answers and was not found."""


@dataclass(frozen=True)
class Flip:
    """One damage, and what became of it.

    Attributes:
        kind: ``flipped``, ``cut`` or ``zeroed``.
        file: the kind of file, ``units.lance/data``.
        was_found: by verification.
        is_harmless: every answer is what it was.
        is_panic: Lance panicked, and it was one error.
        seconds: that the searches and the verification took.
    """

    kind: str
    file: str
    was_found: bool
    is_harmless: bool
    is_panic: bool
    seconds: float


def run(data: Path, *, flips: int = 200, seed: int = 0) -> list[Row]:
    """Damage files.

    Args:
        data: not used.
        flips: how many.
        seed: of places and kinds.
    """
    with tempfile.TemporaryDirectory(prefix="maxsight-flips-") as folder:
        done = list(damages(Path(folder), flips=flips, seed=seed))
    counts = Counter(f"{flip.file}, {flip.kind}" for flip in done)
    rows = [
        Row(_BENCHMARK, case, "maxsight", "found or harmless", 100, "%", runs=count)
        for case, count in sorted(counts.items())
    ]
    for metric, value in (
        ("found by verify", sum(flip.was_found for flip in done)),
        ("harmless to every search", sum(flip.is_harmless for flip in done)),
        ("Lance's panic as one error", sum(flip.is_panic for flip in done)),
    ):
        rows.append(
            Row(_BENCHMARK, "all", "maxsight", metric, 100 * value / flips, "%", runs=flips)
        )
    times = [flip.seconds for flip in done]
    rows.append(
        timed(
            times,
            benchmark=_BENCHMARK,
            case="all",
            contender="maxsight",
            metric="search and verify",
        )
    )
    return rows


def damages(folder: Path, *, flips: int, seed: int) -> Iterator[Flip]:
    """Damage copies of one library, and read each.

    Raises:
        Unseen: a reader ended by a signal, a panic or a traceback; or it answers otherwise than
            before, and verification finds nothing.
    """
    draw = random.Random(seed)
    library = folder / "library"
    flip_reader.make(library)
    files = sorted(path for path in library.rglob("*") if path.is_file())
    files = [path for path in files if path.name != "write.lock" and path.stat().st_size]
    with _Reader() as reader:
        before = reader.read(library)
        if before["problems"] or not all(before["answers"].values()):
            raise Unseen(f"the library is not sound before anything is damaged: {before}")
        for number in range(flips):
            kind = _KINDS[max(0, number % 4 - 1)]  # every other one is a flip
            place = draw.choice(files).relative_to(library)
            copy = Path(shutil.copytree(library, folder / "copy"))
            what = f"{kind} {place} {_damage(copy / place, kind, draw)}"
            began = time.perf_counter()
            found = reader.read(copy)
            seconds = time.perf_counter() - began
            if "end" in found:
                raise Unseen(f"{what}: the reader ended with {found['end']}")
            is_harmless = found["answers"] == before["answers"]
            if not (found["problems"] or is_harmless):
                raise Unseen(f"{what}: not found, and answers differ: {found['answers']}"[:2000])
            shutil.rmtree(copy)
            is_panic = "panicked" in found["said"]
            yield Flip(kind, _group(place), bool(found["problems"]), is_harmless, is_panic, seconds)


def _damage(file: Path, kind: str, draw: random.Random) -> str:
    content = bytearray(file.read_bytes())
    place = draw.randrange(len(content))
    if kind == "flipped":
        content[place] ^= 1 << draw.randrange(8)
    elif kind == "cut":
        del content[place:]
    else:
        end = min(place + _BLOCK, len(content))
        content[place:end] = bytes(end - place)
    file.write_bytes(content)
    return f"at {place}"


def _group(place: Path) -> str:
    """The kind of file: its folder in a table or an index, or its own name."""
    if place.parts[0].endswith(".lance"):
        return "/".join(place.parts[:2])
    return f"indexes/{place.name}" if place.parts[0] == "indexes" else place.name


class _Reader:
    """A process that reads libraries; a new one after a death."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._errors.close()

    def read(self, library: Path) -> dict[str, Any]:
        """What the reader says of a library; ``{"end": ...}`` if it ended, or complained."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", flip_reader.__name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env=os.environ | {"RUST_BACKTRACE": "0", "MAXSIGHT_MEMORY": "1GiB"},
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._errors.seek(0)
        self._errors.truncate()
        self._process.stdin.write(f"{library}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        self._errors.seek(0)
        said = self._errors.read()
        if not line:
            status = self._process.wait()
            self._process = None
            return {"end": f"status {status}: {said[-800:]}"}
        if "Traceback" in said:
            return {"end": said[-800:]}
        answer: dict[str, Any] = json.loads(line)
        return answer | {"said": said}

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
