"""Candidates by MUVERA encodings, in any vector index: a library too long to look at each document.

Needs torch, which the rest of a search by tokens does without.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from maxsight.errors import LibraryError, UsageError
from maxsight.index.ann import auto, saved
from maxsight.index.ann.contract import Effort, VectorIndex
from maxsight.index.array_types import Floats, Halves, Mask, Rows
from maxsight.index.late.token_files import widened
from maxsight.index.records import TokenTable

if TYPE_CHECKING:
    from maxsight.kernels.fde import Config

# Encodings an index learns from, at most.
_SAMPLE = 20_000
# Documents encoded at a time.
_DOCUMENTS = 2_048


@dataclass(frozen=True, eq=False)
class Muvera:
    """Encodings of documents in an index: row i is document i.

    Attributes:
        config: what decides an encoding.
        index: of ``config.dim`` dimensions.
    """

    config: Config
    index: VectorIndex

    @staticmethod
    def build(spec: str, documents: Iterable[TokenTable], *, dim: int, seed: int = 0) -> Muvera:
        """Encode documents into an index.

        Args:
            spec: as ``index.ann.auto.make`` takes it, or ``auto``: codes of 4 bits for every 8
                dimensions, scanned.
            documents: tokens of ``dim`` dimensions.

        Raises:
            UsageError: there is no document, or the index cannot be made of these.
        """
        from maxsight.kernels.fde import Config

        config = Config(token_dim=dim, seed=seed)
        found = Muvera(config, auto.make(_spec(spec, config.dim), config.dim))
        waiting: list[Halves] = []
        trained = False
        for part in _encoded(documents, config):
            waiting.append(part)
            if not trained and sum(map(len, waiting)) < _SAMPLE:
                continue
            if not trained:
                found.index.train(np.concatenate(waiting).astype(np.float32))
                trained = True
            for each in waiting:
                found.index.add(each)
            waiting = []
        if waiting and not trained:
            found.index.train(np.concatenate(waiting).astype(np.float32))
        for each in waiting:
            found.index.add(each)
        if not len(found.index):
            raise UsageError("there is no document to make encodings of")
        return found

    @staticmethod
    def open(folder: Path) -> Muvera:
        """What :meth:`save` wrote.

        Raises:
            LibraryError: it is damaged.
        """
        from maxsight.kernels.fde import Config

        index, details = saved.load(folder)
        try:
            config = Config.from_dict(details["encoding"])
        except (KeyError, ValueError, TypeError) as error:
            raise LibraryError(f"{folder} is damaged ({error}): make the index again") from None
        return Muvera(config, index)

    def save(self, folder: Path) -> None:
        """Write everything into a new folder."""
        saved.save(self.index, folder, details={"encoding": self.config.to_dict()})

    def add(self, documents: Iterable[TokenTable]) -> None:
        """Append documents."""
        for part in _encoded(documents, self.config):
            self.index.add(part)

    def candidates(
        self, tokens: Floats, offsets: Rows, count: int, *, allowed: Mask | None = None
    ) -> Rows:
        """The ``count`` documents of best encoding for each query, (B, count), best first, -1 where
        there are fewer.
        """
        import torch

        from maxsight.kernels import fde

        queries = fde.encode_queries(
            torch.from_numpy(tokens), torch.from_numpy(offsets), self.config
        ).numpy()
        effort = Effort(self.index.effort.probes, max(count, self.index.effort.shortlist))
        if allowed is None or allowed.ndim == 1:
            return self.index.search(queries, count, allowed=allowed, effort=effort)[1]
        parts = [
            self.index.search(one[None], count, allowed=own, effort=effort)[1]
            for one, own in zip(queries, allowed)
        ]
        return np.concatenate(parts)


def _spec(spec: str, dim: int) -> str:
    return f"PQ{dim // 8}x4fs" if spec == "auto" else spec


def _encoded(documents: Iterable[TokenTable], config: Config) -> Iterator[Halves]:
    import torch

    from maxsight.kernels import fde

    for table in documents:
        for start in range(0, len(table.offsets) - 1, _DOCUMENTS):
            edges = table.offsets[start : start + _DOCUMENTS + 1]
            own = slice(int(edges[0]), int(edges[-1]))
            # Copied: torch warns of memory that cannot be written to.
            sizes: npt.NDArray[np.float32] = np.array(table.sizes[own], np.float32)
            found = fde.encode_documents(
                torch.from_numpy(widened(table.tokens[own], table.scales[own])),
                torch.from_numpy(edges - edges[0]),
                config,
                weights=torch.from_numpy(sizes),
            )
            yield found.numpy().astype(np.float16)
