"""A folder with a model, looked at before transformers or sentence-transformers reads it.

Their configurations can name classes to import, options of Python calls, other folders, other
repositories and compiled kernels. Whoever made the folder chose those names, so only known ones are
handed on; docs/security.md lists what is refused. The libraries' own switches stay off as well.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from maxsight import plain_files, strict_json
from maxsight.errors import BackendError, EncoderError, MaxsightError

_MOST_FILES = 10_000
# Read by compiled parsers, which bound their own depth; some have 30 MB.
_OF_TOKENIZERS = ("tokenizer.json", "vocab.json")

_IMPORTABLE = re.compile(
    r"sentence_transformers\.(models|base\.modules|sentence_transformer\.modules"
    r"|multi_vector_encoder\.modules)(\.\w+)?\.(Transformer|CLIPModel|Dense|Dropout|LayerNorm"
    r"|Normalize|Pooling|WeightedLayerPooling|Router|MultiVectorMask|HierarchicalTokenPooling)"
    r"|pylate\.models\.Dense\.Dense"
)
_ACTIVATION = re.compile(r"torch\.nn\.modules\.(activation|linear)\.[A-Z]\w*|torch\.nn\.[A-Z]\w*")
_METHOD = re.compile(r"forward|get_(text|image|audio|video|vision|multimodal)_features")
_ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
_ROUTES = ("router_config.json", "config.json")
# Of timm.create_model: each names a file, a folder or a network address.
_OF_TIMM = ("checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay")

_SENTENCE_CONFIGURATION = re.compile(r"sentence_[\w-]+_config\.json")
_CALLS = {
    "model": ("attn_implementation", "dtype", "torch_dtype", "add_pooling_layer"),
    "processor": (
        *("padding_side", "truncation_side", "model_max_length", "do_lower_case", "use_fast"),
        *("min_pixels", "max_pixels", "size", "add_bos_token", "add_eos_token"),
    ),
    "config": ("use_cache", "is_causal", "use_bidirectional_attention", "num_labels"),
}
_CALLED_BY = {
    "model_args": "model",
    "model_kwargs": "model",
    "tokenizer_args": "processor",
    "processor_kwargs": "processor",
    "config_args": "config",
    "config_kwargs": "config",
}
_OF_SENTENCE_CONFIGURATION = (
    *("max_seq_length", "do_lower_case", "transformer_task"),
    *("modality_config", "module_output_name", "processing_kwargs", "unpad_inputs"),
    *("query_length", "document_length", "query_expansion"),
    *_CALLED_BY,
)


def inspect(folder: Path, *, encoder: str) -> None:
    """Refuse a folder that names what must not be handed on.

    Args:
        encoder: the URI, for the message.

    Raises:
        EncoderError: a configuration is not JSON, or names code to import, an option that is not
            known to be harmless, another folder, another repository or a kernel; a file is a pipe
            or a device; there are more than 10,000.
    """
    for file in _files(folder, encoder):
        is_json = file.suffix == ".json" or file.name == "artifact.metadata"
        if is_json and file.name not in _OF_TOKENIZERS:
            _inspect(file, encoder)


def read(file: Path, *, encoder: str) -> dict[str, Any]:
    """One configuration of a model, looked at as :func:`inspect` does.

    Raises:
        EncoderError: as :func:`inspect`, or it holds something else than an object.
    """
    content = _inspect(file, encoder)
    if not isinstance(content, dict):
        raise EncoderError(f"{encoder}: {file} must hold a JSON object; fetch it again")
    return content


@contextmanager
def read_by(library: str, path: Path | str, *, encoder: str) -> Iterator[None]:
    """Whatever a library raises over the files of a model becomes one message.

    Args:
        library: its name, and its version if that is known.
        path: what it reads, a path or in words.
        encoder: the URI.

    Raises:
        BackendError: the library needs a package that is not installed.
        EncoderError: it raised anything else.
    """
    try:
        yield
    except MaxsightError:
        raise
    except ImportError as error:
        raise BackendError(f"{encoder} needs a package that is not installed: {error}") from error
    # Of no family: tokenizers raises Exception itself, or panics in Rust.
    except BaseException as error:
        kind = type(error).__name__
        is_panic = kind == "PanicException"
        if kind == "OutOfMemoryError" or not (is_panic or isinstance(error, Exception)):
            raise
        reason = f"{kind}: {error}".strip().splitlines()[0][:500]
        raise EncoderError(
            f"{encoder}: {library} cannot load {path} ({reason}); fetch it again, or give the "
            "files that belong together. A model that brings code of its own is not run"
        ) from error


def _inspect(file: Path, encoder: str) -> Any:
    try:
        content = strict_json.parse(plain_files.read_bytes(file, most=strict_json.MOST_BYTES))
    except (OSError, ValueError) as error:
        raise EncoderError(f"{encoder}: {file} is not JSON ({error}); fetch it again") from error
    for complaint in _complaints(file, content):
        raise EncoderError(
            f"{encoder}: {file} names {complaint}, which is not handed on: nothing that a "
            "model's folder names is run or fetched (docs/security.md)"
        )
    return content


def _files(folder: Path, encoder: str) -> Iterator[Path]:
    for count, path in enumerate(folder.rglob("*")):
        if count == _MOST_FILES:
            raise EncoderError(
                f"{encoder}: {folder} holds more than {_MOST_FILES} files; give the folder of the "
                "model alone"
            )
        try:
            mode = path.stat().st_mode
        except OSError:
            continue  # a link to nothing is nothing
        if stat.S_ISREG(mode):
            yield path
        elif not stat.S_ISDIR(mode):
            raise EncoderError(f"{encoder}: {path} is neither a file nor a folder; remove it")


def _complaints(file: Path, content: Any) -> Iterator[str]:
    """What is wrong with a configuration, each a few words for ``... names X``."""
    if file.name == "modules.json":
        yield from _modules(content)
    elif isinstance(content, dict) and "types" in content and file.name in _ROUTES:
        yield from _routes(content["types"])
    elif _SENTENCE_CONFIGURATION.fullmatch(file.name):
        yield from _sentence_configuration(content)
    if file.name.startswith("audio_tokenizer"):
        yield f"another model in {file.name}"
    for key, value, inside in _fields(content):
        look = _ANYWHERE.get(key) or (_attention if "attn_implementation" in key else None)
        if look is not None and not look(value):
            yield f"{key} {_short(value)}"
        if inside in ("model_args", "backbone_kwargs") and key in _OF_TIMM:
            yield f"{inside}.{key}"


def _modules(content: Any) -> Iterator[str]:
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        yield "something else than a list of modules"
        return
    for entry in content:
        if not _is_importable(entry.get("type")):
            yield f"the module {_short(entry.get('type'))}"
        if not _is_inside(entry.get("path")):
            yield f"the folder {_short(entry.get('path'))}"


def _routes(types: Any) -> Iterator[str]:
    if not isinstance(types, dict):
        yield f"types {_short(types)}"
        return
    for folder, name in types.items():
        if not _is_importable(name):
            yield f"the module {_short(name)}"
        if not _is_inside(folder):
            yield f"the folder {_short(folder)}"


def _sentence_configuration(content: Any) -> Iterator[str]:
    if not isinstance(content, dict):
        yield "something else than options"
        return
    for key, value in content.items():
        if key not in _OF_SENTENCE_CONFIGURATION:
            yield f"the option {_short(key)}"
        elif key == "modality_config":
            yield from _modalities(value)
        elif (call := _CALLED_BY.get(key)) is not None:
            if not isinstance(value, dict):
                yield f"{key} {_short(value)}"
                continue
            for option, given in value.items():
                is_off = option == "trust_remote_code" and given is False
                if option not in _CALLS[call] and not is_off:
                    yield f"the option {key}.{_short(option)}"


def _modalities(content: Any) -> Iterator[str]:
    if not isinstance(content, dict):
        yield f"modality_config {_short(content)}"
        return
    for modality, entry in content.items():
        method = entry.get("method") if isinstance(entry, dict) else entry
        if not isinstance(method, str) or not _METHOD.fullmatch(method):
            yield f"the method {_short(method)} for {_short(modality)}"
            continue
        outputs = entry.get("method_output_name")
        for output in outputs if isinstance(outputs, list) else [outputs]:
            if isinstance(output, str) and output.startswith("_"):
                yield f"the output {_short(output)} for {_short(modality)}"


def _fields(content: Any) -> Iterator[tuple[str, Any, str]]:
    """Every field at any depth: its name, its value, and the name of the field it stands in."""
    waiting: list[tuple[Any, str]] = [(content, "")]
    while waiting:
        value, name = waiting.pop()
        if isinstance(value, dict):
            for key, inner in value.items():
                yield key, inner, name
                waiting.append((inner, key))
        elif isinstance(value, list):
            waiting += [(inner, name) for inner in value]


def _is_importable(name: Any) -> bool:
    return isinstance(name, str) and _IMPORTABLE.fullmatch(name) is not None


def _is_inside(text: Any) -> bool:
    """Whether a path, as written in a file, stays below the folder that it is relative to."""
    if not isinstance(text, str) or "\0" in text or "\\" in text or ":" in text:
        return False
    path = PurePosixPath(text)
    return not path.is_absolute() and ".." not in path.parts


def _attention(value: Any) -> bool:
    values = value.values() if isinstance(value, dict) else [value]
    # Old configurations also say, true or false, whether it was chosen by transformers.
    return all(name in (None, True, False, *_ATTENTION) for name in values)


def _is_plain(value: Any) -> bool:
    """Not a path, an address or a repository."""
    return not isinstance(value, str) or not set("/\\:") & set(value)


def _is_activation(value: Any) -> bool:
    has_dot = isinstance(value, str) and "." in value
    return not has_dot or _ACTIVATION.fullmatch(value) is not None


def _is_off(value: Any) -> bool:
    return not value


# At any depth of any configuration: name of a field -> whether its value may be handed on.
_ANYWHERE: Mapping[str, Callable[[Any], bool]] = {
    "activation_function": _is_activation,
    "architecture": _is_plain,
    "audio_tokenizer": _is_off,
    "backbone": _is_plain,
    "experts_implementation": _is_plain,
    "quantization_config": _is_off,  # its kernels come from other packages, or from the hub
    "tesseract_config": _is_off,  # words for the command line of another program
    "tokenizer_name_or_path": _is_off,
    "transformers_weights": _is_plain,
    "trust_remote_code": _is_off,
    "use_kernels": _is_off,
    "use_pretrained_backbone": _is_off,
}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
