"""``open_clip_config.json``, which may be anyone's: named values of known kinds, and no others.

open_clip hands the configuration to constructors of its own, of timm, transformers and torch, as
keyword arguments. What those could be told is far more than what describes a model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from maxsight import strict_json
from maxsight.errors import EncoderError
from maxsight.models import hub

_Check = Callable[[Any], bool]


def read(path: Path, *, encoder: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model and the preprocessing of a configuration, as the file has them.

    Args:
        encoder: the URI, for the message.

    Raises:
        EncoderError: the file is no such configuration, or has a field that is not known, or one
            whose value is of another kind or beyond what any model needs.
    """
    try:
        config = strict_json.read(path)
        model, preprocess = config["model_cfg"], config.get("preprocess_cfg", {})
        require(model)
        _require_preprocessing(preprocess)
    except OSError as error:
        raise EncoderError(f"{encoder}: cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise EncoderError(
            f"{encoder}: {path} is not an open_clip configuration ({type(error).__name__}: "
            f"{error}); it must be JSON with model_cfg.vision_cfg and model_cfg.text_cfg, and with "
            "nothing else than what open_clip itself writes there"
        ) from error
    return model, preprocess


def require(model: Any) -> None:
    """Refuse a ``model_cfg`` that is not one.

    Raises:
        ValueError: a field is missing, not known, or of another kind; the message names it.
    """
    _require(model, _MODEL, "model_cfg")
    for section in ("vision_cfg", "text_cfg"):
        if section not in model:
            raise ValueError(f"model_cfg has no {section}")
    if "embed_dim" not in model:
        raise ValueError("model_cfg has no embed_dim")


def _require(fields: Any, known: Mapping[str, _Check | Mapping[str, Any]], field: str) -> None:
    if not isinstance(fields, dict):
        raise ValueError(f"{field} must hold fields, {{...}}")
    for key, value in fields.items():
        check = known.get(key)
        if check is None:
            raise ValueError(
                f"{field}.{key[:80]} is not handed on; of {field} only {', '.join(known)} are"
            )
        if isinstance(check, Mapping):
            if value is not None or field == "model_cfg":
                _require(value, check, f"{field}.{key}")
        elif not check(value):
            raise ValueError(f"{field}.{key} is {repr(value)[:80]}, which it cannot be")


def _require_preprocessing(fields: Any) -> None:
    """The fields that open_clip reads; it passes over others, and over nulls."""
    if not isinstance(fields, dict):
        raise ValueError("preprocess_cfg must hold fields, {...}")
    read_fields = {
        key: value for key, value in fields.items() if key in _PREPROCESS and value is not None
    }
    _require(read_fields, _PREPROCESS, "preprocess_cfg")


def _whole(least: int, most: int) -> _Check:
    return lambda value: type(value) is int and least <= value <= most


def _number(least: float, most: float) -> _Check:
    return lambda value: (
        type(value) in (int, float) and math.isfinite(value) and least <= value <= most
    )


def _one_of(*names: str) -> _Check:
    return lambda value: isinstance(value, str) and value in names


def _or_none(check: _Check) -> _Check:
    return lambda value: value is None or check(value)


def _several(check: _Check, *counts: int) -> _Check:
    return lambda value: (
        isinstance(value, list | tuple) and len(value) in counts and all(map(check, value))
    )


def _either(*checks: _Check) -> _Check:
    return lambda value: any(check(value) for check in checks)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _word(value: Any) -> bool:
    """A name from a registry, such as timm's: no path, no address, no repository."""
    return isinstance(value, str) and re.fullmatch(r"[\w.-]{0,128}", value) is not None


def _repository(value: Any) -> bool:
    return value is None or (
        isinstance(value, str) and (not value or hub.is_repository(value, with_owner=False))
    )


_SIZE = _whole(1, 1 << 16)
_SIDE = _either(_whole(1, 8192), _several(_whole(1, 8192), 2))
_LAYERS = _whole(1, 1024)
_NORM = {"eps": _number(0, 1), "elementwise_affine": _flag, "bias": _flag}
_ACTIVATION = {"approximate": _one_of("none", "tanh")}

_BLOCK: dict[str, Any] = {
    "block_type": _or_none(_word),
    "qk_norm": _flag,
    "scaled_cosine_attn": _flag,
    "scale_heads": _flag,
    "scale_attn_inner": _flag,
    "scale_attn": _flag,
    "scale_fc": _flag,
    "act_kwargs": _ACTIVATION,
    "norm_kwargs": _NORM,
    "mlp_ratio": _number(0.01, 64),
    "ls_init_value": _or_none(_number(-1e6, 1e6)),
    "width": _SIZE,
    "final_ln_after_pool": _flag,
    "pool_type": _word,
    "output_tokens": _flag,
}
_VISION: dict[str, Any] = _BLOCK | {
    "layers": _either(_LAYERS, _several(_LAYERS, 4)),
    "head_width": _SIZE,
    "patch_size": _or_none(_whole(1, 1024)),
    "image_size": _SIDE,
    "patch_dropout": _number(0, 1),
    "attentional_pool": _either(_flag, _word),
    "attn_pooler_queries": _SIZE,
    "attn_pooler_heads": _SIZE,
    "no_ln_pre": _flag,
    "pos_embed_type": _word,
    "timm_model_name": _or_none(_word),
    "timm_model_pretrained": _flag,
    "timm_pool": _word,
    "timm_proj": _or_none(_word),
    "timm_proj_bias": _flag,
    "timm_drop": _number(0, 1),
    "timm_drop_path": _or_none(_number(0, 1)),
}
_TEXT: dict[str, Any] = _BLOCK | {
    "context_length": _SIZE,
    "vocab_size": _whole(1, 1 << 24),
    "hf_tokenizer_name": _repository,
    "tokenizer_mode": _or_none(_one_of("", "clips")),
    # How a text is cleaned, and nothing else: transformers would also take names of code here.
    "tokenizer_kwargs": {
        "clean": _one_of("canonicalize", "lower", "whitespace"),
        "strip_sep_token": _flag,
        "language": _word,
    },
    "heads": _SIZE,
    "layers": _LAYERS,
    "embed_cls": _flag,
    "pad_id": _whole(0, 1 << 24),
    "eos_id": _whole(0, 1 << 24),
    "no_causal_mask": _flag,
    "proj_bias": _flag,
    "proj_type": _or_none(_word),
    "hf_model_name": _repository,
    "hf_model_pretrained": _flag,
    "hf_proj_type": _or_none(_word),
    "hf_pooler_type": _or_none(_word),
}
_DECODER: dict[str, Any] = _TEXT | {
    "dim_head": _SIZE,
    "n_queries": _SIZE,
    "attn_pooler_heads": _SIZE,
}
_MODEL: dict[str, Any] = {
    "embed_dim": _SIZE,
    "vision_cfg": _VISION,
    "text_cfg": _TEXT,
    "multimodal_cfg": _DECODER,
    "custom_text": _flag,
    "quick_gelu": _flag,
    "init_logit_scale": _number(-1e6, 1e6),
    "init_logit_bias": _or_none(_number(-1e6, 1e6)),
    "nonscalar_logit_scale": _flag,
    "output_dict": _flag,
    "pad_id": _whole(0, 1 << 24),
}
_PREPROCESS: dict[str, Any] = {
    "size": _SIDE,
    "mode": _one_of("RGB"),
    "mean": _several(_number(-1e3, 1e3), 3),
    "std": _several(_number(1e-6, 1e3), 3),
    "interpolation": _one_of("bicubic", "bilinear", "random"),
    "resize_mode": _one_of("shortest", "longest", "squash"),
    "fill_color": _whole(0, 255),
}
