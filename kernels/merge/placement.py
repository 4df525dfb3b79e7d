"""Where tokens go when some of them merge: the arithmetic on places that the torch rooms share.

Documents (images, frames) lie packed behind each other; document s holds the inputs
``offsets[s] ... offsets[s + 1]`` and will hold the outputs ``targets[s] ... targets[s + 1]``.
Its first ``protected`` tokens stay as they are. Of the rest, those at even places are A, which may
move, and those at odd places B, which take them in. Outputs are the protected, what is left of A,
then B, each in the order of the inputs: as ToMe's where there is a class token. Where there is none
ToMe leaves A by falling similarity: the same tokens in another order. A document that loses nothing
keeps its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Sides:
    """A and B of a packed batch.

    Attributes:
        document: (sum L,) int64, the document of every token.
        place: (sum L,) int64, its place in it.
        is_a, is_b: (sum L,) bool; neither for a protected token.
        first_a, first_b: the places where A and B begin.
        removed: (S,) int64, tokens each document loses.
    """

    document: Tensor
    place: Tensor
    is_a: Tensor
    is_b: Tensor
    first_a: int
    first_b: int
    removed: Tensor


def sides(offsets: Tensor, targets: Tensor, *, protected: int, tokens: int) -> Sides:
    """Split every document's tokens."""
    lengths = offsets.diff()
    count = torch.arange(len(lengths), device=offsets.device)
    document = count.repeat_interleave(lengths, output_size=tokens)
    place = torch.arange(tokens, device=offsets.device) - offsets[document]
    free, even = place >= protected, place % 2 == 0
    return Sides(
        document,
        place,
        free & even,
        free & ~even,
        protected + protected % 2,
        protected + 1 - protected % 2,
        lengths - targets.diff(),
    )


def outputs_of(sides: Sides, targets: Tensor, values: Tensor, partners: Tensor) -> Tensor:
    """The output that every token goes to.

    Args:
        values: (tokens of A,) the similarity of each to its partner, never NaN.
        partners: (tokens of A,) int64, place of the partner among its document's B.

    Returns:
        (sum L,) int64.
    """
    of_a = sides.document[sides.is_a]
    # Two stable sorts: by document, then by falling similarity, then by place.
    order = values.argsort(descending=True, stable=True)
    order = order[of_a[order].argsort(stable=True)]
    rank = torch.empty_like(order)
    rank[order] = _within(of_a)
    merged = rank < sides.removed[of_a]

    documents = len(sides.removed)
    left = torch.zeros(documents, dtype=torch.int64, device=targets.device)
    left.index_add_(0, of_a, (~merged).long())
    protected = sides.place[~(sides.is_a | sides.is_b)]
    heads = torch.zeros_like(left).index_add_(
        0, sides.document[~(sides.is_a | sides.is_b)], torch.ones_like(protected)
    )
    first_left = targets[:-1] + heads
    first_taken = first_left + left

    kept_before = (~merged).long().cumsum(0) - (~merged).long()
    before_document = (left.cumsum(0) - left)[of_a]
    place_left = first_left[of_a] + kept_before - before_document
    source = targets[sides.document] + sides.place
    source[sides.is_a] = torch.where(merged, first_taken[of_a] + partners, place_left)
    of_b = sides.document[sides.is_b]
    source[sides.is_b] = first_taken[of_b] + (sides.place[sides.is_b] - sides.first_b) // 2
    whole = sides.removed[sides.document] == 0
    return torch.where(whole, targets[sides.document] + sides.place, source)


def members(source: Tensor, outputs: int) -> tuple[Tensor, Tensor]:
    """Which inputs every output is made of, in the inputs' order.

    Returns:
        ``(order, starts)``: output o is made of ``order[starts[o] : starts[o + 1]]``.
    """
    sorted_source, order = source.sort(stable=True)
    places = torch.arange(outputs + 1, device=source.device)
    return order, torch.searchsorted(sorted_source, places)


def _within(document: Tensor) -> Tensor:
    """0, 1, 2 ... in every run of equal documents."""
    places = torch.arange(len(document), device=document.device)
    return places - torch.searchsorted(document, document)
