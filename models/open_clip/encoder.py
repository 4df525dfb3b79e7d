"""Encoders of the open_clip zoo: ``open_clip:ARCH/PRETRAINED``, ``open_clip:local-dir:PATH`` and
``hf-hub:OWNER/REPO``."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import torch
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from open_clip.transformer import ResidualAttentionBlock, TextTransformer
from PIL import Image
from torch import Tensor

from maxsight.errors import EncoderError
from maxsight.kernels.merge import Schedule
from maxsight.mix import Mix
from maxsight.models import hub, model_folder
from maxsight.models.device import resolve
from maxsight.models.embeddings import Embeddings, offsets_of
from maxsight.models.open_clip import zoo
from maxsight.models.options import EncoderUri, Options
from maxsight.models.pixels.preprocess import Preprocess, normalize, resize_batch
from maxsight.models.precision import arithmetic, unit
from maxsight.models.towers import merging
from maxsight.models.towers import open_clip as image_towers
from maxsight.models.towers import text as text_towers
from maxsight.models.towers.dense import dense
from maxsight.models.towers.temperature import sharpen
from maxsight.models.towers.tower import Tower

_SUPPORTED = ("merge", "tempscale", "tokens")


def load(
    name: str,
    *,
    options: Options | None = None,
    device: str = "auto",
    dtype: torch.dtype | None = None,
) -> OpenClipEncoder:
    """Load an encoder of the open_clip zoo.

    Args:
        name: ``ARCH/PRETRAINED``, one of ``zoo.names()``, taken from the hub's cache or
            fetched into it; or ``local-dir:PATH``, a folder with ``open_clip_config.json`` and
            the weights.
        options: ``merge`` and ``tokens`` where the image tower is a transformer of patches,
            ``tempscale`` where the text tower is open_clip's own.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: of the arithmetic. Default: ``precision.arithmetic``; activations of timm's towers
            were not kept small enough for float16.

    Raises:
        UnknownEncoder: open_clip publishes no such pair, or a schedule has too many layers.
        WeightsMissing: the files are not on this machine and cannot be fetched.
        EncoderError: the folder's configuration is not open_clip's, or the towers do not support
            an option.
        BackendError: the text tower needs transformers, which is not installed.
    """
    return _load(
        lambda: zoo.find(name),
        EncoderUri("open_clip", name, options or Options()),
        device=device,
        dtype=dtype,
    )


def load_repository(
    name: str,
    *,
    options: Options | None = None,
    device: str = "auto",
    dtype: torch.dtype | None = None,
) -> OpenClipEncoder:
    """Load an encoder that open_clip saved to the Hugging Face hub.

    Args:
        name: ``OWNER/REPO``.
        options, device, dtype: as :func:`load`.

    Raises:
        UnknownEncoder, WeightsMissing, EncoderError, BackendError: as :func:`load`.
    """
    return _load(
        lambda: zoo.find_repository(name),
        EncoderUri("hf-hub", name, options or Options()),
        device=device,
        dtype=dtype,
    )


def _load(
    find: Callable[[], zoo.Source],
    uri: EncoderUri,
    *,
    device: str,
    dtype: torch.dtype | None,
) -> OpenClipEncoder:
    options = uri.options
    options.require_only(_SUPPORTED, encoder=f"{uri.scheme}:{uri.name}")
    target = resolve(device)
    source = find()
    tokenizer, tokenizer_hash = zoo.tokenizer(source)
    is_timm = "timm_model_name" in source.model["vision_cfg"]
    dtype = dtype or arithmetic(target, fits_float16=not is_timm)
    network = _build(source, device=target, dtype=dtype).eval().requires_grad_(False)
    if options.tempscale is not None:
        sharpen(_text_attentions(network, uri=source.uri), options.tempscale)
    preprocess = _preprocess(network.visual.preprocess_cfg, uri=source.uri)
    identity = {
        "weights": hub.content_hash(source.weights),
        "model": source.model,
        "preprocess": asdict(preprocess),
        "tokenizer": tokenizer_hash,
    }
    changes = {key: value for key, value in options.given().items() if value != "last"}
    if changes:
        identity["options"] = changes
    former = () if source.former is None else (_digest(identity | {"model": source.former}),)
    return OpenClipEncoder(
        network,
        tokenizer,
        uri=uri,
        tower=_tower(network.visual, uri),
        preprocess=preprocess,
        fingerprint=_digest(identity),
        former_fingerprints=former,
        dim=source.model["embed_dim"],
        device=target,
        dtype=dtype,
    )


def _digest(identity: dict[str, Any]) -> str:
    text = b"open_clip 1\n" + json.dumps(identity, sort_keys=True).encode()
    return hashlib.sha256(text).hexdigest()


def _tower(visual: Any, uri: EncoderUri) -> Tower | None:
    """The image tower in its parts; None if it has none and no option asks for them."""
    try:
        tower = image_towers.tower(visual, encoder=f"{uri.scheme}:{uri.name}")
    except EncoderError:
        if uri.options.merge or uri.options.tokens:
            raise
        return None
    if uri.options.tokens and tower.project is None:
        raise EncoderError(
            f"{uri.scheme}:{uri.name} pools its patches by several queries and gives no tokens; "
            "leave the option tokens out"
        )
    return tower


class OpenClipEncoder:
    """An open_clip model behind the ``Encoder`` contract (models/encoder.py).

    Patch tokens are states of the last block (option ``tokens``, models/towers/dense.py) taken the
    way the pooled vector takes its own: through the final norm and the projection, and where the
    tower pools by attention, each patch pooled alone. With the option ``merge`` they are fewer and
    leave with their sizes. Word tokens go through the text tower's norm and projection; the start,
    end and padding tokens are left out, so an empty text owns none. ``token_dim`` is None unless
    both towers are transformers with one state a patch and a word.
    """

    modalities = frozenset({"text", "image"})
    mix: Mix | None = None

    def __init__(
        self,
        network: Any,
        tokenizer: HFTokenizer | SimpleTokenizer,
        *,
        uri: EncoderUri,
        tower: Tower | None,
        preprocess: Preprocess,
        fingerprint: str,
        former_fingerprints: tuple[str, ...],
        dim: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.uri = str(uri)
        self.preprocess = preprocess
        self.fingerprint = fingerprint
        self.former_fingerprints = former_fingerprints
        self.dim = dim
        self.device = device
        self.dtype = dtype
        self.max_text_tokens: int = tokenizer.context_length
        self._network = network
        self._tokenizer = tokenizer
        # It sets its padding for each call, and must not be called from two threads.
        self._turn = threading.Lock()
        self._tower = tower
        self._token_source = uri.options.tokens or "last"
        self._schedule: Schedule = 0
        if tower is not None and uri.options.merge:
            self._schedule = merging.schedule_of(uri.options.merge, layers=len(tower.blocks))
        has_patches = tower is not None and tower.project is not None
        self.token_dim: int | None = dim if has_patches and _gives_words(network) else None

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str], *, tokens: bool = False) -> Embeddings:
        """See ``Encoder``."""
        if not texts:
            return self._nothing(tokens)
        if tokens:
            self._require_tokens()
        with model_folder.read_by("open_clip", "a text", encoder=self.uri):
            with self._turn:
                ids = self._tokenizer(list(texts)).to(self.device)
            pooled, states = self._text(ids, tokens=tokens)
        if not tokens or states is None:
            return Embeddings(unit(pooled))
        is_word = _is_word(ids, self._tokenizer)
        words = text_towers.project(_text_tower(self._network), states[is_word])
        return Embeddings(unit(pooled), unit(words), offsets=offsets_of(is_word.sum(1)))

    def _text(self, ids: Tensor, *, tokens: bool) -> tuple[Tensor, Tensor | None]:
        """(B, D) pooled and, if asked for, (B, L, width) normed states."""
        text = _text_tower(self._network)
        if text_towers.is_causal(text):
            return text_towers.encode(text, ids)
        if not tokens:
            return self._network.encode_text(ids, normalize=False), None
        output = self._network.forward_intermediates(
            text=ids, text_indices=1, normalize=False, normalize_intermediates=True
        )
        return output["text_features"], output["text_intermediates"][0]

    @torch.no_grad()
    def encode_images(
        self, images: Sequence[Image.Image] | Tensor, *, tokens: bool = False
    ) -> Embeddings:
        """See ``Encoder``."""
        if len(images) == 0:
            return self._nothing(tokens)
        if isinstance(images, Tensor):
            pixels = images.to(self.device)
        else:
            pixels = resize_batch(images, self.preprocess, device=self.device)
        batch = normalize(pixels, self.preprocess).to(self.dtype)
        if tokens:
            self._require_tokens()
        elif self._schedule == 0:
            with model_folder.read_by("open_clip", "a picture", encoder=self.uri):
                return Embeddings(unit(self._network.encode_image(batch, normalize=False)))
        assert self._tower is not None
        entered, left = merging.run(self._tower, batch, self._schedule)
        vectors = unit(self._tower.pool(left.tokens, left.sizes))
        if not tokens:
            return Embeddings(vectors)
        patches, sizes = dense(self._tower, entered, left, self._token_source)
        count = torch.full((len(patches),), patches.shape[1], device=self.device)
        return Embeddings(
            vectors,
            unit(patches).flatten(0, 1),
            offsets=offsets_of(count),
            sizes=None if sizes is None else sizes.flatten(),
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


def _build(source: zoo.Source, *, device: torch.device, dtype: torch.dtype) -> Any:
    """The network with its weights."""
    precision = {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(dtype, "fp32")
    text_tower = zoo.text_tower(source)
    with (
        model_folder.read_by("open_clip", source.weights, encoder=source.uri),
        _without_warnings_of_no_weights(),
        hub.sealed(),
        _written(source.model, text_tower) as folder,
    ):
        network = open_clip.create_model(
            f"{zoo.LOCAL}{folder}",
            load_weights=False,
            pretrained_text=False,
            precision=precision,
            device=device,
            force_preprocess_cfg=source.preprocess,
        )
        # Not create_model's own loading: it may pick another file of a folder than was hashed.
        open_clip.load_checkpoint(network, str(source.weights), weights_only=True)
    return network


@contextmanager
def _written(model: dict[str, Any], text_tower: dict[str, Any] | None) -> Iterator[Path]:
    """A folder with the configuration that was looked at, and nothing else.

    open_clip would read the encoder's own folder once more, and look for a text tower of
    transformers in the current folder before the hub's cache.
    """
    with TemporaryDirectory(prefix="maxsight-") as name:
        folder = Path(name)
        if text_tower is not None:
            (folder / "config.json").write_text(json.dumps(text_tower))
            model = model | {"text_cfg": model["text_cfg"] | {"hf_model_name": name}}
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))
        yield folder


@contextmanager
def _without_warnings_of_no_weights() -> Iterator[None]:
    """open_clip warns on the root logger that no weights were loaded, a line before they are."""

    def keep(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        return "initialized randomly" not in text and "no CLIP weights found" not in text

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


def _text_tower(network: Any) -> Any:
    return getattr(network, "text", network)


def _text_attentions(network: Any, *, uri: str) -> list[torch.nn.MultiheadAttention]:
    """The attention layers of a text tower of open_clip's own."""
    transformer = getattr(_text_tower(network), "transformer", None)
    blocks = list(getattr(transformer, "resblocks", ()))
    if not blocks or not all(type(block) is ResidualAttentionBlock for block in blocks):
        raise EncoderError(
            f"{uri}: the temperature of a text tower can be set where it is open_clip's own; leave "
            "the option tempscale out"
        )
    return [block.attn for block in blocks]


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
