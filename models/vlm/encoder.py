"""Whatever sentence-transformers loads that reads pictures: ``st:NAME`` and ``st:FOLDER``."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from maxsight.errors import (
    BackendError,
    EncoderError,
    UnknownEncoder,
    WeightsMissing,
)
from maxsight.mix import TOKENS_ALONE, Mix
from maxsight.models import hub, model_folder, precision
from maxsight.models.device import resolve
from maxsight.models.embeddings import Embeddings, offsets_of
from maxsight.models.options import EncoderUri, Options
from maxsight.models.pixels.preprocess import Preprocess, resize
from maxsight.models.towers import hf
from maxsight.models.vlm import aim

# Raise it when a change of this module changes vectors though no file of a model changed.
_REVISION = 1

_WEIGHTS = ("*.safetensors", "**/*.safetensors", "*.bin", "**/*.bin")
_CONFIGURATION = ("*.json", "*.jinja", "*.txt", "*.model")
# A model's folder has one of these.
_MARKS = (
    *("config.json", "modules.json"),
    *("config_sentence_transformers.json", "adapter_config.json"),
)
_OTHER_BACKENDS = {"onnx", "openvino"}

# Families whose image tower merges by itself; the others merge in front of a language model.
_TWO_TOWERS = ("clip", "siglip")

# Inputs that are computed at once, those of like length together: more would mostly add padding.
_PICTURES, _TEXTS = 16, 64

# A square of as many pixels is the largest picture that is handed to a processor. Some would take
# 13 million pixels by default, which cost minutes a picture.
_MOST_SIDE = 1536

Task = Literal["query", "document"]
_PROMPTS: dict[Task, tuple[str, ...]] = {
    "query": ("query",),
    "document": ("document", "passage", "corpus"),
}


def load(
    name: str,
    *,
    options: Options | None = None,
    device: str = "auto",
    dtype: torch.dtype | None = None,
) -> SentenceTransformersEncoder:
    """Load an encoder through sentence-transformers.

    Args:
        name: a folder; or ``OWNER/NAME`` of the Hugging Face hub, taken from its cache or fetched
            into it; without an owner, one of sentence-transformers' own.
        options: ``merge`` for CLIP and SigLIP; ``merge`` (a share) and ``prune`` for
            vision-language models (docs/vlm.md).
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: precision of the arithmetic. Default: float32 on the CPU, bfloat16 on CUDA.

    Raises:
        BackendError: sentence-transformers is not installed.
        UnknownEncoder: the name is neither a folder nor a possible name on the hub.
        WeightsMissing: the files are not on this machine and cannot be fetched.
        EncoderError: the model reads no pictures, is of a kind that gives no vectors, cannot be
            built, or does not support an option.
    """
    options = options or Options()
    uri = str(EncoderUri("st", name, options))
    options.require_only(("merge", "prune"), encoder=uri)
    if importlib.util.find_spec("sentence_transformers") is None:
        raise BackendError(
            f"{uri} needs sentence-transformers; install it with `pip install 'maxsight[vlm]'`"
        )
    target = resolve(device)
    dtype = dtype or precision.arithmetic(target, fits_float16=False)
    folder = _folder(name, uri=uri)
    with model_folder.read_by("sentence-transformers", folder, encoder=uri):
        model, is_multi_vector = _build(folder, device=target, dtype=dtype, uri=uri)
        for modality in ("text", "image"):
            if not model.supports(modality):
                takes = ", ".join(map(str, model.modalities))
                raise EncoderError(
                    f"{uri} takes no {modality} (only {takes}); give an encoder of text and "
                    "pictures"
                )
        reduction = _reduction(model, options, is_multi_vector=is_multi_vector, uri=uri)
        preprocess = Preprocess(size=_side(model.processor), resize_mode="fit")
        identity = {
            "files": _hashes(folder),
            "options": options.given(),
            "preprocess": asdict(preprocess),
            "revision": _REVISION,
        }
        dim = model.get_embedding_dimension()
        if type(dim) is not int or dim < 1:
            raise ValueError(f"its vectors have {dim!r} dimensions")
        digest = hashlib.sha256(b"st\n" + json.dumps(identity, sort_keys=True).encode())
        return SentenceTransformersEncoder(
            model,
            uri=uri,
            preprocess=preprocess,
            fingerprint=digest.hexdigest(),
            is_multi_vector=is_multi_vector,
            reduction=reduction,
            device=target,
            dtype=dtype,
        )


class SentenceTransformersEncoder:
    """A model of sentence-transformers behind the ``Encoder`` contract (models/encoder.py).

    Texts are encoded as queries and pictures as documents, with the prompts, query augmentation
    and masks that the model defines; the model's own processor scales the pictures, after larger
    ones than it could use were reduced to ``preprocess.size`` squared pixels. Vectors and tokens
    are normalised.

    A multi-vector model (late interaction) has no pooled vector of its own: it is given the
    normalised mean of its tokens, by size where tokens were merged. Its score is MaxSim alone, so
    ``mix`` is ``TOKENS_ALONE``. The others give no tokens, and ``mix`` is None.
    """

    modalities = frozenset({"text", "image"})
    former_fingerprints: tuple[str, ...] = ()

    def __init__(
        self,
        model: Any,
        *,
        uri: str,
        preprocess: Preprocess,
        fingerprint: str,
        is_multi_vector: bool,
        reduction: aim.Reduction | None,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.uri = uri
        self.preprocess = preprocess
        self.fingerprint = fingerprint
        self.device = device
        self.dtype = dtype
        self.dim: int = model.get_embedding_dimension()
        self.token_dim: int | None = self.dim if is_multi_vector else None
        # Its scores are sums of MaxSim; the mean of its tokens was trained for nothing.
        self.mix: Mix | None = TOKENS_ALONE if is_multi_vector else None
        self.max_text_tokens = _longest_text(model)
        self._model = model
        self._reduction = reduction
        self._prompts = {task: _prompt(model, names) for task, names in _PROMPTS.items()}
        # A tokenizer sets its padding for each call, and must not be called from two threads.
        self._processor_lock = threading.Lock()

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str], *, tokens: bool = False) -> Embeddings:
        """See ``Encoder``."""
        return self._encode(list(texts), [len(text) for text in texts], "query", tokens=tokens)

    @torch.no_grad()
    def encode_images(
        self, images: Sequence[Image.Image] | Sequence[Tensor] | Tensor, *, tokens: bool = False
    ) -> Embeddings:
        """See ``Encoder``; pixels may be a list of (height, width, 3) uint8, each of its shape."""
        pictures = [self._picture(image) for image in images]
        areas = [picture.width * picture.height for picture in pictures]
        return self._encode(pictures, areas, "document", tokens=tokens)

    def _picture(self, image: Image.Image | Tensor) -> Image.Image:
        if isinstance(image, Tensor):
            return Image.fromarray(image.cpu().numpy())
        return Image.fromarray(resize(image.convert("RGB"), self.preprocess))

    def _encode(
        self, inputs: list[Any], lengths: list[int], task: Task, *, tokens: bool
    ) -> Embeddings:
        """Encode batches of like lengths and put the results back in order."""
        if tokens and self.token_dim is None:
            raise EncoderError(
                f"{self.uri} gives one vector an input and no tokens; index with --no-tokens, or "
                "give a multi-vector model"
            )
        vectors = torch.zeros(len(inputs), self.dim, device=self.device)
        packed: list[tuple[Tensor, Tensor | None]] = [(vectors[:0], None)] * len(inputs)
        order = sorted(range(len(inputs)), key=lambda number: -lengths[number])
        at_once = _TEXTS if task == "query" else _PICTURES
        for first in range(0, len(order), at_once):
            numbers = order[first : first + at_once]
            features, sizes = self._forward([inputs[number] for number in numbers], task)
            if self.token_dim is None:
                vectors[numbers] = precision.unit(features["sentence_embedding"][:, : self.dim])
                continue
            is_token = features["attention_mask"].bool()
            states = precision.unit(features["token_embeddings"])
            for row, number in enumerate(numbers):
                own = states[row, is_token[row]]
                weights = None if sizes is None else sizes[row, is_token[row]]
                packed[number] = own, weights
                vectors[number] = precision.unit(own.sum(0) if weights is None else weights @ own)
        if not tokens:
            return Embeddings(vectors)
        counts = torch.tensor([len(states) for states, _ in packed], device=self.device)
        found = [weights for _, weights in packed if weights is not None]
        return Embeddings(
            vectors,
            torch.cat([vectors[:0], *(states for states, _ in packed)]),
            offsets=offsets_of(counts),
            sizes=torch.cat(found) if found else None,
        )

    def _forward(self, inputs: list[Any], task: Task) -> tuple[dict[str, Any], Tensor | None]:
        """The model's output features, and the sizes of tokens by position where some merged."""
        from sentence_transformers.util import batch_to_device

        # Configurations that do not fit are seen here at last, or a chat template that tries more.
        with model_folder.read_by("sentence-transformers", f"a {task}", encoder=self.uri):
            with self._processor_lock:
                features = self._model.preprocess(inputs, prompt=self._prompts[task], task=task)
            features = batch_to_device(features, self.device)
            if self._reduction is None or task == "query":
                return self._model(features, task=task), None
            with self._reduction.of(features["input_ids"], features["attention_mask"]) as batch:
                return self._model(features, task=task), batch.sizes


def _folder(name: str, *, uri: str) -> Path:
    folder = hub.folder_at(name, encoder=uri)
    if not name or not folder.is_dir():
        if not hub.is_repository(name, with_owner=False):
            raise UnknownEncoder(
                f"{uri}: {name!r} is no folder, nor a name of the form OWNER/NAME as the Hugging "
                "Face hub has them"
            )
        repository = name if "/" in name else f"sentence-transformers/{name}"
        folder = hub.fetch_folder(repository, _CONFIGURATION, complete_with=_WEIGHTS, encoder=uri)
    if not any((folder / name).is_file() for name in _MARKS):  # any folder may have been named
        if not any(next(folder.glob(pattern), None) for pattern in ("*.safetensors", "*.bin")):
            raise WeightsMissing(_without_weights(folder, uri))
        raise EncoderError(
            f"{uri}: sentence-transformers cannot load {folder}: it has weights but none of "
            f"{', '.join(_MARKS)}; copy the whole folder of the model"
        )
    model_folder.inspect(folder, encoder=uri)
    if any(folder.rglob("adapter_config.json")):
        raise EncoderError(
            f"{uri} is an adapter to another model's weights; give the model with both merged "
            "(for vidore's, the names that end in -hf)"
        )
    if not any(next(folder.glob(pattern), None) for pattern in _WEIGHTS):
        raise WeightsMissing(_without_weights(folder, uri))
    return folder


def _without_weights(folder: Path, uri: str) -> str:
    return (
        f"{uri}: {folder} holds no weights (.safetensors or .bin); copy them there, or use "
        "--encoder builtin, which works offline"
    )


def _build(folder: Path, *, device: torch.device, dtype: torch.dtype, uri: str) -> tuple[Any, bool]:
    """The model, and whether it gives a vector a token."""
    import sentence_transformers

    is_multi_vector = _is_multi_vector(folder, uri=uri)
    kind = (
        sentence_transformers.MultiVectorEncoder
        if is_multi_vector
        else sentence_transformers.SentenceTransformer
    )
    with _without_progress_bars(), hub.sealed():
        model = kind(
            str(folder),
            device=str(device),
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"dtype": dtype},
        )
    return model.eval().requires_grad_(False), is_multi_vector


def _is_multi_vector(folder: Path, *, uri: str) -> bool:
    kind = _read(folder / "config_sentence_transformers.json", uri).get("model_type")
    if kind in ("SparseEncoder", "CrossEncoder"):
        raise EncoderError(
            f"{uri} is a {kind}, which gives no dense vectors; give a SentenceTransformer or a "
            "MultiVectorEncoder"
        )
    architectures = _read(folder / "config.json", uri).get("architectures")
    names = architectures if isinstance(architectures, list) else ()
    return kind in ("MultiVectorEncoder", "ColBERT") or any(
        isinstance(name, str) and (name.endswith("ForRetrieval") or name == "HF_ColBERT")
        for name in names
    )


def _read(path: Path, uri: str) -> dict[str, Any]:
    return model_folder.read(path, encoder=uri) if path.is_file() else {}


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """transformers draws a bar for every file of weights, also where standard error is a log."""
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()


def _reduction(
    model: Any, options: Options, *, is_multi_vector: bool, uri: str
) -> aim.Reduction | None:
    if options.merge is None and options.prune is None:
        return None
    if options.merge is not None and model.transformers_model.config.model_type in _TWO_TOWERS:
        options.require_only(("merge",), encoder=uri)
        hf.attach(model.transformers_model, options.merge, encoder=uri)
        return None
    if options.merge is not None and not options.merge.endswith("%"):
        raise EncoderError(
            f"{uri}: a vision-language model merges before its first layer; write the share of "
            "the features to keep, as merge=25%"
        )
    if is_multi_vector and (options.prune or "").split(",")[0] in ("aim", "0%"):
        raise EncoderError(
            f"{uri}: this schedule leaves no visual token in the end, and a multi-vector model's "
            "visual tokens are what is matched; write the share to keep, as prune=25%"
        )
    share = 1.0 if options.merge is None else float(options.merge.removesuffix("%")) / 100
    reduction = aim.attach(model, merge_share=share, prune=options.prune, encoder=uri)

    def leave_out_the_gone(
        module: Any, args: tuple[Any, ...], features: dict[str, Any]
    ) -> dict[str, Any] | None:
        if (batch := aim.current()) is None:
            return None
        return {**features, "attention_mask": batch.is_left.to(features["attention_mask"].dtype)}

    model[0].register_forward_hook(leave_out_the_gone)
    return reduction


def _side(processor: Any) -> int:
    """Side of the square whose pixels are all that the processor can use of a picture."""
    images = getattr(processor, "image_processor", processor)
    size = dict(getattr(images, "size", None) or {})
    crop = dict(getattr(images, "crop_size", None) or {})
    if "height" in size:
        side = 2 * max(int(size["height"]), int(size["width"]))
    elif "longest_edge" in size and size["longest_edge"] > 1 << 13:  # Qwen's: a number of pixels
        side = math.isqrt(size["longest_edge"])
    else:
        # Twice the side: a picture four times as wide as high still fills the crop.
        side = 2 * max(int(side) for side in (*size.values(), *crop.values(), 224))
    return min(side, _MOST_SIDE)


def _longest_text(model: Any) -> int:
    """In tokens; where the tokenizer sets no limit, the positions of the language model."""
    config = model.transformers_model.config.get_text_config()
    limits = [model.max_seq_length, getattr(config, "max_position_embeddings", None)]
    longest: int = min(limit for limit in limits if limit)
    return longest


def _prompt(model: Any, names: Sequence[str]) -> str | None:
    """What sentence-transformers' encode_query and encode_document put in front."""
    names = [*names, model.default_prompt_name]
    prompt: str | None = next(
        (model.prompts[name] for name in names if name in model.prompts), None
    )
    return prompt


def _hashes(folder: Path) -> dict[str, str]:
    """File -> sha256 of everything in a model's folder that it may be read from."""
    suffixes = {pattern[pattern.rindex(".") :] for pattern in (*_WEIGHTS, *_CONFIGURATION)}
    found = {
        file.relative_to(folder).as_posix(): file
        for file in folder.rglob("*")
        if file.suffix in suffixes and file.is_file()
    }
    return {
        name: hub.content_hash(file)
        for name, file in sorted(found.items())
        if not _OTHER_BACKENDS & set(Path(name).parts)
    }
