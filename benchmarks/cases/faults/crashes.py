"""Does a library survive a writer that is killed, at any moment, whatever it was doing?

A process adds, replaces and removes files, compacts, and makes indexes, and is killed: at a random
time, or at a random one of its calls that change the disk, or in the middle of a write. After each
death, the library must hold exactly what was acknowledged, with the step under way done or not, and
pass verification; the next writer goes on with it. A difference ends the benchmark with an error,
it does not become a row.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maxsight.benchmarks.cases.faults import crash_writer, kill_points
from maxsight.benchmarks.measure.rows import Row, timed
from maxsight.index.store import Store
from maxsight.index.verify.verify import verify

_BENCHMARK = "crashes"
# Calls of a few steps; drawn evenly among so many.
_CALLS = 400
_SECONDS = 1.5
# Above this a library is begun anew: looking through it takes longer than killing.
_MOST_FILES = 400


class WrongState(AssertionError):
    """The library is not what the writer was told it is."""


@dataclass(frozen=True)
class Death:
    """One writer's end.

    Attributes:
        moment: ``at a call``, ``in a write`` or ``at a time``.
        during: what the writer had begun and not said to be done; ``opening``, or ``nothing``.
        was_done: whether the library holds it all the same.
        seconds: that opening and reading the library took afterwards.
    """

    moment: str
    during: str
    was_done: bool
    seconds: float


def run(data: Path, *, kills: int = 200, seed: int = 0) -> list[Row]:
    """Kill writers.

    Args:
        data: not used.
        kills: how many.
        seed: of the moments.
    """
    with tempfile.TemporaryDirectory(prefix="maxsight-crashes-") as folder:
        ends = list(deaths(Path(folder), kills=kills, seed=seed))
    cases = Counter(f"during {end.during}, killed {end.moment}" for end in ends)
    finished = 100 * sum(end.was_done for end in ends) / len(ends)
    rows = [
        Row(_BENCHMARK, case, "maxsight", "survived", 100, "%", runs=count)
        for case, count in sorted(cases.items())
    ]
    rows.append(
        Row(_BENCHMARK, "all", "maxsight", "step under way done", finished, "%", runs=kills)
    )
    times = [end.seconds for end in ends]
    rows.append(
        timed(times, benchmark=_BENCHMARK, case="all", contender="maxsight", metric="open and read")
    )
    return rows


def deaths(folder: Path, *, kills: int, seed: int) -> Iterator[Death]:
    """Kill writers, and look after each.

    Raises:
        WrongState: something was lost, doubled or damaged.
    """
    draw = random.Random(seed)
    preload = kill_points.build(folder)
    library, held = folder / "none", dict[int, tuple[str, str]]()
    for number in range(kills):
        if not library.exists() or len(held) > _MOST_FILES:
            library, held = folder / f"library-{number}", {}
            Store.create(
                library, encoder_uri="crashes", fingerprint="f", dim=crash_writer.DIM
            ).close()
        work = crash_writer.WORKS[number % len(crash_writer.WORKS)]
        moment = ("at a call", "in a write", "at a time")[number // len(crash_writer.WORKS) % 3]
        said = _killed(library, f"{seed}.{number}", work, moment, draw, preload)
        began = time.perf_counter()
        with Store.open(library) as store:
            store.snapshot()
            seconds = time.perf_counter() - began
            held, was_done = _settle(store, held, said)
            _check_units(store, held)
        if problems := verify(library).problems:
            raise WrongState(f"{library} after death {number}: {problems}")
        yield Death(moment, _during(said), was_done, seconds)


def _killed(
    library: Path, seed: str, work: str, moment: str, draw: random.Random, preload: Path
) -> list[dict[str, Any]]:
    """What a writer said until it was killed."""
    command = [sys.executable, "-m", crash_writer.__name__, str(library), seed, work]
    environment = dict(os.environ)
    if moment != "at a time":
        call = draw.randint(1, _CALLS) * (1 if moment == "at a call" else -1)
        environment |= {"LD_PRELOAD": str(preload), "MAXSIGHT_KILL_AT": str(call)}
    said = library.with_name("said")
    with (
        said.open("wb") as output,
        subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        if moment == "at a time":
            while not said.stat().st_size and process.poll() is None:
                time.sleep(0.005)
            time.sleep(draw.uniform(0, _SECONDS))
            process.kill()
        _, errors = process.communicate()
    if process.returncode != -signal.SIGKILL:
        raise WrongState(f"the writer ended by itself ({process.returncode}):\n{errors}")
    return [json.loads(line) for line in said.read_text().splitlines()]


def _during(said: list[dict[str, Any]]) -> str:
    if not said:
        return "opening"
    return str(said[-1].get("during", "nothing"))


def _settle(
    store: Store, held: crash_writer.Held, said: list[dict[str, Any]]
) -> tuple[dict[int, tuple[str, str]], bool]:
    """What the library holds, which must be what was acknowledged, or that and one step more."""
    acknowledged = dict(held)
    under_way: dict[str, Any] = {}
    for line in said:
        if "try" in line:
            under_way = line["try"]
        elif "done" in line:
            _apply(acknowledged, under_way, line["done"])
            under_way = {}
    known = store.known().values()
    found = {item.item_id: (item.state.path, item.content_hash) for item in known}
    if found == acknowledged:
        return found, False
    added = {path for path, _ in under_way.get("added", ())}
    new = sorted(item_id for item_id, (path, _) in found.items() if path in added)
    if new and min(new) <= max(held, default=-1):
        raise WrongState(f"{store.path} gave an id twice: {new}")
    _apply(acknowledged, under_way, new)
    if found != acknowledged:
        raise WrongState(
            f"{store.path} holds {sorted(found.items() - acknowledged.items())} and lacks "
            f"{sorted(acknowledged.items() - found.items())}"
        )
    return found, True


def _apply(held: dict[int, tuple[str, str]], step: dict[str, Any], ids: list[int]) -> None:
    for item_id in step.get("removed", ()):
        held.pop(item_id, None)
    for item_id, path, content in step.get("replaced", ()):
        held[item_id] = path, content
    for item_id, (path, content) in zip(ids, step.get("added", ()), strict=False):
        held[item_id] = path, content


def _check_units(store: Store, held: crash_writer.Held) -> None:
    """Every vector is the right one, and a search finds all of them once and nothing else."""
    snapshot = store.snapshot()
    for item_id, pair in held.items():
        expected = crash_writer.item(*pair).vectors.astype(np.float16)
        if not np.array_equal(snapshot.item_vectors(item_id), expected):
            raise WrongState(f"{store.path}: item {item_id} has other vectors than {pair} has")
    if snapshot.item_count != len(held):
        raise WrongState(f"{store.path}: {snapshot.item_count} items, not {len(held)}")
    if not held:
        return
    query = np.ones((1, crash_writer.DIM), np.float32)
    (hits,) = snapshot.search(query, 10)
    rows = [hit.unit_id for hit in hits]
    if len(set(rows)) != len(rows) or not {hit.item_id for hit in hits} <= held.keys():
        raise WrongState(f"{store.path}: a search found what is not there: {hits}")
