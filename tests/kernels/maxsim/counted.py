"""Launches of MaxSim's calls on a GPU, as JSON; test_launches.py runs this in its own process."""

from __future__ import annotations

import json

import torch
from launches import counted, pretend

from maxsight.kernels import maxsim


def main() -> None:
    pretend()
    tokens = torch.zeros(300, 128, dtype=torch.float16)
    one, some = torch.tensor([0, 32]), torch.tensor([0, 32, 100, 300])
    bounds = torch.tensor([0, 49, 49, 98, 300])
    pairs = torch.tensor([[0, 0], [0, 2]])
    short, wide = maxsim.Packing.of(one, 32), maxsim.Packing.of(some, 300)
    documents, three = maxsim.Packing.of(bounds, 300), maxsim.Packing.of(some, 300)
    calls = {
        "score": lambda: maxsim.score(tokens[:32], short, tokens, documents),
        "score of several tiles": lambda: maxsim.score(tokens, wide, tokens, documents),
        "score of offsets": lambda: maxsim.score(tokens[:32], one, tokens, bounds),
        "each with its own": lambda: maxsim.score_pairs(tokens, wide, tokens, three),
        "pairs": lambda: maxsim.score_pairs(tokens[:32], short, tokens, documents, pairs=pairs),
        "pairs of offsets": lambda: maxsim.score_pairs(
            tokens[:32], one, tokens, bounds, pairs=pairs
        ),
    }
    print(json.dumps({name: counted(call) for name, call in calls.items()}))


if __name__ == "__main__":
    main()
