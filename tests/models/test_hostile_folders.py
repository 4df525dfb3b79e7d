"""Folders of models that try to run code, to read elsewhere, or to reach the network."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import socket
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import open_clip
import pytest
import tiny_vlms
import torch
from PIL import Image

from maxsight.errors import EncoderError
from maxsight.models import hub, model_folder
from maxsight.models.encoder import load
from maxsight.models.open_clip import config as open_clip_config

pytestmark = pytest.mark.usefixtures("one_thread")

Change = Callable[[Path], None]


class Trap:
    """Code that leaves a file behind when it runs."""

    def __init__(self, root: Path) -> None:
        self.marker = root / "it-ran"

    @property
    def source(self) -> str:
        return textwrap.dedent(f"""
            open({str(self.marker)!r}, "w").close()
            import torch
            class Evil(torch.nn.Module):
                @classmethod
                def from_pretrained(cls, *args, **kwargs):
                    return cls()
                load = from_pretrained
                register_for_auto_class = from_pretrained
        """)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trap:
    """The code lies where Python would find it by its name, too."""
    trap = Trap(tmp_path)
    home = tmp_path / "importable"
    home.mkdir()
    (home / "evil.py").write_text(trap.source)
    monkeypatch.syspath_prepend(home)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    return trap


def edit(file: Path, **fields: Any) -> None:
    """Set fields of a JSON object, which is made if it is not there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(content | fields))


def refused(uri: str, trap: Trap, *words: str) -> None:
    """The encoder is refused by one message with these words, and nothing ran."""
    with pytest.raises(EncoderError) as caught:
        load(uri, device="cpu")
    assert not trap.marker.exists()
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


# --- open_clip ----------------------------------------------------------------------------------


@pytest.fixture
def clip(folders: dict[str, Path], tmp_path: Path, trap: Trap) -> Path:
    """An open_clip model whose folder brings a tokenizer, and code that poses as one."""
    folder = tmp_path / "clip"
    shutil.copytree(folders["tiny-siglip"], folder)
    tiny_vlms.words(("<pad>", "<eos>")).save_pretrained(folder)
    (folder / "evil.py").write_text(trap.source)
    of_text(folder, hf_tokenizer_name="someone/tiny")
    return folder


def of_model(folder: Path, **fields: Any) -> None:
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"] |= fields
    (folder / "open_clip_config.json").write_text(json.dumps(config))


def of_text(folder: Path, **fields: Any) -> None:
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    of_model(folder, text_cfg=config["text_cfg"] | fields)


def of_vision(folder: Path, **fields: Any) -> None:
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    of_model(folder, vision_cfg=config["vision_cfg"] | fields)


AUTO_TOKENIZER = {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}


def test_the_folder_without_its_tricks_loads(clip: Path, trap: Trap) -> None:
    assert (
        load(f"open_clip:local-dir:{clip}", device="cpu").encode_text(["a red bus"]).vectors.any()
    )
    assert not trap.marker.exists()


@pytest.mark.parametrize(
    "option",
    [
        {"trust_remote_code": True},
        {"auto_map": AUTO_TOKENIZER},
        {"tokenizer_file": "/etc/hostname"},
        {"cache_dir": "/tmp/elsewhere"},
        {"tokenizer_type": "bert"},
        {"clean": "exec"},
        {"language": "../x"},
        {"strip_sep_token": "yes"},
    ],
)
def test_options_of_a_tokenizer_are_named_harmless_ones(
    clip: Path, trap: Trap, option: dict[str, Any]
) -> None:
    edit(clip / "tokenizer_config.json", auto_map=AUTO_TOKENIZER, tokenizer_class="Evil")
    of_text(clip, tokenizer_kwargs=option)
    refused(f"open_clip:local-dir:{clip}", trap, "open_clip_config.json", *option)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "config.json"])
def test_a_tokenizer_of_code_is_not_run(clip: Path, trap: Trap, name: str) -> None:
    edit(clip / "tokenizer_config.json", tokenizer_class="Evil")
    edit(clip / name, auto_map=AUTO_TOKENIZER | {"AutoConfig": "evil.Evil"}, model_type="evil")
    (clip / "tokenizer.json").unlink()
    refused(f"open_clip:local-dir:{clip}", trap, "not run")


@pytest.mark.parametrize("name", ["open_clip_model.bin", "weights.pt", "weights.pth"])
def test_pickles_give_tensors_alone(clip: Path, trap: Trap, name: str) -> None:
    (clip / "open_clip_model.safetensors").unlink()
    torch.save({"state_dict": {"weight": torch.ones(1), "other": trap}}, clip / name)
    refused(f"open_clip:local-dir:{clip}", trap, name)
    (clip / name).write_bytes(pickle.dumps(trap))
    refused(f"open_clip:local-dir:{clip}", trap, name)


def test_a_scripted_module_is_not_weights(clip: Path, trap: Trap) -> None:
    (clip / "open_clip_model.safetensors").unlink()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), clip / "weights.pt")
    refused(f"open_clip:local-dir:{clip}", trap, "weights.pt")


@pytest.mark.parametrize(
    "name", ["local-dir:{}", "hf-hub:someone/timm", "{}", "../timm", "someone/timm"]
)
def test_a_tower_is_one_that_timm_knows(clip: Path, trap: Trap, name: str, tmp_path: Path) -> None:
    other = tmp_path / "timm"
    edit(other / "config.json", architecture="test_vit3", model_args={"checkpoint_path": "x"})
    of_vision(clip, timm_model_name=name.format(other))
    refused(f"open_clip:local-dir:{clip}", trap, "timm_model_name")


@pytest.mark.parametrize("field", ["hf_model_name", "hf_tokenizer_name"])
@pytest.mark.parametrize(
    "name", ["../text", "{}", "./text", "~/text", "a/b/c", "a..b", "a/b:c", "%2e"]
)
def test_text_towers_and_tokenizers_are_named_by_repository(
    clip: Path, trap: Trap, field: str, name: str, tmp_path: Path
) -> None:
    of_text(clip, **{field: name.format(tmp_path / "text")})
    refused(f"open_clip:local-dir:{clip}", trap, field)


def test_a_text_tower_is_not_taken_from_the_current_folder(
    clip: Path, trap: Trap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers takes ``roberta-base`` for a folder where there is one of that name."""
    monkeypatch.chdir(tmp_path)
    here = tmp_path / "roberta-base"
    edit(here / "config.json", auto_map={"AutoConfig": "evil.Evil"}, model_type="evil")
    shutil.copy(clip / "evil.py", here)
    of_text(clip, hf_model_name="roberta-base")
    refused(f"open_clip:local-dir:{clip}", trap, "roberta-base", "cannot be fetched")
    snapshot = tmp_path / "hub" / "models--roberta-base" / "snapshots" / ("c" * 40)
    shutil.copytree(here, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("c" * 40)
    refused(f"open_clip:local-dir:{clip}", trap, "auto_map", "not run")


@pytest.mark.parametrize(
    "fields",
    [
        {"unknown": 1},
        {"embed_dim": "96"},
        {"embed_dim": -1},
        {"embed_dim": True},
        {"embed_dim": 10**30},
        {"quick_gelu": 1},
        {"cast_dtype": "float16"},
        {"text_cfg": []},
        {"vision_cfg": {"layers": 10**9}},
        {"vision_cfg": {"norm_kwargs": {"device": "meta"}}},
        {"vision_cfg": {"width": 64, "head_width": 0}},
        {"text_cfg": {"width": 3, "heads": 2}},
    ],
)
def test_a_field_of_another_kind_is_one_message(
    clip: Path, trap: Trap, fields: dict[str, Any]
) -> None:
    of_model(clip, **fields)
    refused(f"open_clip:local-dir:{clip}", trap, "open_clip:local-dir")


def test_bytes_that_are_no_configuration(clip: Path, trap: Trap) -> None:
    file = clip / "open_clip_config.json"
    for text in ("[" * 200_000, '{"model_cfg":' * 100_000, "NaN", "[]", "{}", "\0", '{"a": 1e999}'):
        file.write_text(text)
        refused(f"open_clip:local-dir:{clip}", trap, "open_clip_config.json")
    file.write_bytes(b"\xff\xfe{}")
    refused(f"open_clip:local-dir:{clip}", trap, "open_clip_config.json")
    file.unlink()
    os.mkfifo(file)
    refused(f"open_clip:local-dir:{clip}", trap, "open_clip_config.json")


def test_every_architecture_of_open_clip_may_pass() -> None:
    for name in open_clip.list_models():
        open_clip_config.require(open_clip.get_model_config(name))


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


def test_a_size_that_the_tower_has_not(clip: Path, trap: Trap) -> None:
    of_vision(clip, image_size=64)
    encoder = load(f"open_clip:local-dir:{clip}", device="cpu")
    with pytest.raises(EncoderError, match="cannot load a picture"):
        encoder.encode_images([Image.new("RGB", (64, 64))])


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


@pytest.mark.parametrize("trust", [None, True])
def test_code_is_off_by_force(
    clip: Path, trap: Trap, trust: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a library in between asked on the terminal, or forgot that nothing is trusted."""
    from transformers import AutoTokenizer

    edit(clip / "tokenizer_config.json", auto_map=AUTO_TOKENIZER, tokenizer_class="Evil")
    asked: list[str] = []

    def say_yes(text: str) -> str:
        asked.append(text)
        return "y"

    monkeypatch.setattr("builtins.input", say_yes)
    with hub.sealed(), pytest.raises(ValueError, match=r"code|custom"):
        AutoTokenizer.from_pretrained(str(clip), trust_remote_code=trust)
    assert asked == []
    assert not trap.marker.exists()


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
