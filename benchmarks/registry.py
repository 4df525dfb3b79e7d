"""The benchmarks by name. Each module has ``run(data, rest...) -> list[Row]`` and a docstring
whose first line says what it answers."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from maxsight.benchmarks.rows import Row
from maxsight.errors import UsageError

# name -> (module, the question it answers)
BENCHMARKS = {
    "builtin-recall": (
        "maxsight.benchmarks.builtin_recall",
        "How well does the built-in encoder find pictures it was not trained on?",
    ),
    "scenes": (
        "maxsight.benchmarks.scenes",
        "Does late interaction find pictures of several things, and cost nothing on those of one?",
    ),
    "long-pictures": (
        "maxsight.benchmarks.long_pictures",
        "What is found of long pictures: seen whole, squeezed, or in squares?",
    ),
    "composed": (
        "maxsight.benchmarks.composed_triplets",
        "Does a picture plus a change in words find the changed picture?",
    ),
    "moments": (
        "maxsight.benchmarks.moment_films",
        "Is the right span of a film found, and how sharp are its ends?",
    ),
    "ingestion": (
        "maxsight.benchmarks.ingestion",
        "How many pictures a second are indexed, against the encoder alone?",
    ),
    "latency": (
        "maxsight.benchmarks.search_latency",
        "How long does a warm search take, against FAISS flat and other tools?",
    ),
    "large-library": (
        "maxsight.benchmarks.large_library",
        "Can a library be searched that is larger than the memory it may take?",
    ),
    "topk": (
        "maxsight.benchmarks.similarity_topk",
        "How many queries a second does exact top-k answer, against FAISS flat and torch?",
    ),
    "filters": (
        "maxsight.benchmarks.filtered_search",
        "Does a filter cost an index recall, and time, however few rows it lets through?",
    ),
    "ann": (
        "maxsight.benchmarks.ann",
        "How many queries a second does an approximate index answer at a recall, against others?",
    ),
    "leanvec": (
        "maxsight.benchmarks.leanvec_effect",
        "What does LeanVec keep of the ten best rows, against principal components?",
    ),
    "maxsim": (
        "maxsight.benchmarks.maxsim_scoring",
        "How many documents a second does MaxSim score, against the best of the others?",
    ),
    "late-interaction": (
        "maxsight.benchmarks.late_interaction",
        "How many queries a second does late interaction answer, and with how many bytes a token?",
    ),
    "token-merging": (
        "maxsight.benchmarks.token_merging",
        "What does merging tokens cost, against the transformer block that it is meant to shorten?",
    ),
    "encoder-merging": (
        "maxsight.benchmarks.encoder_merging",
        "How many more pictures a second does an encoder take when its tokens merge?",
    ),
    "aim-pruning": (
        "maxsight.benchmarks.aim_pruning",
        "How much faster does a language model read pictures when visual tokens leave on the way?",
    ),
    "encoder-speed": (
        "maxsight.benchmarks.encoder_speed",
        "How many pictures and texts a second does each encoder take on this machine?",
    ),
    "preprocessing": (
        "maxsight.benchmarks.preprocessing",
        "How long does it take to scale a picture for an encoder, against Pillow and torchvision?",
    ),
    "incremental": (
        "maxsight.benchmarks.incremental",
        "Does indexing again do exactly what changed, and survive being killed at any moment?",
    ),
    "crashes": (
        "maxsight.benchmarks.crashes",
        "Does a library survive a writer that is killed, at any moment, whatever it was doing?",
    ),
    "flips": (
        "maxsight.benchmarks.flips",
        "Does damage of any byte of a library end a search, or go unseen?",
    ),
    "startup": (
        "maxsight.benchmarks.startup",
        "How long does a cold command take, against importing torch?",
    ),
}


@dataclass(frozen=True)
class Benchmark:
    """A benchmark that can be run: ``run(data)`` with a folder for fetched material."""

    name: str
    question: str
    run: Callable[[Path], list[Row]]


def load(name: str) -> Benchmark:
    """Import a benchmark by name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in BENCHMARKS:
        raise UsageError(f"no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
    module, question = BENCHMARKS[name]
    return Benchmark(name, question, importlib.import_module(module).run)
