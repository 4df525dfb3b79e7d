"""rclip's own search, answering over a pipe. Run by the interpreter of rclip's environment.

Its database gets the given vectors through its own ``upsert_image``; each request goes through
its own ``RClip.search``. Left out is its text encoder, which must be fetched from a model hub:
the query's vector is handed over instead.

Usage: python rclip_worker.py FOLDER   with vectors.npy (N, 512) and queries.npy (Q, 512) inside
"""

from __future__ import annotations

import importlib.metadata
import json
import pathlib
import sys
import time

import numpy as np
from rclip.db import DB, NewImage  # type: ignore[import-not-found]
from rclip.main import RClip  # type: ignore[import-not-found]
from rclip.model import Model  # type: ignore[import-not-found]

DIRECTORY = "/pictures"


class GivenQueries(Model):  # type: ignore[misc]
    """rclip's model with the text encoder's answer known beforehand."""

    def __init__(self, queries: np.ndarray) -> None:
        super().__init__()
        self._queries = queries

    def compute_features_for_queries(self, queries: list[str]) -> np.ndarray:
        if not queries:
            return super().compute_features_for_queries(queries)  # type: ignore[no-any-return]
        return self._queries[int(queries[0].removeprefix("query "))]  # type: ignore[no-any-return]


def main(folder: pathlib.Path) -> None:
    start = time.perf_counter()
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    database = DB(folder / "rclip.sqlite3")
    for number, vector in enumerate(vectors):
        path = f"{DIRECTORY}/{number:08}.jpg"
        database.upsert_image(
            NewImage(
                filepath=path, modified_at=0.0, size=1, vector=vector.tobytes(), hash=str(number)
            ),
            commit=False,
        )
    database.commit()
    model = GivenQueries(np.load(folder / "queries.npy"))
    rclip = RClip(model, database, indexing_batch_size=8, exclude_dirs=None)
    say({"version": importlib.metadata.version("rclip"), "setup": time.perf_counter() - start})
    for line in sys.stdin:
        number, k = json.loads(line)
        start = time.perf_counter()
        hits = rclip.search(f"query {number}", DIRECTORY, top_k=k)
        seconds = time.perf_counter() - start
        ids = [int(pathlib.PurePath(hit.filepath).stem) for hit in hits]
        say({"seconds": seconds, "ids": ids, "scores": [float(hit.score) for hit in hits]})


def say(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
