"""Folders of open_clip that try to run code, to read elsewhere, or to reach the network."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import open_clip
import pytest
import tiny_vlms
import torch
from PIL import Image
from traps import AUTO_TOKENIZER, Trap, edit, refused

from maxsight.errors import EncoderError
from maxsight.models import hub
from maxsight.models.encoder import load
from maxsight.models.open_clip import config as open_clip_config

pytestmark = pytest.mark.usefixtures("one_thread")


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


def test_a_size_that_the_tower_has_not(clip: Path, trap: Trap) -> None:
    of_vision(clip, image_size=64)
    encoder = load(f"open_clip:local-dir:{clip}", device="cpu")
    with pytest.raises(EncoderError, match="cannot load a picture"):
        encoder.encode_images([Image.new("RGB", (64, 64))])


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
