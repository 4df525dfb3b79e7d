"""The CLIP and SigLIP image towers of Hugging Face's transformers as a :class:`Tower`.

transformers itself is not imported: a model that comes here has brought it along.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from maxsight.errors import EncoderError
from maxsight.models.towers import merging
from maxsight.models.towers.tower import Block, Tower, join_heads, pool_by_attention

# By name, because transformers 5 folded the inner classes into the outer ones.
_CLIP = ("CLIPVisionModel", "CLIPVisionTransformer")
_SIGLIP = ("SiglipVisionModel", "SiglipVisionTransformer")


def tower(model: Any, *, encoder: str) -> Tower:
    """The image tower of a CLIP or SigLIP model.

    Args:
        model: ``CLIPModel``, ``CLIPVisionModelWithProjection``, ``SiglipModel`` or the vision model
            in them. Without a ``visual_projection`` vectors are the pooled states.
        encoder: URI, for the message.

    Raises:
        EncoderError: it is none of these.
    """
    vision, projection = _vision(model), getattr(model, "visual_projection", None)
    kind = type(vision).__name__
    if kind in _CLIP:
        return _clip(vision, (lambda states: states) if projection is None else projection)
    if kind in _SIGLIP and vision.use_head:
        return _siglip(vision)
    raise EncoderError(
        f"{encoder}: a {kind} cannot be taken apart to merge tokens or to take them from the last "
        "block; leave the options merge and tokens out"
    )


def attach(model: Any, schedule: str, *, encoder: str) -> None:
    """Have a CLIP or SigLIP model merge tokens in its image tower from now on.

    Only this one model's vision part gets another ``forward``, which gives what the old one gave:
    the last states, of fewer tokens, and the pooled one.

    Args:
        model: as :func:`tower` takes it.
        schedule: the option ``merge``.
        encoder: URI, for messages.

    Raises:
        EncoderError: another kind of model.
        UnknownEncoder: a schedule of more layers than there are.
    """
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    vision = _vision(model)
    parts = tower(vision, encoder=encoder)
    removed = merging.schedule_of(schedule, layers=len(parts.blocks))

    def forward(pixel_values: Tensor, **_: Any) -> Any:
        left = merging.run(parts, pixel_values.to(vision.dtype), removed)[1]
        siglip = type(vision).__name__ in _SIGLIP
        states = vision.post_layernorm(left.tokens) if siglip else left.tokens
        return BaseModelOutputWithPooling(
            last_hidden_state=states, pooler_output=parts.pool(left.tokens, left.sizes)
        )

    vision.forward = forward


def _vision(model: Any) -> Any:
    while hasattr(model, "vision_model"):
        model = model.vision_model
    return model


def _clip(vision: Any, projection: Any) -> Tower:
    return Tower(
        embed=lambda pixels: (vision.pre_layrnorm(vision.embeddings(pixels)), None),
        blocks=tuple(_block(layer) for layer in vision.encoder.layers),
        prefix=1,
        pool=lambda states, _: projection(vision.post_layernorm(states[:, 0])),
        project=lambda patches: projection(vision.post_layernorm(patches)),
    )


def _siglip(vision: Any) -> Tower:
    head = vision.head

    def pool(states: Tensor, sizes: Tensor | None) -> Tensor:
        query = head.probe.expand(len(states), -1, -1)
        pooled = pool_by_attention(head.attention, query, vision.post_layernorm(states), sizes)
        refined: Tensor = pooled + head.mlp(head.layernorm(pooled))
        return refined[:, 0]

    return Tower(
        embed=lambda pixels: (vision.embeddings(pixels), None),
        blocks=tuple(_block(layer) for layer in vision.encoder.layers),
        prefix=0,
        pool=pool,
        project=lambda patches: pool(patches[:, None], None),
    )


def _block(layer: Any) -> Block:
    attention = layer.self_attn
    count = attention.num_heads

    def heads(states: Tensor, _: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        normed = layer.layer_norm1(states)
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        shape = (*normed.shape[:2], count, -1)
        query, key, value = (part(normed).view(shape).transpose(1, 2) for part in parts)
        return query, key, value

    return Block(
        heads=heads,
        out=lambda joined: attention.out_proj(join_heads(joined)),
        mlp=lambda states: layer.mlp(layer.layer_norm2(states)),
        scale=attention.scale,
    )
