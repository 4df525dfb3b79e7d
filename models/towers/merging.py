"""Token merging inside an image tower: fewer tokens in every layer, so less time a picture.

Source: Bolya et al., Token Merging: Your ViT But Faster, 2023.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from maxsight.errors import UnknownEncoder
from maxsight.kernels import merge
from maxsight.models.towers.tower import Tower


@dataclass(frozen=True, eq=False)
class States:
    """What runs through a tower at one layer.

    Attributes:
        tokens: (B, M, C).
        sizes: (B, M) float32, how many patches each stands for; None: one each.
        rope: rotary angles of the patches, (M - prefix, A), or (B, 1, M - prefix, A) once some
            have merged; None where the tower has none.
    """

    tokens: Tensor
    sizes: Tensor | None = None
    rope: Tensor | None = None


def schedule_of(text: str, *, layers: int) -> merge.Schedule:
    """The schedule that the option ``merge`` of an encoder's URI means.

    Args:
        text: as ``maxsight.models.options`` spells it.
        layers: of the tower.

    Raises:
        UnknownEncoder: a list of more numbers than there are layers.

    Example:
        >>> schedule_of("13", layers=12), schedule_of("50%", layers=12)
        (13, Keep(share=0.5))
        >>> schedule_of("8+8+4", layers=12), schedule_of("13,-1", layers=12)
        ((8, 8, 4), Linear(r=13, inflection=-1.0))
    """
    if text.endswith("%"):
        return merge.Keep(float(text.removesuffix("%")) / 100)
    if "+" in text:
        numbers = tuple(int(number) for number in text.split("+"))
        if len(numbers) > layers:
            raise UnknownEncoder(
                f"merge={text} gives numbers for {len(numbers)} layers, but the image tower has "
                f"{layers}; give at most as many"
            )
        return numbers
    mean, comma, inflection = text.partition(",")
    return merge.Linear(int(mean), float(inflection)) if comma else int(mean)


def run(tower: Tower, pixels: Tensor, schedule: merge.Schedule = 0) -> tuple[States, States]:
    """Run pixels through a tower, merging tokens between attention and MLP of its blocks.

    Tokens are compared by the mean over heads of the layer's keys, and count in the attention of
    the layers behind as often as the patches they stand for. Rotary angles are averaged with the
    tokens: sine and cosine by size, so that a merged key is the mean of its keys' rotations.

    Args:
        tower: the model's image tower.
        pixels: (B, 3, S, S), normalised.
        schedule: how many tokens each block removes.

    Returns:
        What entered the last block, and what left it.

    Raises:
        ValueError: a schedule with more layers than the tower.
    """
    tokens, rope = tower.embed(pixels)
    removed = merge.schedule(
        schedule, len(tower.blocks), tokens=tokens.shape[1], protected=tower.prefix
    )
    states = entered = States(tokens, rope=rope)
    for block, r in zip(tower.blocks, removed):
        entered = states
        query, key, value = block.heads(states.tokens, states.rope)
        if states.sizes is None:
            attended = scaled_dot_product_attention(query, key, value, scale=block.scale)
        else:
            attended = merge.attention(query, key, value, states.sizes, scale=block.scale)
        states = States(states.tokens + block.out(attended), states.sizes, states.rope)
        if r:
            states = _merged(states, r, metric=key.mean(1), protected=tower.prefix)
        states = States(states.tokens + block.mlp(states.tokens), states.sizes, states.rope)
    return entered, states


def _merged(states: States, r: int, *, metric: Tensor, protected: int) -> States:
    tokens, width = states.tokens, states.tokens.shape[2]
    if states.rope is not None:
        angles = states.rope.squeeze(1) if states.rope.ndim == 4 else states.rope
        angles = pad(angles, (0, 0, protected, 0)).expand(len(tokens), -1, -1)
        tokens = torch.cat((tokens, angles.to(tokens.dtype)), dim=2)
    merged = merge.merge(tokens, r, metric=metric, sizes=states.sizes, protected=protected)
    if states.rope is None:
        return States(merged.tokens, merged.sizes)
    rope = merged.tokens[:, None, protected:, width:]
    return States(merged.tokens[..., :width], merged.sizes, rope)
