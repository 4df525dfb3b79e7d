"""What sentence-transformers encoders refuse, and what they say."""

from __future__ import annotations

import shutil
import site
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest
import tiny_vlms

from maxsight.errors import EncoderError, UnknownEncoder, WeightsMissing
from maxsight.models.encoder import load

ROOT = Path(__file__).resolve().parents[3]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("clip", "?prune=25%", "this is no vision-language model"),
        ("clip", "?merge=3&prune=25%", "does not support the option prune"),
        ("clip", "?merge=1+1+1", "numbers for 3 layers"),
        ("clip", "?tempscale=0.9", "does not support the option tempscale"),
        ("qwen2_vl", "?merge=13", "write the share"),
        ("colqwen", "?prune=aim", "leaves no visual token"),
        ("colqwen", "?prune=0%", "leaves no visual token"),
        ("qwen2_vl", "?prune=25%,3,8", "layers 0 to 7"),
    ],
)
def test_options_that_do_not_fit(
    name: str, options: str, words: str, folder: Callable[[str], Path]
) -> None:
    with pytest.raises(EncoderError, match=words):
        load(f"st:{folder(name)}{options}", device="cpu")


def test_a_model_of_text_alone(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    tokenizer = tiny_vlms.words(("<pad>", "<eos>"))
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(tokenizer), intermediate_size=16, **sizes)).save_pretrained(
        tmp_path
    )
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match=r"takes no image \(only text\)"):
        load(f"st:{tmp_path}", device="cpu")


def test_folders_that_are_no_models(tmp_path: Path, folder: Callable[[str], Path]) -> None:
    with pytest.raises(WeightsMissing, match="holds no weights"):
        load(f"st:{tmp_path}", device="cpu")
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(EncoderError, match="cannot load"):
        load(f"st:{tmp_path}", device="cpu")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(EncoderError, match="adapter"):
        load(f"st:{tmp_path}", device="cpu")
    (tmp_path / "adapter_config.json").unlink()
    (tmp_path / "config_sentence_transformers.json").write_text('{"model_type": "CrossEncoder"}')
    with pytest.raises(EncoderError, match="is a CrossEncoder"):
        load(f"st:{tmp_path}", device="cpu")
    (tmp_path / "config_sentence_transformers.json").write_text("{")
    with pytest.raises(EncoderError, match="not JSON"):
        load(f"st:{tmp_path}", device="cpu")


@pytest.mark.parametrize("name", ["/no/such/folder", "./none", "a/b/c", "~/none", ""])
def test_names_that_are_neither_folder_nor_repository(name: str) -> None:
    with pytest.raises(UnknownEncoder, match="is no folder"):
        load(f"st:{name}", device="cpu")


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://10.255.255.1"])
def test_weights_out_of_reach_are_told_at_once(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    began = time.monotonic()
    with pytest.raises(WeightsMissing, match=r"st:someone/model needs .*builtin"):
        load("st:someone/model", device="cpu")
    assert time.monotonic() - began < 8


def test_a_cached_model_needs_no_network(
    folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    repository = tmp_path / "models--sentence-transformers--tiny"
    snapshot = repository / "snapshots" / ("d" * 40)
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("d" * 40)
    snapshot.mkdir(parents=True)
    shutil.copy(folder("clip") / "config.json", snapshot)
    with pytest.raises(WeightsMissing):  # a configuration alone is not the model
        load("st:tiny", device="cpu")
    shutil.copytree(folder("clip"), snapshot, dirs_exist_ok=True)
    found = load("st:tiny", device="cpu")
    assert found.uri == "st:tiny"
    assert found.fingerprint == load(f"st:{folder('clip')}", device="cpu").fingerprint


def test_without_sentence_transformers_the_extra_is_named(
    folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """In a process whose packages are all but these."""
    packages = tmp_path / "packages"
    packages.mkdir()
    absent = ("sentence_transformers", "transformers")
    for place in site.getsitepackages():
        for entry in Path(place).iterdir():
            if entry.name not in absent and not (packages / entry.name).exists():
                (packages / entry.name).symlink_to(entry)
    program = (
        f"import sys; sys.path += [{str(ROOT)!r}, {str(packages)!r}]\n"
        "from maxsight.errors import BackendError\n"
        "from maxsight.models.encoder import load\n"
        "try:\n"
        f"    load('st:{folder('clip')}', device='cpu')\n"
        "except BackendError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert "pip install 'maxsight[vlm]'" in done.stdout, done.stderr
