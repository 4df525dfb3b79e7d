"""The visual tokens of a batch on their way through a language model: which stay, and where.

Source: Zhong et al., AIM: Adaptive Inference of Multi-Modal LLMs via Token Merging and Pruning,
2024, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from maxsight.kernels.merge import merge

_TEMPERATURE = 0.1
_ITERATIONS = 5


class Batch:
    """A batch on its way through the language model.

    Attributes:
        is_left: (B, L) bool: real tokens that have neither been merged away nor pruned.
        sizes: (B, L) float32: how many visual tokens each of them stands for, 1 for text; None
            where nothing is merged.
    """

    def __init__(
        self, *, visual: Tensor, is_real: Tensor, merge_share: float, shares: Sequence[float]
    ) -> None:
        self.is_left = is_real.clone()
        self.sizes: Tensor | None = None
        self._visual = visual & is_real
        self._merge_share = merge_share
        self._shares = shares
        self._entered: list[int] = self._visual.sum(dim=1).tolist()  # visual tokens a row
        self._counts = self._entered
        # Slot s of row b holds what stood at indices[b, s] if holds[b, s], else nothing. Rows are
        # packed to the left when the first token leaves.
        self._indices: Tensor | None = None
        self._holds = is_real
        self._scores: Tensor | None = None
        self._plainly_causal: dict[int, bool] = {}
        self._masks: dict[int, Tensor | None] = {}
        self._rotary: tuple[Tensor, Tensor] | None = None

    def reduce(self, number: int, hidden: Tensor) -> Tensor:
        """What enters layer ``number``: (B, L', C) of the (B, L'', C) that left the last one."""
        if number == 0 and self._merge_share < 1:
            hidden = self._merge(hidden)
        wanted = [round(self._shares[number] * count) for count in self._entered]
        if wanted != self._counts:
            hidden = self._drop(hidden, self._keep_best(wanted))
            self._counts = wanted
        return hidden

    def watches(self, layer: int) -> bool:
        """Whether the layer's attention decides what enters the next one."""
        here, *following = self._shares[layer : layer + 2]
        return any(0 < share < here for share in following)  # where all leave there is no choice

    def watch(self, query: Tensor, key: Tensor, mask: Tensor | None, *, scaling: float) -> None:
        """Rank the tokens by a layer's attention.

        Args:
            query: (B, H, L', D).
            key: (B, G, L', D).
            mask: (B, 1, L', L') bool, None for a causal one.
        """
        self._scores = torch.full(self._holds.shape, -torch.inf, device=query.device)
        for row in range(len(query)):
            slots = self._holds[row].nonzero()[:, 0]
            if mask is None:
                allowed = slots[:, None] >= slots
            else:
                allowed = mask[row % len(mask), 0][slots][:, slots]
            ranks = page_rank(query[row][:, slots], key[row][:, slots], allowed, scaling=scaling)
            self._scores[row, slots] = ranks

    def surroundings(self, layer: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        """A layer's arguments beside the hidden states, cut to the tokens that are left."""
        if self._indices is None:
            return kwargs
        cut = dict(kwargs)
        mask = kwargs.get("attention_mask")
        cut["attention_mask"] = self._mask(mask, is_causal=layer.self_attn.is_causal)
        if self._rotary is None:
            cosine, sine = (self._at_indices(part) for part in kwargs["position_embeddings"])
            self._rotary = cosine, sine
        cut["position_embeddings"] = self._rotary
        if (positions := kwargs.get("position_ids")) is not None:
            cut["position_ids"] = self._at_indices(positions[..., None])[..., 0]
        return cut

    def restore(self, hidden: Tensor) -> Tensor:
        """(B, L', C) -> (B, L, C), each state where its token stood.

        Places whose token is gone take the row's first state: they are left out by ``is_left``,
        but what divides by norms on the way must not meet zeros.
        """
        if self._indices is None:
            return hidden
        slots = torch.zeros_like(self.is_left, dtype=torch.int64)
        row, slot = self._holds.nonzero(as_tuple=True)
        slots[row, self._indices[row, slot]] = slot
        return hidden.gather(1, slots[..., None].expand(-1, -1, hidden.shape[-1]))

    def _merge(self, hidden: Tensor) -> Tensor:
        """Merge the features of each picture, pictures of one size together."""
        hidden = hidden.clone()
        self.sizes = torch.ones(self._visual.shape, device=hidden.device)
        keep = self._holds & ~self._visual
        by_count: dict[int, list[int]] = {}
        for row, count in enumerate(self._entered):
            by_count.setdefault(count, []).append(row)
        for count, numbers in by_count.items():
            left = max(1, round(count * self._merge_share))
            if count <= left:
                keep[numbers] |= self._visual[numbers]
                continue
            rows = torch.tensor(numbers, device=hidden.device)
            indices = self._visual[rows].nonzero()[:, 1].view(len(numbers), count)
            features, sizes, heads = merged(hidden[rows[:, None], indices], left)
            indices = indices.gather(1, heads)
            hidden[rows[:, None], indices] = features
            self.sizes[rows[:, None], indices] = sizes
            keep[rows[:, None], indices] = True
        self._entered = (keep & self._visual).sum(dim=1).tolist()
        self._counts = self._entered
        return self._drop(hidden, keep) if not torch.equal(keep, self._holds) else hidden

    def _keep_best(self, wanted: list[int]) -> Tensor:
        """(B, L') bool: every token of text and the ``wanted`` visual ones of highest rank."""
        if not any(wanted):
            return self._holds & ~self._visual
        assert self._scores is not None, "the layer before was watched"
        scores = self._scores.masked_fill(~(self._visual & self._holds), -torch.inf)
        order = scores.sort(dim=1, descending=True, stable=True).indices
        rank = torch.empty_like(order)
        rank.scatter_(1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))
        best = rank < torch.tensor(wanted, device=order.device)[:, None]
        return self._holds & (~self._visual | best)

    def _drop(self, hidden: Tensor, keep: Tensor) -> Tensor:
        """Pack what is kept of each row to the left, the longest row deciding the width."""
        width = int(keep.sum(dim=1).max())
        order = (~keep).sort(dim=1, stable=True).indices[:, :width]
        indices = order if self._indices is None else self._indices.gather(1, order)
        self._indices = indices
        self._holds = keep.gather(1, order)
        self._visual = self._visual.gather(1, order)
        row, slot = self._holds.nonzero(as_tuple=True)
        self.is_left = torch.zeros_like(self.is_left)
        self.is_left[row, indices[row, slot]] = True
        self._scores, self._rotary, self._masks = None, None, {}
        return hidden.gather(1, order[..., None].expand(-1, -1, hidden.shape[-1]))

    def _at_indices(self, values: Tensor) -> Tensor:
        """(1 or B, L, n) -> (B, L', n)."""
        assert self._indices is not None
        rows = values.expand(len(self._indices), -1, -1)
        return rows.gather(1, self._indices[..., None].expand(-1, -1, values.shape[-1]))

    def _mask(self, mask: Tensor | None, *, is_causal: bool) -> Tensor | None:
        """A layer's mask for the slots; None, which torch computes faster, where it is causal.

        Rows being packed to the left, a query never sees the empty slots behind it.
        """
        assert self._indices is not None
        if mask is None and is_causal:
            return None
        if id(mask) in self._masks:
            return self._masks[id(mask)]
        if mask is None:
            cut = self._holds[:, None, None, :]
        else:
            indices = self._indices
            width = indices.shape[1]
            rows = mask.expand(len(indices), -1, -1, -1)
            cut = rows.gather(
                2, indices[:, None, :, None].expand(-1, rows.shape[1], -1, rows.shape[3])
            )
            cut = cut.gather(3, indices[:, None, None, :].expand(-1, cut.shape[1], width, -1))
            cut = cut & self._holds[:, None, None, :]
            # A query without any key would be no number.
            cut = cut | ~self._holds[:, None, :, None]
        if id(mask) not in self._plainly_causal:
            self._plainly_causal[id(mask)] = mask is not None and self._is_causal(cut)
        self._masks[id(mask)] = None if self._plainly_causal[id(mask)] else cut
        return self._masks[id(mask)]

    def _is_causal(self, cut: Tensor) -> bool:
        causal = torch.ones(cut.shape[-2:], dtype=torch.bool, device=cut.device).tril()
        same = (cut == causal) | ~self._holds[:, None, :, None] | ~self._holds[:, None, None, :]
        return bool(same.all())


def merged(features: Tensor, left: int) -> tuple[Tensor, Tensor, Tensor]:
    """Merge the features of pictures until ``left`` of each remain, at most half in a round.

    Args:
        features: (B, N, C).
        left: at least 1, at most N.

    Returns:
        (B, left, C) plain means in the order of the pictures; (B, left), how many each stands for;
        (B, left) int64, the index among the N that it takes: of those that merged, the one that
        the others joined.
    """
    count = features.shape[1]
    sizes = features.new_ones(features.shape[:2], dtype=torch.float32)
    heads = torch.arange(count, device=features.device).expand(features.shape[:2])
    while count > left:
        step = merge(
            features, min(count - left, count // 2), sizes=sizes, protected=0, weighted=False
        )
        heads = heads.gather(1, _destinations(step.source, step.tokens.shape[1]))
        features, sizes, count = step.tokens, step.sizes, step.tokens.shape[1]
    order = heads.sort(dim=1).indices
    features = features.gather(1, order[..., None].expand(-1, -1, features.shape[-1]))
    return features, sizes.gather(1, order), heads.gather(1, order)


def _destinations(source: Tensor, count: int) -> Tensor:
    """(B, N) outputs of a round's inputs -> (B, count), the input whose index an output takes.

    Inputs at even indices join inputs at odd ones: of an output's members the odd one, if any.
    """
    indices = torch.arange(source.shape[1], device=source.device).expand_as(source)
    heads = indices.new_empty(len(source), count)
    heads.scatter_(1, source[:, ::2], indices[:, ::2])
    return heads.scatter_(1, source[:, 1::2], indices[:, 1::2])


def page_rank(query: Tensor, key: Tensor, allowed: Tensor, *, scaling: float) -> Tensor:
    """How much each token matters to the others' attention.

    Softmax of the logits at temperature 0.1, five steps from equal ranks without damping, then the
    root mean square over heads.

    Args:
        query: (H, L, D), rotated.
        key: (G, L, D), rotated; G divides H, neighbouring heads share a key.
        allowed: (L, L) bool, which keys (columns) a query sees; at least one each.
        scaling: of the logits.

    Returns:
        (L,) float32.
    """
    shared = len(query) // len(key)
    keys = key.float().repeat_interleave(shared, dim=0)
    logits = torch.baddbmm(
        query.new_zeros(1, 1, 1, dtype=torch.float32),
        query.float(),
        keys.transpose(1, 2),
        beta=0,
        alpha=scaling / _TEMPERATURE,
    )
    flow = logits.masked_fill_(~allowed, -torch.inf).softmax(dim=-1)
    rank = flow.mean(dim=1, keepdim=True)  # the first step from equal ranks
    for _ in range(_ITERATIONS - 1):
        rank = rank @ flow
    return rank.square().mean(dim=0).sqrt()[0]
