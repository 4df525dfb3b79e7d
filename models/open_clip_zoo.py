"""What open_clip publishes and what its folders hold: from an encoder's name to its files."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
from open_clip.pretrained import get_pretrained_cfg
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

from maxsight import strict_json
from maxsight.errors import BackendError, EncoderError, UnknownEncoder, WeightsMissing
from maxsight.models import hub

LOCAL = "local-dir:"
_CONFIGURATION = "open_clip_config.json"
_SAFETENSORS, _PICKLE = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"
_TOKENIZER_FILES = ("tokenizer*.json", "*.model", "vocab.*", "merges.txt")


@dataclass(frozen=True)
class Source:
    """What is known of an encoder before it is built."""

    uri: str
    architecture: str  # as open_clip.create_model takes it
    model: dict[str, Any]
    preprocess: dict[str, Any]
    weights: Path
    tokenizer_folder: Path | None  # None: the tokenizer comes from the hub


def names() -> list[str]:
    """Every ``ARCH/PRETRAINED`` that open_clip publishes."""
    return [f"{arch}/{tag}" for arch, tag in open_clip.list_pretrained()]


def find(name: str) -> Source:
    """The configuration and the weights of an encoder, fetched if they must be.

    Args:
        name: ``ARCH/PRETRAINED`` or ``local-dir:PATH``.

    Raises:
        UnknownEncoder: open_clip publishes no such pair.
        WeightsMissing: the files are not on this machine and cannot be fetched.
        EncoderError: the folder's configuration is not open_clip's.
    """
    return _local(name) if name.startswith(LOCAL) else _published(name)


def find_repository(name: str) -> Source:
    """The same of a repository on the Hugging Face hub that open_clip saved its model to.

    Args:
        name: ``OWNER/REPO``; it holds ``open_clip_config.json`` and the weights.

    Raises:
        UnknownEncoder: the name does not read so.
        WeightsMissing: the files are not on this machine and cannot be fetched, or the repository
            has none of that name.
        EncoderError: the configuration is not open_clip's.
    """
    uri = f"hf-hub:{name}"
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UnknownEncoder(f"{uri!r} names no repository: it must read hf-hub:OWNER/REPO")
    path = hub.fetch(name, [_CONFIGURATION], encoder=uri)
    model, preprocess = _read(path, uri=uri)
    weights = hub.fetch(name, [_SAFETENSORS, _PICKLE], encoder=uri)
    return Source(uri, f"{LOCAL}{path.parent}", model, preprocess, weights, None)


def _published(name: str) -> Source:
    uri = f"open_clip:{name}"
    architecture, _, tag = name.rpartition("/")
    architecture = architecture.replace("/", "-")  # OpenAI's spelling, ViT-B/32
    config = open_clip.get_model_config(architecture)
    published = get_pretrained_cfg(architecture, tag)
    if config is None or not published:
        near = difflib.get_close_matches(name, names(), n=3, cutoff=0.5)
        near += [f"{name}/{tag}" for tag in open_clip.list_pretrained_tags_by_model(name)]
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UnknownEncoder(
            f"open_clip publishes no {name!r}; it must read ARCH/PRETRAINED or {LOCAL}PATH. "
            f"{hint}`python -m {__name__}` lists them all"
        )
    # A tag knows which activation its weights were trained with; the architecture's name may not.
    config["quick_gelu"] = bool(published.get("quick_gelu", False))
    repository, _, filename = published["hf_hub"].rpartition("/")
    if filename:
        candidates = [str(Path(filename).with_suffix(".safetensors")), filename]
    else:
        candidates = [_SAFETENSORS, _PICKLE]
    weights = hub.fetch(repository, candidates, encoder=uri)
    return Source(uri, architecture, config, published, weights, None)


def _local(name: str) -> Source:
    uri = f"open_clip:{name}"
    folder = Path(name.removeprefix(LOCAL)).expanduser()
    path = folder / _CONFIGURATION
    if not path.is_file():
        state = f"has no {_CONFIGURATION}" if folder.is_dir() else "is not a folder"
        raise WeightsMissing(
            f"{uri}: {folder} {state}; give a folder that open_clip saved ({_CONFIGURATION} "
            "and the weights), or use --encoder builtin, which works offline"
        )
    model, preprocess = _read(path, uri=uri)
    weights = [folder / _SAFETENSORS, folder / _PICKLE]
    weights += sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*.bin"))
    weights += sorted(folder.glob("*.pt")) + sorted(folder.glob("*.pth"))
    found = next((file for file in weights if file.is_file()), None)
    if found is None:
        raise WeightsMissing(
            f"{uri}: {folder} has a configuration but no weights ({_SAFETENSORS}, {_PICKLE} or "
            "another .safetensors, .bin, .pt, .pth); copy them there, or use --encoder builtin, "
            "which works offline"
        )
    return Source(uri, f"{LOCAL}{folder}", model, preprocess, found, folder)


def _read(path: Path, *, uri: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model and the preprocessing of an open_clip configuration."""
    try:
        config = strict_json.read(path)
        model, preprocess = config["model_cfg"], config.get("preprocess_cfg", {})
        model["vision_cfg"], model["text_cfg"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EncoderError(
            f"{uri}: {path} is not an open_clip configuration ({type(error).__name__}: {error}); "
            "it must be JSON with model_cfg.vision_cfg and model_cfg.text_cfg"
        ) from error
    return model, preprocess


def tokenizer(source: Source) -> tuple[HFTokenizer | SimpleTokenizer, str]:
    """The tokenizer, and a hash of the files it reads.

    Raises:
        BackendError: it needs transformers, which is not installed.
        WeightsMissing: its files are not on this machine and cannot be fetched.
    """
    text_config = source.model["text_cfg"]
    hub_name = text_config.get("hf_tokenizer_name")
    options = dict(text_config.get("tokenizer_kwargs", {}))
    length = text_config.get("context_length", 77)
    if not hub_name:
        return SimpleTokenizer(context_length=length, **options), "open_clip's own"
    if importlib.util.find_spec("transformers") is None:
        raise BackendError(
            f"{source.uri} reads text with the tokenizer {hub_name}, which needs transformers; "
            "install it with `pip install 'maxsight[vlm]'`"
        )
    folder = source.tokenizer_folder
    if folder is None:
        folder = hub.fetch_folder(hub_name, _TOKENIZER_FILES, encoder=source.uri)
    files = sorted({file for pattern in _TOKENIZER_FILES for file in folder.glob(pattern)})
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + hub.content_hash(file).encode())
    mode = text_config.get("tokenizer_mode")
    made = HFTokenizer(str(folder), context_length=length, tokenizer_mode=mode, **options)
    return made, digest.hexdigest()


if __name__ == "__main__":
    print(*names(), sep="\n")
