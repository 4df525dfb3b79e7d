"""Documents' tokens as they are given, kept aside while an index is made of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maxsight.errors import UsageError
from maxsight.index.array_types import Floats
from maxsight.index.late.token_files import (
    LENGTHS,
    SCALES,
    TOKENS,
    TokenWriter,
    units,
    widened,
)
from maxsight.index.records import TokenTable
from maxsight.kernels.maxsim import CodedTokens

_SIZES = "sizes.bin"
# Documents at a time, when they are read through.
_DOCUMENTS = 4_096


class GivenTokens:
    """Tokens in int8, written once to a folder, read from there as often as needed.

    Args:
        folder: an empty one.
        documents: tables of tokens, of one width.

    Attributes:
        dim: d of the tables.
        coded: the tokens, d a multiple of 8, without centroids.

    Raises:
        UsageError: tables of different width, or none.
    """

    def __init__(self, folder: Path, documents: Iterable[TokenTable]) -> None:
        self.dim = 0
        writer = TokenWriter(folder, None, {})
        with closing(writer), (folder / _SIZES).open("w+b") as sizes:
            for table in documents:
                if self.dim and table.tokens.shape[1] != self.dim:
                    raise UsageError(
                        f"tokens have {self.dim} dimensions and then {table.tokens.shape[1]}"
                    )
                self.dim = table.tokens.shape[1]
                writer.add(padded(table))
                sizes.write(np.ascontiguousarray(table.sizes, np.float32).tobytes())
            writer.finish()
        if not self.dim:
            raise UsageError("no table of tokens was given, so that their width is not known")
        lengths = _mapped(folder / LENGTHS, "<u4")
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
        width = -(-self.dim // 8) * 8
        self._sizes = _mapped(folder / _SIZES, "<f4")
        self.coded = CodedTokens(
            ids=np.empty(0, np.uint8),
            centroids=np.zeros((1, width), np.int8),
            data=_mapped(folder / TOKENS, np.uint8).reshape(-1, width),
            bits=8,
            levels=None,
            scale=_mapped(folder / SCALES, "<f4"),
            offsets=offsets,
        )

    def tables(self) -> Iterator[TokenTable]:
        """All documents, some thousands at a time."""
        coded = self.coded
        assert coded.scale is not None
        for start in range(0, coded.documents, _DOCUMENTS):
            edges = coded.offsets[start : start + _DOCUMENTS + 1]
            own = slice(int(edges[0]), int(edges[-1]))
            yield TokenTable(
                coded.data[own].view(np.int8), coded.scale[own], self._sizes[own], edges - edges[0]
            )

    def sample(self, count: int, draw: np.random.Generator) -> Floats:
        """At most ``count`` tokens as unit vectors."""
        coded = self.coded
        assert coded.scale is not None
        rows = np.arange(len(coded.data))
        if len(rows) > count:
            rows = np.sort(draw.choice(len(rows), count, replace=False))
        return units(widened(coded.data[rows].view(np.int8), coded.scale[rows]))


def padded(table: TokenTable) -> TokenTable:
    """The same tokens with zeros up to a multiple of 8 dimensions."""
    missing = -table.tokens.shape[1] % 8
    if not missing:
        return table
    tokens = np.pad(table.tokens, ((0, 0), (0, missing)))
    return TokenTable(tokens, table.scales, table.sizes, table.offsets)


def _mapped(file: Path, kind: npt.DTypeLike) -> npt.NDArray[Any]:
    if not file.stat().st_size:
        return np.empty(0, kind)
    return np.memmap(file, kind, mode="r")
