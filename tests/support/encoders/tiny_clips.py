"""Small open_clip models with random weights, as open_clip itself would save them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.push_to_hf_hub import save_config_for_hf
from safetensors.torch import save_file

# "!€" begins with token 0, which is also how open_clip pads
TEXTS = ["a red bus in the rain", "", "a !€ b", "one " * 30, "Ein Haus am See, größer"]

TEXT = {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "tiny-vit": {
        "embed_dim": 24,
        "vision_cfg": {
            "image_size": 48,
            "layers": 2,
            "width": 64,
            "head_width": 32,
            "patch_size": 16,
        },
        "text_cfg": TEXT,
    },
    # like SigLIP: a timm trunk that pools by attention, a bidirectional text tower with a bias
    "tiny-siglip": {
        "embed_dim": 96,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 160,
            "timm_model_name": "test_vit3",
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": TEXT | {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
    },
    # ViT-L-14, ViT-B-32 and CoCa in open_clip's own classes, narrow and shallow
    "tiny-vit-l-14": {
        "embed_dim": 48,
        "vision_cfg": {"image_size": 84, "layers": 4, "width": 96, "patch_size": 14}
        | {"head_width": 32},
        "text_cfg": TEXT,
    },
    "tiny-vit-b-32": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 160, "layers": 3, "width": 64, "patch_size": 32}
        | {"head_width": 32, "pool_type": "avg", "final_ln_after_pool": True},
        "text_cfg": TEXT,
    },
    "tiny-coca": {
        "embed_dim": 32,
        "custom_text": True,
        "vision_cfg": {"image_size": 64, "layers": 3, "width": 64, "patch_size": 16}
        | {"head_width": 32, "attentional_pool": True, "attn_pooler_heads": 4}
        | {"output_tokens": True},
        "text_cfg": TEXT | {"embed_cls": True, "output_tokens": True},
        "multimodal_cfg": TEXT | {"attn_pooler_heads": 4, "layers": 1},
    },
    # EVA02: rotary angles, SwiGLU
    "tiny-eva": {
        "embed_dim": 24,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 224,
            "timm_model_name": "eva02_tiny_patch14_224",
            "timm_model_pretrained": False,
            "timm_pool": "token",
            "timm_proj": None,
        },
        "text_cfg": TEXT,
    },
    "tiny-resnet": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
        "text_cfg": TEXT,
    },
    "tiny-convnext": {
        "embed_dim": 24,
        "vision_cfg": {
            "image_size": 96,
            "timm_model_name": "test_convnext",
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
        },
        "text_cfg": TEXT,
    },
}
PREPROCESSING = {
    "tiny-siglip": {"mean": (0.5,) * 3, "std": (0.5,) * 3, "resize_mode": "squash"},
    "tiny-convnext": {"interpolation": "bilinear", "resize_mode": "longest"},
}


def save_model(name: str, folder: Path, *, seed: int = 0) -> Path:
    """A randomly initialised model as open_clip writes it for the hub."""
    folder.mkdir(parents=True)
    registered = folder / f"{name}.json"
    registered.write_text(json.dumps(ARCHITECTURES[name]))
    open_clip.add_model_config(registered)
    torch.manual_seed(seed)
    model = open_clip.create_model(name, force_preprocess_cfg=PREPROCESSING.get(name))
    registered.unlink()
    save_config_for_hf(model, folder / "open_clip_config.json", ARCHITECTURES[name])
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder
