"""Documents of several topics, as tables of tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from maxsight.index.array_types import Floats
from maxsight.index.records import TokenTable
from maxsight.kernels import int8


@dataclass(frozen=True, eq=False)
class TokenTopics:
    """Documents of 4 topics out of 40, and queries about two of one document's.

    Attributes:
        table: the documents, of 0 to 24 tokens; document 3 has none and document 5 has one.
        tokens: of each, (L, d), unit vectors as the table's int8 numbers give them.
        queries: (8, d) each.
    """

    table: TokenTable
    tokens: list[Floats]
    queries: list[Floats]

    def scores(self) -> Floats:
        """(Q, N) exact MaxSim."""
        return np.array(
            [
                [(query @ own.T).max(axis=1).sum() if len(own) else 0 for own in self.tokens]
                for query in self.queries
            ],
            np.float32,
        )

    def part(self, first: int, last: int) -> TokenTable:
        """Some of the documents."""
        edges = self.table.offsets[first : last + 1]
        own = slice(edges[0], edges[-1])
        return TokenTable(
            self.table.tokens[own],
            self.table.scales[own],
            self.table.sizes[own],
            edges - edges[0],
        )


def token_table(documents: int, queries: int, dim: int, seed: int = 0) -> TokenTopics:
    draw = np.random.default_rng(seed)

    def near(rows: npt.NDArray[np.float64], away: float) -> npt.NDArray[np.float64]:
        noise = units(draw.standard_normal(rows.shape))
        return units(rows + away * noise)

    pool = units(draw.standard_normal((40, dim)))
    topics = near(pool[np.argsort(draw.random((documents, 40)), axis=1)[:, :4]], 0.5)
    lengths = draw.integers(12, 25, documents)
    lengths[3], lengths[5] = 0, 1
    tokens = [
        near(topics[row][draw.integers(0, 4, count)], 0.9) for row, count in enumerate(lengths)
    ]
    flat = np.concatenate(tokens).astype(np.float32)
    numbers, scales = int8.rounded_array(flat)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    table = TokenTable(numbers, scales, np.ones(len(flat), np.float32), offsets)
    kept = np.split(numbers * scales[:, None], offsets[1:-1])
    about = topics[draw.integers(0, documents, queries)][:, np.arange(8) % 2]
    return TokenTopics(table, kept, list(near(about, 0.9).astype(np.float32)))


def units(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return found
