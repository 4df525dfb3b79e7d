"""The one table of shapes that operations are judged by.

Reports predict, tuning and `make gpu-check` measure, and the benchmarks compare at these.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interaction:
    """MaxSim: how many queries and documents, tokens in each, numbers in a token.

    Attributes:
        shortest: where documents have from so many to ``document_tokens``; None: all as many.
    """

    name: str
    queries: int
    documents: int
    query_tokens: int
    document_tokens: int
    dim: int
    shortest: int | None = None

    @property
    def packed(self) -> int:
        """Query tokens in all."""
        return self.queries * self.query_tokens

    @property
    def tokens(self) -> int:
        """Document tokens in all, where all documents have as many."""
        return self.documents * self.document_tokens

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.queries} x {self.documents:,}, "
            f"{self.query_tokens} x {self.document_tokens} x {self.dim}"
        )


@dataclass(frozen=True)
class Images:
    """Token merging: a batch of images, and what a layer of a tower removes of each."""

    images: int
    tokens: int
    removed: int
    heads: int
    dim: int

    @property
    def left(self) -> int:
        return self.tokens - self.removed

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads


@dataclass(frozen=True)
class Documents:
    """Encodings: documents of as many tokens each."""

    documents: int
    tokens: int
    dim: int

    def __str__(self) -> str:
        return f"{self.documents:,} documents x {self.tokens} x {self.dim}"


RERANK = Interaction("rerank", 1, 1_000, 32, 300, 128)
LONG = Interaction("long", 1, 1_000, 32, 1_024, 128)
MEDIUM = Interaction("medium", 1, 1_000, 128, 1_024, 128)
COLPALI = Interaction("colpali", 1, 1_000, 1_024, 1_024, 128)
CORPUS = Interaction("corpus", 1, 10_000, 32, 300, 128)
TRAIN = Interaction("train", 128, 128, 32, 300, 128)
# Those that late-interaction-kernels publishes its times for.
PUBLISHED = (RERANK, LONG, MEDIUM, COLPALI, CORPUS, TRAIN)
PATCHES = Interaction("patches of CLIP", 1, 10_000, 32, 64, 512)
PATCHES_OF_MANY = Interaction("patches of CLIP", 8, 1_000, 32, 64, 512)
# What one processor is timed at: reranking, ragged passages, long documents, pages, patches.
PROCESSOR = (
    RERANK,
    Interaction("ragged", 1, 1_000, 32, 300, 128, shortest=20),
    Interaction("long, fewer", 1, 200, 32, 1_024, 128),
    Interaction("pages", 1, 200, 1_024, 1_024, 128),
    CORPUS,
    Interaction("patches", 1, 5_000, 77, 50, 512),
)

# Queries at once of a search, rows of a database on a GPU, and numbers of a vector.
QUERIES, ROWS, DIM = (1, 64, 1_024), 1_000_000, 512

# ViT-B at 224 pixels, with the schedule that halves its time.
VIT_B = Images(images=32, tokens=197, removed=13, heads=12, dim=768)

PASSAGES = Documents(10_000, 70, 128)
