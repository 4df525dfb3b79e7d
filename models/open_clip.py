"""Encoders of the open_clip zoo: ``open_clip:ARCH/PRETRAINED`` and ``open_clip:local-dir:PATH``."""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import open_clip
import torch
from open_clip.timm_model import TimmModel
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from open_clip.transformer import TextTransformer, VisionTransformer
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.functional import normalize as l2_normalize

from maxsight.errors import EncoderError
from maxsight.models import hub, open_clip_zoo
from maxsight.models.device import resolve
from maxsight.models.embeddings import Embeddings
from maxsight.models.preprocess import Preprocess, normalize, resize


def load(name: str, *, device: str = "auto", dtype: torch.dtype | None = None) -> OpenClipEncoder:
    """Load an encoder of the open_clip zoo.

    Args:
        name: ``ARCH/PRETRAINED``, one of ``open_clip_zoo.names()``, taken from the hub's cache or
            fetched into it; or ``local-dir:PATH``, a folder with ``open_clip_config.json`` and
            the weights.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: precision of the arithmetic. Default: float32 on the CPU; on CUDA float16 for
            open_clip's own towers and bfloat16 for timm's, whose activations were not kept small
            enough for float16.

    Raises:
        UnknownEncoder: open_clip publishes no such pair.
        WeightsMissing: the files are not on this machine and cannot be fetched.
        EncoderError: the folder's configuration is not open_clip's.
        BackendError: the text tower needs transformers, which is not installed.
    """
    target = resolve(device)
    source = open_clip_zoo.find(name)
    tokenizer, tokenizer_hash = open_clip_zoo.tokenizer(source)
    if tower := source.model["text_cfg"].get("hf_model_name"):
        hub.fetch(tower, ["config.json"], encoder=source.uri)
    is_timm = "timm_model_name" in source.model["vision_cfg"]
    if dtype is None:
        half = torch.bfloat16 if is_timm else torch.float16
        dtype = torch.float32 if target.type == "cpu" else half
    network = _build(source, device=target, dtype=dtype)
    preprocess = _preprocess(network.visual.preprocess_cfg, uri=source.uri)
    identity = {
        "weights": hub.content_hash(source.weights),
        "model": source.model,
        "preprocess": asdict(preprocess),
        "tokenizer": tokenizer_hash,
    }
    digest = hashlib.sha256(b"open_clip 1\n" + json.dumps(identity, sort_keys=True).encode())
    return OpenClipEncoder(
        network.eval().requires_grad_(False),
        tokenizer,
        uri=source.uri,
        preprocess=preprocess,
        fingerprint=digest.hexdigest(),
        dim=source.model["embed_dim"],
        device=target,
        dtype=dtype,
    )


class OpenClipEncoder:
    """An open_clip model behind the ``Encoder`` contract (models/encoder.py).

    Patch tokens are the last block's states taken the way the pooled vector takes its own: through
    the final norm and the projection, and where the tower pools by attention, each patch pooled
    alone. Word tokens go through the text tower's norm and projection; the start, end and padding
    tokens are left out, so an empty text owns none. ``token_dim`` is None unless both towers are
    transformers with one state a patch and a word.
    """

    modalities = frozenset({"text", "image"})

    def __init__(
        self,
        network: Any,
        tokenizer: HFTokenizer | SimpleTokenizer,
        *,
        uri: str,
        preprocess: Preprocess,
        fingerprint: str,
        dim: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.uri = uri
        self.preprocess = preprocess
        self.fingerprint = fingerprint
        self.dim = dim
        self.device = device
        self.dtype = dtype
        self.max_text_tokens: int = tokenizer.context_length
        self._network = network
        self._tokenizer = tokenizer
        gives_tokens = _gives_patches(network.visual) and _gives_words(network)
        self.token_dim: int | None = dim if gives_tokens else None

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str], *, tokens: bool = False) -> Embeddings:
        """See ``Encoder``."""
        if not texts:
            return self._nothing(tokens)
        ids = self._tokenizer(list(texts)).to(self.device)
        if not tokens:
            return Embeddings(_unit(self._network.encode_text(ids, normalize=False)))
        self._require_tokens()
        output = self._network.forward_intermediates(
            text=ids, text_indices=1, normalize=False, normalize_intermediates=True
        )
        is_word = _is_word(ids, self._tokenizer)
        words = output["text_intermediates"][0][is_word]
        projection = _text_tower(self._network).text_projection
        if isinstance(projection, torch.nn.Module):
            words = projection(words)
        elif projection is not None:
            words = words.to(projection.dtype) @ projection
        return Embeddings(
            _unit(output["text_features"]), _unit(words), offsets=_offsets(is_word.sum(1))
        )

    @torch.no_grad()
    def encode_images(
        self, images: Sequence[Image.Image] | Tensor, *, tokens: bool = False
    ) -> Embeddings:
        """See ``Encoder``."""
        if len(images) == 0:
            return self._nothing(tokens)
        if isinstance(images, Tensor):
            pixels = images
        else:
            pixels = torch.stack(
                [
                    torch.from_numpy(resize(image.convert("RGB"), self.preprocess).copy())
                    for image in images
                ]
            )
        batch = normalize(pixels.to(self.device), self.preprocess).to(self.dtype)
        if not tokens:
            return Embeddings(_unit(self._network.encode_image(batch, normalize=False)))
        self._require_tokens()
        output = self._network.forward_intermediates(
            image=batch,
            image_indices=1,
            normalize=False,
            normalize_intermediates=True,
            image_output_fmt="NLC",
        )
        patches = output["image_intermediates"][0]
        count = torch.full((len(patches),), patches.shape[1], device=self.device)
        projected = _project_patches(self._network.visual, patches.flatten(0, 1))
        return Embeddings(
            _unit(output["image_features"]), _unit(projected), offsets=_offsets(count)
        )

    def _require_tokens(self) -> None:
        if self.token_dim is None:
            raise EncoderError(
                f"{self.uri} gives no tokens: both towers must be transformers without a caption "
                "decoder; index with --no-tokens"
            )

    def _nothing(self, tokens: bool) -> Embeddings:
        vectors = torch.zeros(0, self.dim, device=self.device)
        if not tokens:
            return Embeddings(vectors)
        self._require_tokens()
        offsets = torch.zeros(1, dtype=torch.int64, device=self.device)
        return Embeddings(vectors, vectors.clone(), offsets=offsets)


def _build(source: open_clip_zoo.Source, *, device: torch.device, dtype: torch.dtype) -> Any:
    """The network with its weights."""
    precision = {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(dtype, "fp32")
    try:
        with _without_random_weights_warning():
            network = open_clip.create_model(
                source.architecture,
                load_weights=False,
                pretrained_text=False,
                precision=precision,
                device=device,
                force_quick_gelu=bool(source.model.get("quick_gelu")),
                force_preprocess_cfg=source.preprocess,
            )
        # Not create_model's own loading: it may pick another file of a folder than was hashed.
        open_clip.load_checkpoint(network, str(source.weights))
    except (
        TypeError,  # a configuration with keys that open_clip does not know
        KeyError,
        RuntimeError,
        EOFError,
        pickle.UnpicklingError,
        SafetensorError,
    ) as error:
        raise EncoderError(
            f"{source.uri}: {source.weights} cannot be read as weights of the architecture "
            f"({error}); fetch the file again or give the configuration that belongs to it"
        ) from error
    return network


@contextmanager
def _without_random_weights_warning() -> Iterator[None]:
    """open_clip warns on the root logger that no weights were loaded, a line before they are."""

    def keep(record: logging.LogRecord) -> bool:
        return "initialized randomly" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)


def _preprocess(config: dict[str, Any], *, uri: str) -> Preprocess:
    """open_clip's PreprocessCfg in our words."""
    size, fill = config["size"], config["fill_color"]
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise EncoderError(f"{uri} reads {height} by {width} pixels; only squares are supported")
    mean, std = config["mean"], config["std"]
    return Preprocess(
        size=height,
        resize_mode=config["resize_mode"],
        # open_clip reads "random", an augmentation, as bicubic when it is not training
        interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        fill=(fill, fill, fill),
    )


def _gives_patches(visual: Any) -> bool:
    if isinstance(visual, TimmModel):
        from timm.models.eva import Eva
        from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer

        return isinstance(visual.trunk, (TimmVisionTransformer, Eva))
    return isinstance(visual, VisionTransformer) and visual.attn_pool is None


def _project_patches(visual: Any, patches: Tensor) -> Tensor:
    """(N, width) normed states -> (N, D), by the way the pooled state takes."""
    if isinstance(visual, VisionTransformer):
        projected: Tensor = patches.to(visual.proj.dtype) @ visual.proj
        return projected
    trunk = visual.trunk
    if trunk.attn_pool is not None:
        patches = trunk.attn_pool(patches[:, None])  # a sequence of one: attention is the identity
    pooled: Tensor = visual.head(trunk.head(trunk.fc_norm(patches)))
    return pooled


def _text_tower(network: Any) -> Any:
    return getattr(network, "text", network)


def _gives_words(network: Any) -> bool:
    if hasattr(network, "text"):
        return isinstance(network.text, TextTransformer)
    return isinstance(network, open_clip.CLIP)


def _is_word(ids: Tensor, tokenizer: HFTokenizer | SimpleTokenizer) -> Tensor:
    """(B, L) bool: neither start, end nor padding."""
    if isinstance(tokenizer, SimpleTokenizer):
        # Padding is 0, which is also the id of "!", so the end is found by its own id.
        position = torch.arange(ids.shape[1], device=ids.device)
        end: Tensor = (ids == tokenizer.eot_token_id).int().argmax(dim=1, keepdim=True)
        return (position > 0) & (position < end)
    inner = tokenizer.tokenizer
    special = [inner.pad_token_id, inner.bos_token_id, inner.eos_token_id]
    special += [inner.cls_token_id, inner.sep_token_id]
    numbers = [number for number in special if number is not None]
    is_word: Tensor = torch.isin(ids, torch.tensor(numbers, device=ids.device), invert=True)
    return is_word


def _offsets(counts: Tensor) -> Tensor:
    offsets = torch.zeros(len(counts) + 1, dtype=torch.int64, device=counts.device)
    torch.cumsum(counts, dim=0, out=offsets[1:])
    return offsets


def _unit(states: Tensor) -> Tensor:
    return l2_normalize(states.float(), dim=-1)
