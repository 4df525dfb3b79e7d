"""AIM: a language model that reads a picture with fewer and fewer of its visual tokens.

Two steps, each optional. In front of the first layer, visual features that resemble each other are
merged (``maxsight.kernels.merge``). Inside, layer by layer, the visual tokens that matter least to
the attention leave: their hidden states, rotary positions and mask rows are dropped, so that later
layers, and caches made from them, hold only what is left. Tokens of text always stay, and with them
the one that is pooled.

Source: Zhong et al., AIM: Adaptive Inference of Multi-Modal LLMs via Token Merging and Pruning,
2024, section 3. The published code masks what is pruned and computes it all the same; here
every picture of a batch may keep a number of its own, and the answer is that of masking.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from maxsight.errors import EncoderError, UnknownEncoder
from maxsight.models.vlm.visual_tokens import Batch

# The published schedule, of 28 layers: all visual tokens up to layer 13, none from layer 21 on.
_LAYERS, _FIRST, _LAST = 28, 13, 21

# Families whose layers were run in the tests; others may add to hidden states between layers by
# places that pruning has changed (Qwen3-VL), or soften logits in the attention (Gemma 2).
FAMILIES = ("paligemma", "qwen2_5_vl", "qwen2_vl")

_ATTENTION = "sdpa_maxsight_aim"
_thread = threading.local()


def schedule(prune: str, layers: int) -> tuple[float, ...]:
    """The share of the visual tokens that enters each layer.

    Args:
        prune: ``aim``, the published schedule stretched to ``layers``; ``25%``, the same slope
            down to that share; ``25%,8,12``, from all in layer 8 in equal steps to that share
            in layer 12.
        layers: of the language model.

    Returns:
        One share a layer, never rising; the first is 1.

    Raises:
        UnknownEncoder: layers that the model does not have.

    Example:
        >>> schedule("aim", 28)[12:22]
        (1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0.0)
        >>> schedule("50%,1,3", 5)
        (1.0, 1.0, 0.75, 0.5, 0.5)
    """
    if prune == "aim":
        prune = "0%"
    share, *numbers = prune.split(",")
    least = float(share.removesuffix("%")) / 100
    if numbers:
        first, last = (float(number) for number in numbers)
        if last >= layers:
            raise UnknownEncoder(
                f"prune={prune}: the language model has layers 0 to {layers - 1}; give the first "
                "and the last layer of the slope among them"
            )
        slope = (1 - least) / (last - first)
    else:
        first, slope = _FIRST * layers / _LAYERS, _LAYERS / ((_LAST - _FIRST) * layers)
    return tuple(min(1.0, max(least, 1 - slope * (layer - first))) for layer in range(layers))


class Reduction:
    """Fewer visual tokens in a language model of transformers; made by :func:`attach`.

    Without :meth:`of` the model computes as it did. Several threads may use it at once.

    Args:
        vlm: holds ``language_model``, whose ``layers`` take hidden states, a mask and rotary
            positions.
        merge_share: share of the visual features that merging leaves; 1 merges none.
        shares: of these, the share that enters each layer.
    """

    def __init__(self, vlm: Any, *, merge_share: float, shares: Sequence[float]) -> None:
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.masking_utils import sdpa_mask

        self._image_token: int = vlm.config.image_token_id
        self._merge_share = merge_share
        self._shares = shares
        language_model = vlm.language_model
        if language_model.config._attn_implementation == _ATTENTION:
            return  # another reduction's hooks are there; what they do is the batch's to say
        AttentionInterface.register(_ATTENTION, _attention)
        AttentionMaskInterface.register(_ATTENTION, sdpa_mask)
        language_model.set_attn_implementation(_ATTENTION)
        for number, layer in enumerate(language_model.layers):
            layer.register_forward_pre_hook(_entering(number), with_kwargs=True)
        layer.register_forward_hook(_leaving)

    @contextmanager
    def of(self, input_ids: Tensor, attention_mask: Tensor) -> Iterator[Batch]:
        """What this thread computes within goes with fewer tokens.

        Args:
            input_ids: (B, L) as the model takes them, visual placeholders included.
            attention_mask: (B, L), 0 where there is padding.

        Yields:
            What becomes of the tokens, complete at the end.
        """
        batch = Batch(
            visual=input_ids == self._image_token,
            is_real=attention_mask.bool(),
            merge_share=self._merge_share,
            shares=self._shares,
        )
        _thread.batch = batch
        try:
            yield batch
        finally:
            _thread.batch = None


def attach(model: nn.Module, *, merge_share: float, prune: str | None, encoder: str) -> Reduction:
    """Make a model of transformers ready for fewer visual tokens.

    Args:
        model: with a vision-language model in it.
        merge_share: above 0, at most 1.
        prune: as :func:`schedule` takes it; None prunes nothing.
        encoder: its URI, for messages.

    Raises:
        EncoderError: there is no vision-language model of ``FAMILIES`` in it, or it computes its
            attention another way than by torch's own function.
        UnknownEncoder: as :func:`schedule`.
    """
    found = (part for part in model.modules() if hasattr(part, "language_model"))
    vlm: Any = next(found, None)
    family = getattr(getattr(vlm, "config", None), "model_type", "no vision-language model")
    if family not in FAMILIES:
        raise EncoderError(
            f"{encoder}: merge and prune work in the language models of {', '.join(FAMILIES)}; "
            f"this is {family}, leave the options out"
        )
    config = vlm.language_model.config
    if config._attn_implementation not in ("sdpa", _ATTENTION) or getattr(
        config, "attn_logit_softcapping", None
    ):
        raise EncoderError(
            f"{encoder}: merge and prune need torch's scaled_dot_product_attention without soft "
            f"caps, but the model asks for {config._attn_implementation}; leave the options out"
        )
    layers = len(vlm.language_model.layers)
    shares = schedule(prune, layers) if prune else (1.0,) * layers
    return Reduction(vlm, merge_share=merge_share, shares=shares)


def current() -> Batch | None:
    """The batch that this thread computes within :meth:`Reduction.of`."""
    return getattr(_thread, "batch", None)


def _entering(number: int) -> Callable[..., tuple[tuple[Tensor, ...], dict[str, Any]] | None]:
    def enter(
        layer: Any, args: tuple[Tensor, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Tensor, ...], dict[str, Any]] | None:
        batch = current()
        if batch is None:
            return None
        hidden = batch.reduce(number, args[0])
        return (hidden, *args[1:]), batch.surroundings(layer, kwargs)

    return enter


def _leaving(layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
    batch = current()
    return None if batch is None else batch.restore(output)


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """torch's attention, watched where tokens leave after it."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    batch = current()
    if batch is not None and batch.watches(module.layer_idx):
        batch.watch(query, key, attention_mask, scaling=kwargs["scaling"])
    output: tuple[Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, **kwargs
    )
    return output
