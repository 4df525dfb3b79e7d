"""A writer that says what it is about to do and what it has done, until it is killed.

``python -m maxsight.benchmarks.cases.faults.crash_writer LIBRARY SEED WORK``. One JSON object a
line: ``{"try": ..., "during": ...}`` before a step, and ``{"done": [ids]}`` once the library has
acknowledged it. Every
number of an item follows from the name of its content, so that a reader can check all of it.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from maxsight.index.records import Changes, EncodedItem, FileState
from maxsight.index.store import Store

DIM = 24
INDEX = "IVF4,Flat"
WORKS = ("add", "compact", "index")
# What the library should hold: item id -> path and content.
Held = Mapping[int, tuple[str, str]]


def item(path: str, content: str) -> EncodedItem:
    """``content`` ending in ``*N`` is a film of N units, anything else a picture."""
    _, star, count = content.partition("*")
    units = int(count) if star else 1
    seed = int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big")
    vectors = np.random.default_rng(seed).standard_normal((units, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    starts = np.arange(units, dtype=np.float64)
    return EncodedItem(
        state=FileState(path, bytes=len(content), mtime_ns=1),
        kind="video" if star else "image",
        content_hash=content,
        width=64,
        height=48,
        vectors=vectors,
        spans=np.stack([starts, starts + 1], axis=1) if star else None,
        duration_s=float(units) if star else None,
    )


def main(library: str, seed: str, work: str) -> None:
    """Open the library and change it without end."""
    draw = random.Random(f"{seed}/{work}")
    arm()
    with Store.open(Path(library), write=True) as store:
        say({"open": os.getpid()})
        for number in range(1_000_000):
            step(store, draw, f"{seed}.{number}")
            if work == "compact" or draw.random() < 0.1:
                say({"try": {}, "during": "compaction"})
                store.compact(grace_seconds=0)
                say({"done": []})
            if work == "index":
                from maxsight.index.building import vector_index

                say({"try": {}, "during": "index build"})
                vector_index.build(store.snapshot(), INDEX)
                say({"done": []})


def step(store: Store, draw: random.Random, name: str) -> None:
    """Add, replace and remove some files."""
    known = sorted(store.known().values(), key=lambda held: held.item_id)
    draw.shuffle(known)
    changed, gone = known[:2], known[2 : 2 + len(known) // 8]
    added = [(f"/{name}.{n}", f"{name}.{n}{draw.choice(['', '*5'])}") for n in range(8)]
    replaced = [(held.item_id, held.state.path, f"{name}r{held.item_id}*2") for held in changed]
    removed = [held.item_id for held in gone]
    trying = {"added": added, "replaced": replaced, "removed": removed}
    say({"try": trying, "during": "ingestion step"})
    ids = store.apply(
        Changes(
            added=[item(*pair) for pair in added],
            replaced=[(item_id, item(path, content)) for item_id, path, content in replaced],
            removed=removed,
        )
    )
    say({"done": ids})


def say(what: dict[str, Any]) -> None:
    """Print a line at once; one call, so that it is there whole or not at all."""
    os.write(1, json.dumps(what).encode() + b"\n")


def arm() -> None:
    """Start counting towards the call at which this process is to die, if it is."""
    if "MAXSIGHT_KILL_AT" in os.environ:
        ctypes.CDLL(None).maxsight_arm(int(os.environ["MAXSIGHT_KILL_AT"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
