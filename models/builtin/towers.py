"""The two frozen towers and the tokenizer, read from their verified files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch.nn.functional import normalize

from maxsight.models.builtin import text_tower
from maxsight.models.builtin.image_tower import ImageTower
from maxsight.models.builtin.text_tower import TextFeatures, TextTower
from maxsight.models.pixels.preprocess import Preprocess

_LOG = logging.getLogger(__name__)

MAX_TEXT_TOKENS = (
    128  # the longest MiniLM saw in its contrastive training, [CLS] and [SEP] included
)
PREPROCESS = Preprocess(
    size=224,
    resize_mode="longest",
    interpolation="bicubic",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
# A query is the mean of its vectors as it stands and as the name of a photograph.
PROMPTS = ("{}", "a photo of a {}")


def image_dtype(device: torch.device) -> torch.dtype:
    """The fastest precision of the image trunk on a device: bfloat16 where the chip multiplies it.

    Embeddings differ from float32's by a cosine of less than 0.001
    (tests/models/builtin/test_encoder.py).
    """
    if device.type == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        chip = torch.cpu.get_capabilities()
        supported = bool(chip.get("avx512_bf16") or chip.get("amx_bf16"))
    if not supported:
        _LOG.info("no bfloat16 arithmetic on %s: the builtin encoder uses float32", device)
    return torch.bfloat16 if supported else torch.float32


def read_image_tower(path: Path, *, device: torch.device, dtype: torch.dtype) -> ImageTower:
    """EfficientNet-Lite0 with the weights at ``path``."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    return ImageTower.from_state(state).to(device, dtype)


class SentenceEncoder:
    """MiniLM from texts on: tokenizer and tower together, in float32."""

    def __init__(self, weights: Path, tokenizer: Path, *, device: torch.device) -> None:
        self._tower: TextTower = TextTower.from_state(load_file(weights)).to(device)
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TEXT_TOKENS)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> tuple[TextFeatures, list[int]]:
        """Sentence vectors and word states of B texts, and how many tokens each has.

        Every text has [CLS] first and [SEP] last.
        """
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        return self._tower(ids), [len(sequence) for sequence in ids]

    def prompted(self, texts: Sequence[str]) -> torch.Tensor:
        """(B, 384) float32, rows L2-normalised: the mean over ``PROMPTS``."""
        if not texts:
            return torch.zeros(0, text_tower.WIDTH, device=self._tower.words.weight.device)
        filled = [prompt.format(text) for prompt in PROMPTS for text in texts]
        vectors = self(filled)[0].pooled.view(len(PROMPTS), len(texts), text_tower.WIDTH)
        return normalize(vectors.sum(0), dim=-1)
