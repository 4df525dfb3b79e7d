"""How much faster does a language model read pictures when visual tokens leave on the way?

A language model of Qwen2-VL's class with random weights: as it is, with its visual tokens masked
layer by layer as AIM was published (every token is computed to the end, and the attention is
spelled out, since its logits are read), and with them gone. That the last two agree is asserted
first. The image tower is next to nothing: what is measured is the language model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maxsight.benchmarks.measure.interleave import interleave, processor_stopwatch, ratio
from maxsight.benchmarks.measure.parity import ParityError
from maxsight.benchmarks.measure.peaks import threads
from maxsight.benchmarks.measure.rows import Row, timed

_BENCHMARK = "aim-pruning"
_TEXT, _IMAGE, _PAD = 3, 1, 0  # ids of tokens
_WORDS = 12  # before the picture and after it
# Visual tokens of a picture, high and wide; the second batch is what photographs of a folder give.
_BATCHES = {
    "4 pictures of 400": [(20, 20)] * 4,
    "4 pictures of 96 to 576": [(24, 24), (16, 24), (12, 20), (8, 12)],
}
_TOLERANCE = 1e-4
# Not infinity: padding in front of a row sees nothing, and must not become nobody's number.
_UNSEEN = -1e9


def run(
    data: Path, *, rounds: int = 5, cores: int = 1, layers: int = 28, width: int = 384
) -> list[Row]:
    """Measure batches of one size and of several, in CPU seconds.

    Args:
        data: not used; every benchmark takes it.
        rounds: how often each contender runs.
        cores: threads of torch.
        layers, width: of the language model.

    Returns:
        Time of a batch and, against the model as it is and against masking, how many times that.
    """
    rows = []
    with threads(cores):
        model = tiny_qwen(layers=layers, width=width)
        for name, shapes in _BATCHES.items():
            batch = pictures(shapes)
            case = f"{layers} layers of {width}, {name}, {cores} threads"
            rows += _measure(model, batch, case, rounds=rounds)
    return rows


@torch.inference_mode()
def _measure(model: Any, batch: dict[str, Tensor], case: str, *, rounds: int) -> list[Row]:
    from maxsight.models.vlm import aim

    layers = len(model.language_model.layers)
    aim_shares = aim.schedule("aim", layers)
    variants = {
        "gone, aim": (1.0, "aim"),
        "gone, 25%": (1.0, "25%"),
        "merged to 25%": (0.25, None),
        "merged to 25%, then aim": (0.25, "aim"),
    }
    reductions = {
        name: aim.attach(model, merge_share=share, prune=prune, encoder="the benchmark's")
        for name, (share, prune) in variants.items()
    }
    _assert_parity(model, batch, reductions["gone, aim"], aim_shares)

    def reduced(name: str) -> Callable[[int], object]:
        def call(_: int) -> None:
            with reductions[name].of(batch["input_ids"], batch["attention_mask"]):
                model(**batch, use_cache=False)

        return call

    contenders: dict[str, Callable[[int], object]] = {
        "as it is": lambda _: model(**batch, use_cache=False),
        "masked, aim": lambda _: masked(model, batch, aim_shares),
    }
    contenders |= {name: reduced(name) for name in variants}
    seconds = interleave(
        {name: processor_stopwatch(call) for name, call in contenders.items()}, rounds=rounds
    )
    rows = [
        timed(seconds[name], benchmark=_BENCHMARK, case=case, contender=name) for name in seconds
    ]
    pairs = [(name, "as it is") for name in ("masked, aim", *variants)]
    for name, base in [*pairs, ("gone, aim", "masked, aim")]:
        rows.append(
            ratio(
                seconds[base],
                seconds[name],
                benchmark=_BENCHMARK,
                case=case,
                contender=name,
                metric=f"times as fast as {base}",
            )
        )
    return rows


def _assert_parity(
    model: Any, batch: dict[str, Tensor], reduction: Any, shares: Sequence[float]
) -> None:
    expected = masked(model, batch, shares)
    with reduction.of(batch["input_ids"], batch["attention_mask"]) as done:
        states = model(**batch, use_cache=False).last_hidden_state
    if not torch.equal(done.is_left, expected.is_left):
        raise ParityError("other tokens left than masking leaves")
    error = float((states - expected.states)[done.is_left].abs().max())
    if not error <= _TOLERANCE:
        raise ParityError(f"states differ from masking's by {error:.2g}")


@dataclass(frozen=True, eq=False)
class Masked:
    """What masking gives.

    Attributes:
        states: (B, L, C), the model's last ones.
        is_left: (B, L) bool: real tokens that were never masked.
    """

    states: Tensor
    is_left: Tensor


@torch.inference_mode()
def masked(model: Any, batch: dict[str, Tensor], shares: Sequence[float]) -> Masked:
    """AIM's pruning as published: what is pruned stays, and no one sees it any more.

    Args:
        model: a ``Qwen2VLModel`` or ``Qwen2_5_VLModel``.
        batch: its inputs.
        shares: of the visual tokens that each layer sees.
    """
    language_model = model.language_model
    is_visual = batch["input_ids"] == model.config.image_token_id
    features = torch.cat(
        model.get_image_features(batch["pixel_values"], batch["image_grid_thw"]).pooler_output
    )
    states = model.get_input_embeddings()(batch["input_ids"])
    states = states.masked_scatter(is_visual[..., None], features)
    positions = model.compute_3d_position_ids(
        input_ids=batch["input_ids"],
        inputs_embeds=states,
        image_grid_thw=batch["image_grid_thw"],
        video_grid_thw=None,
        past_key_values=None,
        attention_mask=batch["attention_mask"],
        mm_token_type_ids=batch["mm_token_type_ids"],
    )
    cosine, sine = language_model.rotary_emb(states, positions)
    left = batch["attention_mask"].bool()
    counts = is_visual.sum(dim=1)
    scores = torch.zeros(left.shape)
    for number, layer in enumerate(language_model.layers):
        if number and shares[number] < shares[number - 1]:
            left = _mask_worst(left, is_visual, scores, shares[number] * counts)
        attention = layer.self_attn
        inner = layer.input_layernorm(states)
        heads = inner.shape[:2], (-1, attention.head_dim)
        query, key, value = (
            projection(inner).view(*heads[0], *heads[1]).transpose(1, 2)
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        query, key = (_rotated(side, cosine, sine) for side in (query, key))
        shared = query.shape[1] // key.shape[1]
        key, value = (side.repeat_interleave(shared, dim=1) for side in (key, value))
        logits = query @ key.transpose(2, 3) * attention.scaling
        logits = logits.masked_fill(~_seen(left), _UNSEEN)
        attended = (logits.softmax(-1) @ value).transpose(1, 2).flatten(2)
        states = states + attention.o_proj(attended)
        states = states + layer.mlp(layer.post_attention_layernorm(states))
        if number + 1 < len(shares) and shares[number + 1] < shares[number]:
            scores = _ranks(logits, left)
    return Masked(language_model.norm(states), left)


def _seen(left: Tensor) -> Tensor:
    """(B, L) -> (B, 1, L, L): which keys a query sees, in causal attention."""
    causal = torch.ones(left.shape[1], left.shape[1], dtype=torch.bool).tril()
    return causal & left[:, None, None, :]


def _ranks(logits: Tensor, left: Tensor) -> Tensor:
    """(B, L): five steps of PageRank from equal ranks of what is left."""
    flow = (logits / 0.1).softmax(-1)
    rank = (left / left.sum(dim=1, keepdim=True))[:, None, None, :].expand(*flow.shape[:2], 1, -1)
    for _ in range(5):
        rank = rank @ flow
    return rank[:, :, 0].square().mean(dim=1).sqrt()


def _mask_worst(left: Tensor, is_visual: Tensor, scores: Tensor, wanted: Tensor) -> Tensor:
    left = left.clone()
    for row, count in enumerate(wanted.tolist()):
        places = (left[row] & is_visual[row]).nonzero()[:, 0]
        order = scores[row, places].sort(descending=True, stable=True).indices
        left[row, places[order[round(count) :]]] = False
    return left


def _rotated(side: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = side.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return side * cosine[:, None] + turned * sine[:, None]


def tiny_qwen(*, layers: int, width: int) -> Any:
    """A ``Qwen2VLModel`` with random weights, heads of 64 and an image tower of one layer."""
    from transformers import Qwen2VLConfig, Qwen2VLModel

    torch.manual_seed(0)
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": 16,
            "hidden_size": width,
            "intermediate_size": 3 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": width // 64,
            "num_key_value_heads": max(1, width // 192),
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": _PAD,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [8, 12, 12],
            },
        },
        vision_config={"depth": 1, "embed_dim": 32, "num_heads": 2, "hidden_size": width},
        image_token_id=_IMAGE,
        video_token_id=2,
        vision_start_token_id=4,
        vision_end_token_id=5,
    )
    return Qwen2VLModel(config).eval()


def pictures(shapes: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
    """A batch of the model's inputs: words, a picture of random patches and words, padded.

    Args:
        shapes: visual tokens of each picture, high and wide.
    """
    longest = max(height * width for height, width in shapes) + 2 * _WORDS
    ids = torch.full((len(shapes), longest), _PAD)
    mask = torch.zeros_like(ids)
    for row, (height, width) in enumerate(shapes):
        end = height * width + 2 * _WORDS
        ids[row, :end] = _TEXT
        ids[row, _WORDS : end - _WORDS] = _IMAGE
        mask[row, :end] = 1
    draw = torch.Generator().manual_seed(0)
    patches = 4 * int((ids == _IMAGE).sum())
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "mm_token_type_ids": (ids == _IMAGE).int(),
        "pixel_values": torch.randn(patches, 3 * 2 * 14 * 14, generator=draw),
        "image_grid_thw": torch.tensor([(1, 2 * height, 2 * width) for height, width in shapes]),
    }
