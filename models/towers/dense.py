"""Tokens of patches in the space of the pooled vectors, from an encoder that was trained for those
alone.

The class token of CLIP is what its last block gathers from the patches; the patches' own states
behind that block were never trained to mean anything in the shared space. What the block would
hand to the class token, the value path, is nearer to it.

Sources: Zhou et al., Extract Free Dense Labels from CLIP (MaskCLIP), 2022, section 3.2; Lan et al.,
ClearCLIP, 2024, section 3.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from maxsight.kernels import merge
from maxsight.models.towers.merging import States
from maxsight.models.towers.tower import Tower


def dense(
    tower: Tower, entered: States, left: States, source: str = "last"
) -> tuple[Tensor, Tensor | None]:
    """Tokens of what :func:`maxsight.models.towers.merging.run` returned.

    Args:
        tower: the model's image tower; it must have ``project``.
        entered, left: what entered the last block, and what left it.
        source: ``last``: what left the last block. The others are of what entered it, without the
            residual and without the MLP: ``value``, the values alone (MaskCLIP); ``self``, the
            values that each patch gathers from those of like queries (ClearCLIP).

    Returns:
        (B, M, D), not normalised, and how many patches each stands for, (B, M); None: one each.
        What the last block itself merges away is merged in ``last`` only.
    """
    assert tower.project is not None, "this tower has no tokens"
    states = left if source == "last" else entered
    tokens = states.tokens
    if source != "last":
        block = tower.blocks[-1]
        query, _, value = block.heads(states.tokens, states.rope)
        if source == "self":
            value = _gathered(query, value, states.sizes, block.scale)
        tokens = block.out(value)
    patches = tokens[:, tower.prefix :]
    projected = tower.project(patches.flatten(0, 1)).view(*patches.shape[:2], -1)
    return projected, None if states.sizes is None else states.sizes[:, tower.prefix :]


def _gathered(query: Tensor, value: Tensor, sizes: Tensor | None, scale: float) -> Tensor:
    if sizes is None:
        return scaled_dot_product_attention(query, query, value, scale=scale)
    return merge.attention(query, query, value, sizes, scale=scale)
