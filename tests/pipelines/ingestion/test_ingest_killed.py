"""A run that ends early leaves what it had encoded, and the next goes on."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
from brightening import write_film
from decoders import support_environment
from hostile import distinct_pictures
from ingested_world import ENCODER, World, assert_right, counts, never
from PIL import Image

from maxsight.index.store import Store

# A run that commits often and encodes slowly, so that there is something to interrupt.
PROGRAM = """
import json, signal, sys, time
# Tests that run in the background have inherited a shell's order to ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
from dataclasses import asdict
import torch
from maxsight.index.store import Store
from maxsight.pipelines.ingestion import ingest as module
from colour_grid import ColourGridEncoder

class Slow(ColourGridEncoder):
    def encode_images(self, images, *, tokens=False):
        time.sleep(0.02)
        return super().encode_images(images, tokens=tokens)

def progress(p):
    if p.stage == "read" and p.done >= 4:
        print("reading", flush=True)

module.COMMIT_SECONDS = float(sys.argv[3])
with Store.open(sys.argv[1], write=True) as store:
    try:
        report = module.ingest(store, Slow, [sys.argv[2]], fps=2, batch_size=2, progress=progress)
    except module.IngestInterrupted as stop:
        report = stop.report
print(json.dumps(asdict(report)), flush=True)
"""


def start(world: World, *, commit_seconds: float) -> Iterator[subprocess.Popen[str]]:
    arguments = [sys.executable, "-c", PROGRAM, str(world.library), str(world.photos)]
    with subprocess.Popen(
        [*arguments, str(commit_seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=support_environment(),
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == "reading\n", process.communicate()
        yield process


@pytest.fixture(scope="module")
def many_pictures() -> list[Image.Image]:
    return distinct_pictures(100)


def test_ctrl_c_keeps_what_is_encoded(world: World, many_pictures: list[Image.Image]) -> None:
    for number, picture in enumerate(many_pictures):
        picture.save(world.photos / f"{number}.png")
    for process in start(world, commit_seconds=1000):
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=20)
        assert process.returncode == 0, errors
    report = json.loads(out.splitlines()[-1])
    assert report["interrupted"]
    contents = world.contents()
    assert 4 <= len(contents) == report["added"] < 100
    again = world.ingest()
    assert counts(again) == {"added": 100 - len(contents), "unchanged": len(contents)}
    assert_right(world)


def test_kill_at_any_moment_and_go_on(world: World, many_pictures: list[Image.Image]) -> None:
    for number, picture in enumerate(many_pictures):
        picture.save(world.photos / f"{number}.png")
    write_film(world.photos / "film.mp4", seconds=10)
    dice = random.Random(0)
    committed = [0]
    for _ in range(3):
        for process in start(world, commit_seconds=0.05):
            # However busy the machine: the first is not killed before it has stored something.
            deadline = time.monotonic() + 60
            while committed == [0] and time.monotonic() < deadline:
                with Store.open(world.library) as store:
                    if store.known():
                        break
                time.sleep(0.05)
            time.sleep(dice.uniform(0, 0.5))
            process.kill()
            process.communicate()
        contents = world.contents()
        assert len(contents) >= committed[-1]
        committed.append(len(contents))
        if len(contents) > 50:  # the next run may be over before it tells that it reads
            break
    assert committed[1] > 0
    world.ingest()
    contents = world.contents()
    assert len(contents) == 101
    assert len({item_id for item_id, _ in contents.values()}) == 101
    assert len(contents["film.mp4"][1]) == 20
    with Store.open(world.library) as store:
        hits = store.snapshot().search(np.ones((1, ENCODER.dim), np.float32), 1000)[0]
    assert len(hits) == 100 + 20
    (world.photos / "film.mp4").unlink()
    world.ingest(never)
    assert_right(world)
