"""Where open_clip's weights come from, and what is said when they are not there."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub.constants
import open_clip
import pytest
import torch
from tiny_clips import ARCHITECTURES, TEXTS

from maxsight.errors import BackendError, EncoderError, UnknownEncoder, WeightsMissing
from maxsight.models import hub
from maxsight.models.encoder import load
from maxsight.models.open_clip import zoo
from maxsight.models.open_clip.encoder import OpenClipEncoder
from maxsight.models.pixels.preprocess import Preprocess

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_pair_is_named_as_it_is_built() -> None:
    """QuickGELU is on where the architecture or the tag says so; one pair was named otherwise."""
    renamed = {}
    for name in zoo.names():
        architecture, tag = name.split("/")
        built, former = zoo.published_model(name)
        of_tag = bool(open_clip.pretrained.get_pretrained_cfg(architecture, tag).get("quick_gelu"))
        own = open_clip.get_model_config(architecture)
        assert built["quick_gelu"] == (of_tag or own.get("quick_gelu", False)), name
        if former is not None:
            renamed[name] = former["quick_gelu"], built["quick_gelu"]
        else:
            assert built == own | {"quick_gelu": of_tag}, "its fingerprint stays what it was"
    assert renamed == {"roberta-ViT-B-32/laion2b_s12b_b32k": (False, True)}


def test_an_architecture_of_quick_gelu_is_named_so(
    folders: dict[str, Path], empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like roberta-ViT-B-32's: libraries of earlier releases name the same vectors otherwise."""
    weights = folders["tiny-vit"] / "open_clip_model.safetensors"
    put_into_cache(empty_cache, "someone/tiny", [weights])
    own = ARCHITECTURES["tiny-vit"] | {"quick_gelu": True}
    tags = {
        "silent": open_clip.pretrained._pcfg(hf_hub="someone/tiny/"),
        "quick": open_clip.pretrained._pcfg(hf_hub="someone/tiny/", quick_gelu=True),
    }
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-vit", tags)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-vit", own)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    silent = load("open_clip:tiny-vit/silent", device="cpu")
    assert silent.fingerprint == load("open_clip:tiny-vit/quick", device="cpu").fingerprint
    model = open_clip.create_model("tiny-vit", pretrained=str(weights)).eval()
    with torch.no_grad():
        expected = model.encode_text(open_clip.tokenize(TEXTS, 12), normalize=True)
    torch.testing.assert_close(silent.encode_text(TEXTS).vectors, expected, atol=1e-5, rtol=0)

    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-vit", ARCHITECTURES["tiny-vit"])
    plain = load("open_clip:tiny-vit/silent", device="cpu")
    assert silent.former_fingerprints == (plain.fingerprint,)
    assert plain.former_fingerprints == ()


def test_every_published_pair_is_on_the_hub() -> None:
    for name in zoo.names():
        architecture, tag = name.split("/")
        config = open_clip.pretrained.get_pretrained_cfg(architecture, tag)
        assert config["hf_hub"].count("/") == 2, name


def test_the_list_can_be_printed() -> None:
    command = [sys.executable, "-m", zoo.__name__]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == zoo.names()


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("ViT-B-32/laion2b_s34b_b97k", "ViT-B-32/laion2b_s34b_b79k"),
        ("ViTB32/openai", "ViT-B-32/openai"),
        ("ViT-B-32", "ViT-B-32/openai"),
        ("ViT-B-16-SigLIP2/weblii", "ViT-B-16-SigLIP2/webli"),
    ],
)
def test_an_unknown_name_is_answered_with_near_ones(name: str, suggestion: str) -> None:
    with pytest.raises(UnknownEncoder) as caught:
        load(f"open_clip:{name}")
    assert suggestion in str(caught.value)
    assert f"python -m {zoo.__name__}" in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    return cache


def missing_weights(name: str) -> tuple[str, float]:
    start = time.monotonic()
    with pytest.raises(WeightsMissing) as caught:
        load(f"open_clip:{name}", device="cpu")
    return str(caught.value), time.monotonic() - start


def test_a_refused_connection_is_reported_at_once(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    message, seconds = missing_weights("ViT-B-32/laion2b_s34b_b79k")
    assert "laion/CLIP-ViT-B-32-laion2B-s34B-b79K" in message
    assert "open_clip_model.safetensors" in message
    assert str(empty_cache) in message
    assert endpoint in message
    assert "refused" in message
    assert "--encoder builtin" in message
    assert seconds < 3


@pytest.mark.usefixtures("empty_cache")
def test_a_silent_network_is_given_up_after_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
        message, seconds = missing_weights("RN50/openai")
    assert endpoint in message
    assert seconds < 7


@pytest.mark.usefixtures("empty_cache")
def test_offline_mode_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    message, seconds = missing_weights("ViT-L-14/datacomp_xl_s13b_b90k")
    assert "HF_HUB_OFFLINE is set" in message
    assert seconds < 3


def put_into_cache(cache: Path, repository: str, files: list[Path]) -> None:
    """As the hub's client lays it out."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("d" * 40)
    for made in (folder / "blobs", snapshot, folder / "refs"):
        made.mkdir(parents=True)
    for file in files:
        blob = folder / "blobs" / hub.content_hash(file)
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(blob)
    (folder / "refs" / "main").write_text("d" * 40)


def test_a_repository_is_the_folder_that_was_saved_to_it(
    folders: dict[str, Path],
    encoders: dict[str, OpenClipEncoder],
    empty_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    saved = [folders["tiny-vit"] / "open_clip_config.json"]
    saved.append(folders["tiny-vit"] / "open_clip_model.safetensors")
    put_into_cache(empty_cache, "someone/tiny", saved)
    put_into_cache(empty_cache, "someone/half", saved[:1])
    encoder = load("hf-hub:someone/tiny?merge=2", device="cpu")
    assert encoder.uri == "hf-hub:someone/tiny?merge=2"
    plain = load("hf-hub:someone/tiny", device="cpu")
    assert plain.fingerprint == encoders["tiny-vit"].fingerprint
    expected = encoders["tiny-vit"].encode_text(TEXTS).vectors
    assert torch.equal(plain.encode_text(TEXTS).vectors, expected)
    with pytest.raises(WeightsMissing, match=r"open_clip_model.safetensors or"):
        load("hf-hub:someone/half", device="cpu")
    with pytest.raises(WeightsMissing, match=r"open_clip_config.json of someone/nothing"):
        load("hf-hub:someone/nothing", device="cpu")
    for name in ("", "tiny", "a/b/c", "../b c"):
        with pytest.raises(UnknownEncoder, match="hf-hub:OWNER/REPO"):
            load(f"hf-hub:{name}", device="cpu")


def test_published_weights_are_taken_from_the_cache_without_a_network(
    folders: dict[str, Path], empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pair is published like any other."""
    weights = folders["tiny-vit"] / "open_clip_model.safetensors"
    put_into_cache(empty_cache, "someone/tiny", [weights])
    published = {
        "hf_hub": "someone/tiny/",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
        "resize_mode": "longest",
        "interpolation": "bilinear",
        "quick_gelu": True,
    }
    registry = open_clip.pretrained._PRETRAINED
    monkeypatch.setitem(registry, "tiny-vit", {"some_tag": published})
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-vit", ARCHITECTURES["tiny-vit"])
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    encoder = load("open_clip:tiny-vit/some_tag", device="cpu")
    assert encoder.preprocess == Preprocess(
        48, "longest", "bilinear", (0.5,) * 3, (0.25,) * 3, fill=(0, 0, 0)
    )
    # The tag says its weights were trained with QuickGELU, whatever the architecture is called.
    model = open_clip.create_model("tiny-vit", pretrained=str(weights), force_quick_gelu=True)
    with torch.no_grad():
        expected = model.eval().encode_text(open_clip.tokenize(TEXTS, 12), normalize=True)
    torch.testing.assert_close(encoder.encode_text(TEXTS).vectors, expected, atol=1e-5, rtol=0)


def test_a_folder_that_is_no_encoder_says_what_it_lacks(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    def error(folder: Path, kind: type[EncoderError]) -> str:
        with pytest.raises(kind) as caught:
            load(f"open_clip:local-dir:{folder}", device="cpu")
        return str(caught.value)

    assert "is not a folder" in error(tmp_path / "nowhere", WeightsMissing)
    assert "no open_clip_config.json" in error(tmp_path, WeightsMissing)
    config = tmp_path / "open_clip_config.json"
    config.write_text("{")
    assert "not an open_clip configuration" in error(tmp_path, EncoderError)
    config.write_text('{"model_cfg": {}}')
    assert "vision_cfg" in error(tmp_path, EncoderError)
    shutil.copy(folders["tiny-vit"] / config.name, config)
    assert "no weights" in error(tmp_path, WeightsMissing)
    whole = (folders["tiny-vit"] / "open_clip_model.safetensors").read_bytes()
    weights = tmp_path / "open_clip_model.safetensors"
    weights.write_bytes(whole[: len(whole) // 2])
    assert "cannot load" in error(tmp_path, EncoderError)
    shutil.copy(folders["tiny-resnet"] / weights.name, weights)
    assert "cannot load" in error(tmp_path, EncoderError)


@pytest.mark.skipif(
    importlib.util.find_spec("transformers") is not None, reason="transformers is installed"
)
def test_a_tokenizer_that_needs_transformers_says_so(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folders["tiny-siglip"], copy)
    config = json.loads((copy / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "timm/ViT-B-16-SigLIP"
    (copy / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(BackendError, match="transformers"):
        load(f"open_clip:local-dir:{copy}", device="cpu")
