"""What is looked for: terms with weights, how many files, and which may be found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from maxsight.arguments import choices, is_number, is_text, is_unicode, whole_number
from maxsight.errors import UsageError
from maxsight.index import records
from maxsight.shown import shown

if TYPE_CHECKING:
    from maxsight.index.records import Kind

Rerank = Literal["auto", "on", "off"]


@dataclass(frozen=True, eq=False)
class Term:
    """One ingredient of a query: exactly one of ``text``, ``image`` and ``vector``.

    Attributes:
        text: words, not blank.
        phrases: other words whose vectors' mean stands for the text's
            (pipelines/query/expansion.py).
        image: path of a picture.
        vector: (D,) in the library's space; it is normalised.
        weight: more than one matters more, below zero means *less of this*.
    """

    text: str | None = None
    image: Path | None = None
    vector: np.ndarray | None = None
    weight: float = 1.0
    phrases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        given = [v for v in (self.text, self.image, self.vector) if v is not None]
        if len(given) != 1:
            raise UsageError("a term is exactly one of a text, an image and a vector")
        if self.text is not None and not is_text(self.text):
            raise UsageError(f"a text must be a str, got {type(self.text).__name__}")
        for text in (self.text or "", *self.phrases):
            if not is_unicode(text):
                raise UsageError(f"a text must be UTF-8, got {shown(text)}")
        if self.text is not None and not self.text.strip():
            raise UsageError("an empty text finds nothing: describe what you are looking for")
        if not is_number(self.weight) or not math.isfinite(self.weight) or self.weight == 0:
            raise UsageError(f"a weight must be a finite number other than 0, got {self.weight}")


@dataclass(frozen=True)
class Query:
    """What is looked for, and where.

    Attributes:
        terms: summed by their weights into one vector (``maxsight.models.compose``).
        k: how many files at most.
        where: SQL over the item columns (docs/storage.md), say ``width > 1000``.
        kinds: restrict to ``image`` or ``video``; None means both.
        include_references: also return the pictures that the query itself names.
        rerank: whether texts are scored by the stored tokens, too (docs/late-interaction.md).
            ``auto``: where there are tokens, of an encoder for which it was measured.
    """

    terms: tuple[Term, ...]
    k: int = 10
    where: str | None = None
    kinds: frozenset[Kind] | None = None
    include_references: bool = False
    rerank: Rerank = "auto"

    def __post_init__(self) -> None:
        if not self.terms:
            raise UsageError("an empty query: give a text, an image or a vector")
        if all(term.weight < 0 for term in self.terms):
            raise UsageError("a query of minus terms only: say also what you do want")
        whole_number(self.k, what="k")
        if self.kinds is not None:
            choices(self.kinds, records.KINDS, what="a kind")
        if self.rerank not in ("auto", "on", "off"):
            raise UsageError(f"rerank must be auto, on or off, got {self.rerank!r}")
        if self.rerank == "on" and not any(term.text is not None for term in self.terms):
            raise UsageError("nothing to rerank: only texts are scored by tokens; add a text")
