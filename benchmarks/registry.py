"""The benchmarks by name. Each module has ``run(data, rest...) -> list[Row]`` and a docstring
whose first line says what it answers."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from maxsight.benchmarks.measure.rows import Row
from maxsight.errors import UsageError

# name -> (module, the question it answers)
BENCHMARKS = {
    "builtin-recall": (
        "maxsight.benchmarks.cases.builtin_recall",
        "How well does the built-in encoder find pictures it was not trained on?",
    ),
    "scenes": (
        "maxsight.benchmarks.cases.scenes",
        "Does late interaction find pictures of several things, and cost nothing on those of one?",
    ),
    "long-pictures": (
        "maxsight.benchmarks.cases.long_pictures",
        "What is found of long pictures: seen whole, squeezed, or in squares?",
    ),
    "composed": (
        "maxsight.benchmarks.cases.composed_triplets",
        "Does a picture plus a change in words find the changed picture?",
    ),
    "moments": (
        "maxsight.benchmarks.cases.moment_films",
        "Is the right span of a film found, and how sharp are its ends?",
    ),
    "ingestion": (
        "maxsight.benchmarks.cases.ingestion",
        "How many pictures a second are indexed, against the encoder alone?",
    ),
    "latency": (
        "maxsight.benchmarks.cases.search_latency",
        "How long does a warm search take, against FAISS flat and other tools?",
    ),
    "large-library": (
        "maxsight.benchmarks.cases.large_library",
        "Can a library be searched that is larger than the memory it may take?",
    ),
    "topk": (
        "maxsight.benchmarks.cases.kernels.similarity_topk",
        "How many queries a second does exact top-k answer, against FAISS flat and torch?",
    ),
    "filters": (
        "maxsight.benchmarks.cases.filtered_search",
        "Does a filter cost an index recall, and time, however few rows it lets through?",
    ),
    "ann": (
        "maxsight.benchmarks.cases.ann",
        "How many queries a second does an approximate index answer at a recall, against others?",
    ),
    "leanvec": (
        "maxsight.benchmarks.cases.leanvec_effect",
        "What does LeanVec keep of the ten best rows, against principal components?",
    ),
    "maxsim": (
        "maxsight.benchmarks.cases.kernels.maxsim_scoring",
        "How many documents a second does MaxSim score, against the best of the others?",
    ),
    "late-interaction": (
        "maxsight.benchmarks.cases.late_interaction",
        "How many queries a second does late interaction answer, and with how many bytes a token?",
    ),
    "token-merging": (
        "maxsight.benchmarks.cases.kernels.token_merging",
        "What does merging tokens cost, against the transformer block that it is meant to shorten?",
    ),
    "encoder-merging": (
        "maxsight.benchmarks.cases.encoder_merging",
        "How many more pictures a second does an encoder take when its tokens merge?",
    ),
    "aim-pruning": (
        "maxsight.benchmarks.cases.aim_pruning",
        "How much faster does a language model read pictures when visual tokens leave on the way?",
    ),
    "encoder-speed": (
        "maxsight.benchmarks.cases.encoder_speed",
        "How many pictures and texts a second does each encoder take on this machine?",
    ),
    "preprocessing": (
        "maxsight.benchmarks.cases.preprocessing",
        "How long does it take to scale a picture for an encoder, against Pillow and torchvision?",
    ),
    "incremental": (
        "maxsight.benchmarks.cases.incremental",
        "Does indexing again do exactly what changed, and survive being killed at any moment?",
    ),
    "crashes": (
        "maxsight.benchmarks.cases.faults.crashes",
        "Does a library survive a writer that is killed, at any moment, whatever it was doing?",
    ),
    "flips": (
        "maxsight.benchmarks.cases.faults.flips",
        "Does damage of any byte of a library end a search, or go unseen?",
    ),
    "threads": (
        "maxsight.benchmarks.cases.faults.threads",
        "Do threads that share a library each see one state of it, while it changes?",
    ),
    "startup": (
        "maxsight.benchmarks.cases.startup",
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
