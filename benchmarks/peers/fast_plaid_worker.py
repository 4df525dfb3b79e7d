"""fast-plaid's own index and search, answering over a pipe. Run by its environment's interpreter.

Usage: python fast_plaid_worker.py FOLDER INDEX FULL PROBES   with vectors.npy (N, L, d) and
queries.npy (G, B, l, d) inside the folder; INDEX is where its index is, or is to be made. Request
number g asks the B queries of group g at once; the answer's seconds are of the processor.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import pathlib
import sys
import time

import numpy as np
import torch
from fast_plaid import search  # type: ignore[import-not-found]


def main(folder: pathlib.Path, index: pathlib.Path, full: int, probes: int) -> None:
    torch.set_num_threads(1)
    index.mkdir(parents=True, exist_ok=True)
    made = index / "seconds"
    plaid = search.FastPlaid(index=str(index / "index"), device="cpu")
    if not made.exists():
        tokens = torch.from_numpy(np.load(folder / "vectors.npy"))
        start = processor_seconds()
        plaid.create(documents_embeddings=list(tokens))
        seconds = processor_seconds() - start
        made.write_text(str(seconds))
    queries = torch.from_numpy(np.load(folder / "queries.npy"))
    seconds = float(made.read_text())
    say({"version": importlib.metadata.version("fast-plaid"), "setup": seconds})
    for line in sys.stdin:
        group, k = json.loads(line)
        start = processor_seconds()
        found = plaid.search(
            queries_embeddings=queries[group],
            top_k=k,
            n_full_scores=full,
            n_ivf_probe=probes,
            show_progress=False,
        )
        seconds = processor_seconds() - start
        hits = [hit for one in found for hit in one]
        counts = [len(one) for one in found]
        assert counts == [k] * len(counts), counts
        say(
            {"seconds": seconds, "ids": [i for i, _ in hits], "scores": [float(s) for _, s in hits]}
        )


def processor_seconds() -> float:
    """Of this process and of those it has ended."""
    return time.process_time() + sum(os.times()[2:4])


def say(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    folder, index, full, probes = sys.argv[1:]
    main(pathlib.Path(folder), pathlib.Path(index), int(full), int(probes))
