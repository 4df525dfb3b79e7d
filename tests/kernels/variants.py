"""Variants of each kernel that calls of many sizes ask for, as JSON; test_variants.py runs this."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import torch
from launches import pretend
from triton import knobs

from maxsight.kernels import maxsim, similarity

SIZES = (999, 4_096, 5_000, 8_191, 16_384)
BATCHES = (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 64, 65, 128)
DIM, TOKENS, LONG = 64, 3, 5


def main() -> None:
    pretend()
    found: dict[str, set[Any]] = defaultdict(set)

    def remember(*, key: Any, fn: Any, **rest: Any) -> bool:
        found[fn.name.rpartition(".")[2]].add(str(key))
        return True  # nothing is compiled

    knobs.runtime.jit_cache_hook = remember
    for rows in SIZES:
        database = torch.zeros(rows, DIM, dtype=torch.float16)
        allowed = torch.ones(rows, dtype=torch.bool)
        documents = maxsim.Packing.of(torch.arange(0, LONG * rows + 1, LONG), LONG * rows)
        held = torch.zeros(LONG * rows, DIM, dtype=torch.float16)
        for count in BATCHES:
            similarity.topk(torch.zeros(count, DIM), database, 10, allowed=allowed)
            asked = torch.zeros(TOKENS * count, DIM, dtype=torch.float16)
            queries = maxsim.Packing.of(torch.arange(0, len(asked) + 1, TOKENS), len(asked))
            maxsim.score(asked, queries, held, documents)
    print(json.dumps({name: len(keys) for name, keys in found.items()}))


if __name__ == "__main__":
    main()
