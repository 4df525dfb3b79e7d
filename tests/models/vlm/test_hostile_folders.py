"""Folders of sentence-transformers that try to run code, or to reach the network."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import tiny_vlms
import torch
from traps import AUTO_TOKENIZER, Trap, edit, refused

from maxsight.errors import EncoderError
from maxsight.models import hub, model_folder
from maxsight.models.encoder import load

pytestmark = pytest.mark.usefixtures("one_thread")


Change = Callable[[Path], None]


# --- sentence-transformers ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("originals")
    return {
        "clip": tiny_vlms.clip(root / "clip"),
        "qwen": tiny_vlms.qwen_embedder(root / "qwen", layers=2),
    }


@pytest.fixture
def copy(originals: dict[str, Path], tmp_path: Path, trap: Trap) -> Callable[[str], Path]:
    def of(name: str) -> Path:
        folder = tmp_path / name
        shutil.copytree(originals[name], folder)
        (folder / "evil.py").write_text(trap.source)
        return folder

    return of


CLASSES = {
    "config.json": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"},
    "tokenizer_config.json": AUTO_TOKENIZER,
    "preprocessor_config.json": {"AutoImageProcessor": "evil.Evil", "AutoProcessor": "evil.Evil"},
    "processor_config.json": {"AutoProcessor": "evil.Evil"},
}


@pytest.mark.parametrize("name", CLASSES)
def test_classes_in_a_folder_are_not_run(
    copy: Callable[[str], Path], trap: Trap, name: str
) -> None:
    """Where transformers knows the kind its own class is taken; else the folder is refused."""
    folder = copy("clip")
    edit(folder / name, auto_map=CLASSES[name])
    load(f"st:{folder}", device="cpu")
    assert not trap.marker.exists()
    for file in CLASSES:
        edit(folder / file, auto_map=CLASSES[file], model_type="evil")
    refused(f"st:{folder}", trap, "not run")


def modules(folder: Path, kind: str) -> None:
    content = json.loads((folder / "modules.json").read_text())
    content.append({"idx": 9, "name": "9", "path": "9_Last", "type": kind})
    (folder / "modules.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "kind",
    [
        "evil.Evil",
        "os.system",
        "sentence_transformers.util.misc.importlib",
        "sentence_transformers.base.model.pickle",
        "sentence_transformers.base.model.torch",
        "sentence_transformers.models.evil.Evil",
        "sentence_transformers.models.Pooling\n",
        "",
    ],
)
def test_modules_are_the_librarys_own(copy: Callable[[str], Path], trap: Trap, kind: str) -> None:
    folder = copy("qwen")
    modules(folder, kind)
    refused(f"st:{folder}", trap, "modules.json", repr(kind))
    router = copy("clip")
    edit(router / "9_Last" / "router_config.json", types={"a": kind}, structure={}, parameters={})
    refused(f"st:{router}", trap, "router_config.json", repr(kind))


@pytest.mark.parametrize("path", ["../elsewhere", "/etc", "a/../../b", "..\\b", 5, None])
def test_modules_stay_in_the_folder(copy: Callable[[str], Path], trap: Trap, path: Any) -> None:
    folder = copy("qwen")
    content = json.loads((folder / "modules.json").read_text())
    content[1]["path"] = path
    (folder / "modules.json").write_text(json.dumps(content))
    refused(f"st:{folder}", trap, "modules.json", "the folder")


@pytest.mark.parametrize("arguments", [{}, {"weights_only": False}])
def test_pickled_weights_give_tensors_alone(
    copy: Callable[[str], Path], trap: Trap, arguments: dict[str, Any]
) -> None:
    folder = copy("qwen")
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    torch.save({"weight": torch.ones(1), "other": trap}, folder / "pytorch_model.bin")
    edit(folder / "sentence_bert_config.json", model_args=arguments)
    refused(f"st:{folder}", trap, *arguments)


@pytest.mark.parametrize(
    "fields",
    [
        {"model_args": {"weights_only": False}},
        {"model_args": {"trust_remote_code": True}},
        {"model_kwargs": {"attn_implementation": "someone/kernel:run"}},
        {"model_kwargs": {"use_kernels": True}},
        {"model_kwargs": {"gguf_file": "x.gguf"}},
        {"model_kwargs": ["weights_only"]},
        {"tokenizer_args": {"tokenizer_file": "/etc/hostname"}},
        {"processor_kwargs": {"code_revision": "main"}},
        {"config_args": {"auto_map": {}}},
        {"tokenizer_name_or_path": "someone/other"},
        {"backend": "onnx"},
        {"modality_config": {"text": {"method": "push_to_hub", "method_output_name": None}}},
        {"modality_config": {"text": {"method": "forward", "method_output_name": ["__class__"]}}},
        {"modality_config": []},
    ],
)
def test_options_of_calls_are_named_harmless_ones(
    copy: Callable[[str], Path], trap: Trap, fields: dict[str, Any]
) -> None:
    folder = copy("qwen")
    edit(folder / "sentence_bert_config.json", **fields)
    refused(f"st:{folder}", trap, "sentence_bert_config.json")


@pytest.mark.parametrize(
    ("file", "fields"),
    [
        ("config.json", {"_attn_implementation": "someone/kernel"}),
        ("config.json", {"text_config": {"attn_implementation": {"": "someone/kernel"}}}),
        (
            "config.json",
            {"vision_config": {"model_type": "timm_backbone", "backbone": "hf-hub:a/b"}},
        ),
        ("config.json", {"model_type": "timm_wrapper", "architecture": "local-dir:/x"}),
        ("config.json", {"architecture": "a", "model_args": {"checkpoint_path": "/x"}}),
        ("config.json", {"backbone": "resnet18", "use_pretrained_backbone": True}),
        ("preprocessor_config.json", {"tesseract_config": "-c debug_file=/tmp/x"}),
        ("config.json", {"keypoint_detector_config": {"trust_remote_code": True}}),
        ("config.json", {"quantization_config": {"quant_method": "fp8"}}),
        ("9/router_config.json", {"types": {"a": "os.system"}}),
        ("config.json", {"transformers_weights": "../other.safetensors"}),
        ("processor_config.json", {"audio_tokenizer": {"audio_tokenizer_name_or_path": "a/b"}}),
        ("audio_tokenizer_config.json", {"audio_tokenizer_name_or_path": "a/b"}),
        ("2_Dense/config.json", {"activation_function": "evil.Evil"}),
        ("2_Dense/config.json", {"activation_function": "torch.hub.load"}),
    ],
)
def test_other_names_in_a_folder_are_refused(
    copy: Callable[[str], Path], trap: Trap, file: str, fields: dict[str, Any]
) -> None:
    folder = copy("qwen")
    edit(folder / file, **fields)
    refused(f"st:{folder}", trap, Path(file).name)


@pytest.mark.parametrize(
    ("file", "fields"),
    [
        ("sentence_bert_config.json", {"module_output_name": ""}),
        ("sentence_bert_config.json", {"module_output_name": {"a": 1}}),
        ("tokenizer_config.json", {"model_max_length": 0}),
        ("1_Pooling/config.json", {"embedding_dimension": -1}),
    ],
)
def test_what_does_not_fit_is_one_message_when_it_is_seen(
    copy: Callable[[str], Path], trap: Trap, file: str, fields: dict[str, Any]
) -> None:
    folder = copy("qwen")
    edit(folder / file, **fields)
    with pytest.raises(EncoderError, match="sentence-transformers"):
        load(f"st:{folder}", device="cpu").encode_text(["a red bus"])


def test_files_that_compiled_parsers_read(copy: Callable[[str], Path], trap: Trap) -> None:
    folder = copy("qwen")
    for name, content in (
        ("tokenizer.json", "[" * 200_000),
        ("tokenizer.json", '{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": [7]}}'),
        ("model.safetensors", "\xff" * 64),
    ):
        before = (folder / name).read_bytes()
        (folder / name).write_text(content)
        refused(f"st:{folder}", trap)
        (folder / name).write_bytes(before)


def test_a_template_of_a_chat_is_not_a_program(copy: Callable[[str], Path], trap: Trap) -> None:
    folder = copy("qwen")
    attack = (
        "{% set found = namespace(x=0) %}"
        "{% for kind in ''.__class__.__mro__[-1].__subclasses__() %}"
        "{% if kind.__name__ == '_wrap_close' %}"
        f"{{{{ kind.__init__.__globals__['mkdir']({str(trap.marker)!r}) }}}}"
        "{% endif %}{% endfor %}"
    )
    (folder / "chat_template.jinja").write_text(attack)
    edit(folder / "tokenizer_config.json", chat_template=attack)
    encoder = load(f"st:{folder}", device="cpu")
    with pytest.raises(EncoderError, match="unsafe"):
        encoder.encode_text(["a red bus"])
    assert not trap.marker.exists()


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer_config.json", "preprocessor_config.json", "modules.json"]
)
def test_configurations_that_are_no_json(
    copy: Callable[[str], Path], trap: Trap, name: str
) -> None:
    folder = copy("qwen")
    for text in ("[" * 200_000, '{"a": 1e999}', "NaN", ""):
        (folder / name).write_text(text)
        refused(f"st:{folder}", trap, name)
    for text in ("[]", "7", '"text"', "{}", "null", '{"size": {"height": "x"}, "model_type": 7}'):
        (folder / name).write_text(text)
        with contextlib.suppress(EncoderError):  # and nothing else
            load(f"st:{folder}", device="cpu")


def test_a_pipe_in_a_folder_does_not_wait(copy: Callable[[str], Path], trap: Trap) -> None:
    folder = copy("clip")
    os.mkfifo(folder / "README.md")
    refused(f"st:{folder}", trap, "README.md")


def test_an_adapter_beside_a_model_is_refused(copy: Callable[[str], Path], trap: Trap) -> None:
    """With peft installed its ``base_model_name_or_path`` would be fetched."""
    folder = copy("clip")
    edit(folder / "adapter_config.json", base_model_name_or_path="someone/other")
    refused(f"st:{folder}", trap, "adapter")


def test_a_large_folder_is_not_walked_through(tmp_path: Path) -> None:
    for number in range(10_001):
        (tmp_path / f"{number}").touch()
    with pytest.raises(EncoderError, match="10000 files"):
        model_folder.inspect(tmp_path, encoder="st:x")


def test_a_tokenizer_within_a_tokenizer_is_not_run(
    copy: Callable[[str], Path], trap: Trap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RAG's loads two others, and says nothing to them of what may be trusted."""
    folder = copy("clip")
    monkeypatch.setattr("builtins.input", lambda text: "y")
    for name in ("question_encoder_tokenizer", "generator_tokenizer"):
        inner = folder / name
        edit(inner / "tokenizer_config.json", auto_map=AUTO_TOKENIZER, tokenizer_class="Evil")
        edit(inner / "config.json", model_type="clip")
        shutil.copy(folder / "evil.py", inner)
    part = {"model_type": "clip"}
    edit(folder / "tokenizer_config.json", tokenizer_class="RagTokenizer")
    edit(folder / "config.json", model_type="rag", question_encoder=part, generator=part)
    refused(f"st:{folder}", trap)


def test_nothing_is_fetched_while_a_model_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked: list[Any] = []
    monkeypatch.setattr(socket.socket, "connect", lambda *args: asked.append(args))
    with hub.sealed(), pytest.raises(LocalEntryNotFoundError):
        hf_hub_download("someone/other", "config.json")
    assert asked == []
    assert not huggingface_hub.constants.HF_HUB_OFFLINE
