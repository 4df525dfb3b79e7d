"""Changes the library named on the command line, without end, until it is killed.

Paths begin with a token that stays with a file for life, so that a reader who finds one item id
under two tokens has caught an id used twice. Contents are those of conftest.Samples.
"""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path

from maxsight.index.records import Changes, Failure, FileState
from maxsight.index.store import Store

spec = importlib.util.spec_from_file_location("samples", Path(__file__).with_name("conftest.py"))
assert spec is not None
assert spec.loader is not None
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
samples = module.Samples()


def main(library: str, seed: str, grace_seconds: str) -> None:
    choose = random.Random(seed)
    with Store.open(library, write=True) as store:
        print("writing", flush=True)
        number = 0
        while True:
            known = sorted(store.known().values(), key=lambda item: item.item_id)
            choose.shuffle(known)
            replaced, restated, removed = known[:2], known[2:4], known[4 : 4 + len(known) // 10]
            step = f"{seed}.{number}"
            number += 1
            store.apply(
                Changes(
                    added=[
                        samples.item(f"/{step}.{i}/0", f"{step}.{i}{choose.choice(['', '*5'])}")
                        for i in range(choose.randint(0, 5))
                    ],
                    replaced=[
                        (item.item_id, samples.item(item.state.path, f"{step}r{item.item_id}*2"))
                        for item in replaced
                    ],
                    restated=[
                        (item.item_id, FileState(item.state.path + "0", 1, 1)) for item in restated
                    ],
                    removed=[item.item_id for item in removed],
                    failed=[Failure(FileState(f"/{step}/bad", 1, 1), step)],
                )
            )
            if choose.random() < 0.15:
                store.compact(grace_seconds=float(grace_seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
