"""Small vision-language models with random weights, in folders as sentence-transformers reads them.

Their classes, processors and files are those of the models they stand for; a tokenizer of 300
words is trained on the spot.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

LAYERS = 8
WIDTH = 32
CELL = 28  # pixels a side for one visual token of the Qwen family
_QWEN_SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
)


def qwen_embedder(
    folder: Path, *, family: str = "qwen2_vl", pooling: str = "lasttoken", layers: int = LAYERS
) -> Path:
    """One vector an input, as Qwen-VL embedders and VLM2Vec: pooled from the language model."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    plain = folder / "transformers"
    qwen(family=family, layers=layers).save_pretrained(plain)
    _qwen_processor().save_pretrained(plain)
    modules = [Transformer(str(plain)), Pooling(WIDTH, pooling), Normalize()]
    model = SentenceTransformer(modules=modules, prompts={"query": "Find: "}, device="cpu")
    model.save_pretrained(str(folder / "model"))
    return folder / "model"


def qwen(*, family: str = "qwen2_vl", layers: int = LAYERS) -> Any:
    """The bare model, with an image token of ``<|image_pad|>``."""
    import transformers

    torch.manual_seed(0)
    config = _qwen_config(family, layers)
    kind = {"qwen2_vl": "Qwen2VLModel", "qwen2_5_vl": "Qwen2_5_VLModel", "qwen3_vl": "Qwen3VLModel"}
    return getattr(transformers, kind[family])(config).eval()


def colqwen(folder: Path) -> Path:
    """One vector a token, over Qwen2-VL."""
    from transformers import ColQwen2Config, ColQwen2ForRetrieval, ColQwen2Processor

    torch.manual_seed(1)
    config = ColQwen2Config(vlm_config=_qwen_config("qwen2_vl", LAYERS), embedding_dim=16)
    ColQwen2ForRetrieval(config).save_pretrained(folder)
    ColQwen2Processor(_qwen_pictures(), words(_QWEN_SPECIAL, "<|image_pad|>")).save_pretrained(
        folder
    )
    return folder


def colpali(folder: Path) -> Path:
    """One vector a token, over PaliGemma: pictures of one size, and no causal mask."""
    from transformers import (
        ColPaliConfig,
        ColPaliForRetrieval,
        ColPaliProcessor,
        PaliGemmaConfig,
        SiglipImageProcessor,
    )

    special = ("<pad>", "<eos>", "<bos>", "<image>")
    tokenizer = words(special, "<image>", bos_token="<bos>")
    torch.manual_seed(2)
    vlm = PaliGemmaConfig(
        text_config={
            "model_type": "gemma",
            "vocab_size": len(tokenizer),
            "hidden_size": WIDTH,
            "intermediate_size": 64,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "max_position_embeddings": 512,
            "pad_token_id": 0,
            "bos_token_id": 2,
            "eos_token_id": 1,
        },
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": WIDTH,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 84,
            "patch_size": 14,
            "projection_dim": WIDTH,
            "vision_use_head": False,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=WIDTH,
        hidden_size=WIDTH,
    )
    ColPaliForRetrieval(ColPaliConfig(vlm_config=vlm, embedding_dim=16)).save_pretrained(folder)
    pictures = SiglipImageProcessor(size={"height": 84, "width": 84})
    pictures.image_seq_length = 36
    ColPaliProcessor(pictures, tokenizer).save_pretrained(folder)
    return folder


def clip(folder: Path) -> Path:
    """Two towers and a projection each, as transformers saves CLIP."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    tokenizer = words(("<pad>", "<eos>"), model_max_length=16)
    torch.manual_seed(3)
    tower = {
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": 24,
    }
    config = CLIPConfig(
        text_config={
            **tower,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 16,
            "eos_token_id": 1,
            "bos_token_id": 0,
            "pad_token_id": 0,
        },
        vision_config={**tower, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    CLIPModel(config).save_pretrained(folder)
    pictures = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(pictures, tokenizer).save_pretrained(folder)
    return folder


def _qwen_config(family: str, layers: int) -> Any:
    import transformers

    tokenizer = words(_QWEN_SPECIAL, "<|image_pad|>")
    ids = {word: tokenizer.convert_tokens_to_ids(word) for word in _QWEN_SPECIAL}
    vision: dict[str, Any] = {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2}
    vision |= {"depth": 2, "num_heads": 2}
    if family == "qwen2_vl":
        vision |= {"embed_dim": WIDTH, "hidden_size": WIDTH, "mlp_ratio": 2}
    else:
        vision |= {"hidden_size": WIDTH, "out_hidden_size": WIDTH, "intermediate_size": 64}
    if family == "qwen2_5_vl":
        vision |= {"fullatt_block_indexes": [1], "window_size": 56}
    if family == "qwen3_vl":
        vision |= {"deepstack_visual_indexes": [0, 1]}
    kind = {
        "qwen2_vl": "Qwen2VLConfig",
        "qwen2_5_vl": "Qwen2_5_VLConfig",
        "qwen3_vl": "Qwen3VLConfig",
    }
    return getattr(transformers, kind[family])(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": WIDTH,
            "intermediate_size": 64,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": 1024,
            "bos_token_id": None,
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [1, 1, 2],
            },
        },
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )


def _qwen_pictures() -> Any:
    from transformers import Qwen2VLImageProcessor

    return Qwen2VLImageProcessor(min_pixels=4 * CELL**2, max_pixels=64 * CELL**2)


def _qwen_processor() -> Any:
    from transformers import Qwen2VLProcessor, Qwen2VLVideoProcessor

    tokenizer = words(_QWEN_SPECIAL, "<|image_pad|>", video_token="<|video_pad|>")
    return Qwen2VLProcessor(
        _qwen_pictures(), tokenizer, Qwen2VLVideoProcessor(), chat_template=_CHAT
    )


def words(
    special: tuple[str, ...],
    image_token: str | None = None,
    *,
    video_token: str | None = None,
    bos_token: str | None = None,
    model_max_length: int = 512,
) -> Any:
    """A tokenizer of bytes and a few words; its first special token pads, the second ends."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["a red bus in the rain", "describe the image"], trainer)
    named = {"image_token": image_token, "video_token": video_token}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=special[0],
        eos_token="<|im_end|>" if "<|im_end|>" in special else special[1],
        bos_token=bos_token,
        extra_special_tokens={name: word for name, word in named.items() if word},
        model_max_length=model_max_length,
    )
