"""What open_clip publishes and what its folders hold: from an encoder's name to its files."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
from open_clip.pretrained import get_pretrained_cfg
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

from maxsight.errors import BackendError, EncoderError, UnknownEncoder, WeightsMissing
from maxsight.models import hub, model_folder
from maxsight.models.open_clip import config

LOCAL = "local-dir:"
_CONFIGURATION = "open_clip_config.json"
_SAFETENSORS, _PICKLE = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"
_TOKENIZER_FILES = ("tokenizer*.json", "*.model", "vocab.*", "merges.txt")


@dataclass(frozen=True)
class Source:
    """What is known of an encoder before it is built."""

    uri: str
    model: dict[str, Any]
    preprocess: dict[str, Any]
    weights: Path
    tokenizer_folder: Path | None  # None: the tokenizer comes from the hub
    former: dict[str, Any] | None = None  # model as fingerprints of other releases name it


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
    if not hub.is_repository(name):
        raise UnknownEncoder(f"{uri!r} names no repository: it must read hf-hub:OWNER/REPO")
    path = hub.fetch(name, [_CONFIGURATION], encoder=uri)
    model, preprocess = config.read(path, encoder=uri)
    weights = hub.fetch(name, [_SAFETENSORS, _PICKLE], encoder=uri)
    return Source(uri, model, preprocess, weights, None)


def published_model(name: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The configuration by which a published pair is built and which its fingerprint names; and
    the one that fingerprints of earlier releases named, where that differs.

    Args:
        name: one of :func:`names`.

    Raises:
        UnknownEncoder: open_clip publishes no such pair.
    """
    config, tag = _pair(name)
    # Either knows the activation that the weights were trained with: the tag where the
    # architecture's name does not (OpenAI's weights under ViT-B-32), and the architecture where
    # its tag is silent (roberta-ViT-B-32).
    former = config | {"quick_gelu": bool(tag.get("quick_gelu", False))}
    config = former | {"quick_gelu": former["quick_gelu"] or bool(config.get("quick_gelu", False))}
    return config, None if config == former else former


def _pair(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What open_clip says of an architecture and of its tag."""
    architecture, _, tag = name.rpartition("/")
    architecture = architecture.replace("/", "-")  # OpenAI's spelling, ViT-B/32
    # Of the list alone: open_clip would look for other names in folders and on the hub.
    known = architecture in open_clip.list_models()
    published = get_pretrained_cfg(architecture, tag) if known else {}
    if not published:
        near = difflib.get_close_matches(name, names(), n=3, cutoff=0.5)
        near += [f"{name}/{tag}" for tag in open_clip.list_pretrained_tags_by_model(name)]
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UnknownEncoder(
            f"open_clip publishes no {name!r}; it must read ARCH/PRETRAINED or {LOCAL}PATH. "
            f"{hint}`python -m {__name__}` lists them all"
        )
    config: dict[str, Any] = open_clip.get_model_config(architecture)
    return config, published


def _published(name: str) -> Source:
    uri = f"open_clip:{name}"
    config, former = published_model(name)
    _, published = _pair(name)
    repository, _, filename = published["hf_hub"].rpartition("/")
    if filename:
        candidates = [str(Path(filename).with_suffix(".safetensors")), filename]
    else:
        candidates = [_SAFETENSORS, _PICKLE]
    weights = hub.fetch(repository, candidates, encoder=uri)
    return Source(uri, config, published, weights, None, former)


def _local(name: str) -> Source:
    uri = f"open_clip:{name}"
    folder = hub.folder_at(name.removeprefix(LOCAL), encoder=uri)
    path = folder / _CONFIGURATION
    if not path.is_file():
        state = f"has no {_CONFIGURATION}" if folder.is_dir() else "is not a folder"
        raise WeightsMissing(
            f"{uri}: {folder} {state}; give a folder that open_clip saved ({_CONFIGURATION} "
            "and the weights), or use --encoder builtin, which works offline"
        )
    model, preprocess = config.read(path, encoder=uri)
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
    return Source(uri, model, preprocess, found, folder)


def tokenizer(source: Source) -> tuple[HFTokenizer | SimpleTokenizer, str]:
    """The tokenizer, and a hash of the files it reads.

    Raises:
        BackendError: it needs transformers, which is not installed.
        WeightsMissing: its files are not on this machine and cannot be fetched.
    """
    text_config = source.model["text_cfg"]
    hub_name = text_config.get("hf_tokenizer_name")
    options = dict(text_config.get("tokenizer_kwargs") or {})
    length = text_config.get("context_length", 77)
    if not hub_name:
        own = {key: value for key, value in options.items() if key == "clean"}
        if own != options:
            raise EncoderError(
                f"{source.uri}: open_clip's own tokenizer takes the option clean alone, not "
                f"{', '.join(options.keys() - own.keys())}"
            )
        return SimpleTokenizer(context_length=length, **own), "open_clip's own"
    if importlib.util.find_spec("transformers") is None:
        raise BackendError(
            f"{source.uri} reads text with the tokenizer {hub_name}, which needs transformers; "
            "install it with `pip install 'maxsight[vlm]'`"
        )
    folder = source.tokenizer_folder
    if folder is None:
        folder = hub.fetch_folder(hub_name, _TOKENIZER_FILES, encoder=source.uri)
    model_folder.inspect(folder, encoder=source.uri)
    files = sorted({file for pattern in _TOKENIZER_FILES for file in folder.glob(pattern)})
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + hub.content_hash(file).encode())
    mode = text_config.get("tokenizer_mode")
    with model_folder.read_by("transformers", folder, encoder=source.uri), hub.sealed():
        made = HFTokenizer(
            str(folder),
            context_length=length,
            tokenizer_mode=mode,
            **options,
            trust_remote_code=False,
            local_files_only=True,
        )
    return made, digest.hexdigest()


def text_tower(source: Source) -> dict[str, Any] | None:
    """The configuration of a text tower of transformers; None where the tower is open_clip's.

    Raises:
        EncoderError: it brings code of its own, or names what is not handed on.
        WeightsMissing: it is not on this machine and cannot be fetched.
    """
    name = source.model["text_cfg"].get("hf_model_name")
    if not name:
        return None
    file = hub.fetch(name, ["config.json"], encoder=source.uri)
    config = model_folder.read(file, encoder=source.uri)
    if "auto_map" in config:
        raise EncoderError(
            f"{source.uri}: the text tower {name} brings code of its own ({file} has auto_map), "
            "which is not run; give an encoder whose text tower transformers knows"
        )
    return config


if __name__ == "__main__":
    print(*names(), sep="\n")
