"""open_clip encoders against open_clip itself, with small real models in open_clip's own format."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import open_clip
import pytest
import skimage
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_clips import ARCHITECTURES, TEXT

from maxsight.errors import BackendError, EncoderError, UnknownEncoder, UsageError, WeightsMissing
from maxsight.models import hub
from maxsight.models.encoder import load
from maxsight.models.open_clip import zoo
from maxsight.models.open_clip.encoder import OpenClipEncoder
from maxsight.models.pixels.preprocess import Preprocess, normalize, resize

# "!€" begins with token 0, which is also how open_clip pads
TEXTS = ["a red bus in the rain", "", "a !€ b", "one " * 30, "Ein Haus am See, größer"]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def encoders(folders: dict[str, Path]) -> dict[str, OpenClipEncoder]:
    loaded = {}
    for name in ARCHITECTURES:
        encoder = load(f"open_clip:local-dir:{folders[name]}", device="cpu")
        assert isinstance(encoder, OpenClipEncoder)
        loaded[name] = encoder
    return loaded


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    """Real photographs in odd sizes: tall, wide, smaller than any tower's input, square."""
    data = Path(skimage.__file__).parent / "data"
    cat = Image.open(data / "chelsea.png").convert("RGB")  # 451 x 300
    coffee = Image.open(data / "coffee.png").convert("RGB")  # 600 x 400
    rocket = Image.open(data / "rocket.jpg").convert("RGB")  # 640 x 427
    return [
        cat,
        coffee.crop((3, 5, 130, 396)),
        rocket.crop((0, 0, 639, 211)),
        cat.crop((60, 60, 96, 90)),  # 36 x 30: at 75 pixels the short side is a rounding tie
        coffee.resize((37, 256)),
        rocket.crop((0, 200, 640, 205)),
        cat.crop((10, 10, 234, 234)),
    ]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_pooled_vectors_are_open_clips_own(
    name: str,
    folders: dict[str, Path],
    encoders: dict[str, OpenClipEncoder],
    pictures: list[Image.Image],
) -> None:
    source = f"local-dir:{folders[name]}"
    model = open_clip.create_model(source).eval()
    encoder = encoders[name]
    pixels = np.stack([resize(picture, encoder.preprocess) for picture in pictures])
    transform = image_transform_v2(
        PreprocessCfg(**model.visual.preprocess_cfg), is_train=False
    ).transforms[-2:]  # to a tensor and normalised; scaling has a test of its own
    with torch.no_grad():
        images = torch.stack([transform[1](transform[0](square)) for square in pixels])
        expected_images = model.encode_image(images, normalize=True)
        expected_texts = model.encode_text(open_clip.get_tokenizer(source)(TEXTS), normalize=True)
    assert encoder.dim == ARCHITECTURES[name]["embed_dim"]
    assert encoder.dtype == torch.float32
    assert encoder.modalities == {"text", "image"}
    assert encoder.max_text_tokens == TEXT["context_length"]
    torch.testing.assert_close(
        encoder.encode_images(pictures).vectors, expected_images, atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        encoder.encode_text(TEXTS).vectors, expected_texts, atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-siglip", "tiny-eva"])
def test_many_texts_of_many_lengths(
    name: str, folders: dict[str, Path], encoders: dict[str, OpenClipEncoder]
) -> None:
    """More than are computed together, and in no order of length."""
    source = f"local-dir:{folders[name]}"
    texts = ["one " * (7 * number % 31) + f"{number}" for number in range(150)]
    model = open_clip.create_model(source).eval()
    with torch.no_grad():
        expected = model.encode_text(open_clip.get_tokenizer(source)(texts), normalize=True)
    got = encoders[name].encode_text(texts).vectors
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-siglip"])
def test_tokens_come_with_the_same_pooled_vectors(
    name: str, encoders: dict[str, OpenClipEncoder], pictures: list[Image.Image]
) -> None:
    encoder = encoders[name]
    side = {"tiny-vit": 3, "tiny-siglip": 10}[name]
    for plain, packed in (
        (encoder.encode_images(pictures), encoder.encode_images(pictures, tokens=True)),
        (encoder.encode_text(TEXTS), encoder.encode_text(TEXTS, tokens=True)),
    ):
        assert plain.tokens is None
        assert packed.tokens is not None
        torch.testing.assert_close(packed.vectors, plain.vectors, atol=1e-6, rtol=0)
        assert packed.tokens.dtype == torch.float32
        assert packed.tokens.shape[1] == encoder.token_dim == encoder.dim
        norms = packed.tokens.norm(dim=1)
        torch.testing.assert_close(norms, torch.ones_like(norms), atol=1e-5, rtol=0)
    patches = encoder.encode_images(pictures, tokens=True).offsets
    assert patches is not None
    assert patches.tolist() == [side * side * i for i in range(len(pictures) + 1)]
    words = encoder.encode_text(TEXTS, tokens=True).offsets
    assert words is not None
    tokenizer = open_clip.SimpleTokenizer()
    room = encoder.max_text_tokens - 2  # the start and the end of the text take two
    expected = [min(len(tokenizer.encode(text)), room) for text in TEXTS]
    assert expected[1:4] == [0, 4, room]
    assert words.diff().tolist() == expected


def test_a_patch_token_is_the_projected_state_of_its_patch(
    folders: dict[str, Path], encoders: dict[str, OpenClipEncoder], pictures: list[Image.Image]
) -> None:
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folders['tiny-vit']}")
    states: list[torch.Tensor] = []
    model.visual.transformer.register_forward_hook(lambda *call: states.append(call[2]))
    with torch.no_grad():
        model.eval().encode_image(transform(pictures[0])[None])
        normed = model.visual.ln_post(states[0])[0]
        expected = torch.nn.functional.normalize(normed @ model.visual.proj, dim=-1)
    packed = encoders["tiny-vit"].encode_images(pictures[:1], tokens=True)
    assert packed.tokens is not None
    torch.testing.assert_close(packed.tokens, expected[1:], atol=1e-5, rtol=0)
    torch.testing.assert_close(packed.vectors[0], expected[0], atol=1e-5, rtol=0)


def test_a_siglip_patch_token_is_its_patch_pooled_alone(
    folders: dict[str, Path], encoders: dict[str, OpenClipEncoder], pictures: list[Image.Image]
) -> None:
    model, _, transform = open_clip.create_model_and_transforms(
        f"local-dir:{folders['tiny-siglip']}"
    )
    visual = model.eval().visual
    with torch.no_grad():
        states = visual.trunk.forward_features(transform(pictures[2])[None])
        one_by_one = [visual.head(visual.trunk.forward_head(states[:, i : i + 1])) for i in (1, 42)]
        expected = torch.nn.functional.normalize(torch.cat(one_by_one), dim=-1)
    tokens = encoders["tiny-siglip"].encode_images(pictures[2:3], tokens=True).tokens
    assert tokens is not None
    torch.testing.assert_close(tokens[[0, 41]], expected, atol=1e-5, rtol=0)


def test_word_tokens_do_not_see_what_follows_in_a_causal_tower(
    encoders: dict[str, OpenClipEncoder],
) -> None:
    packed = encoders["tiny-vit"].encode_text(["a red bus", "a red bus in the rain"], tokens=True)
    assert packed.tokens is not None
    assert packed.offsets is not None
    short, long = packed.tokens[:3], packed.tokens[3:]
    assert packed.offsets.tolist() == [0, 3, 9]
    torch.testing.assert_close(short, long[:3], atol=1e-5, rtol=0)
    assert not torch.allclose(long[2], long[3], atol=1e-2)


@pytest.mark.parametrize("name", ["tiny-resnet", "tiny-convnext"])
def test_towers_without_tokens_say_so(
    name: str, encoders: dict[str, OpenClipEncoder], pictures: list[Image.Image]
) -> None:
    encoder = encoders[name]
    assert encoder.token_dim is None
    with pytest.raises(EncoderError, match="gives no tokens"):
        encoder.encode_images(pictures, tokens=True)
    with pytest.raises(EncoderError, match="gives no tokens"):
        encoder.encode_text(TEXTS, tokens=True)
    with pytest.raises(EncoderError, match="gives no tokens"):
        encoder.encode_text([], tokens=True)


def test_pixels_made_elsewhere_give_the_same_vectors(
    encoders: dict[str, OpenClipEncoder], pictures: list[Image.Image]
) -> None:
    encoder = encoders["tiny-vit"]
    pixels = np.stack([resize(picture, encoder.preprocess) for picture in pictures])
    from_pixels = encoder.encode_images(torch.from_numpy(pixels)).vectors
    assert torch.equal(from_pixels, encoder.encode_images(pictures).vectors)


def test_nothing_gives_nothing(encoders: dict[str, OpenClipEncoder]) -> None:
    encoder = encoders["tiny-vit"]
    assert encoder.encode_text([]).vectors.shape == (0, 24)
    packed = encoder.encode_images([], tokens=True)
    assert packed.vectors.shape == (0, 24)
    assert packed.tokens is not None
    assert packed.tokens.shape == (0, 24)
    no_pixels = torch.zeros(0, 48, 48, 3, dtype=torch.uint8)
    assert len(encoder.encode_images(no_pixels)) == 0


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-siglip"])
def test_half_precision_stays_close_and_returns_float32(
    name: str,
    folders: dict[str, Path],
    encoders: dict[str, OpenClipEncoder],
    pictures: list[Image.Image],
) -> None:
    from maxsight.models.open_clip.encoder import load as load_as

    half = load_as(f"local-dir:{folders[name]}", device="cpu", dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert half.fingerprint == encoders[name].fingerprint
    for ours, exact in (
        (
            half.encode_images(pictures, tokens=True),
            encoders[name].encode_images(pictures, tokens=True),
        ),
        (half.encode_text(TEXTS, tokens=True), encoders[name].encode_text(TEXTS, tokens=True)),
    ):
        assert ours.tokens is not None
        assert exact.tokens is not None
        for low, full in ((ours.vectors, exact.vectors), (ours.tokens, exact.tokens)):
            assert low.dtype == torch.float32
            assert (low * full).sum(1).min() > 0.99


# --- fingerprints ------------------------------------------------------------------------------


def fingerprint(folder: Path) -> str:
    return load(f"open_clip:local-dir:{folder}", device="cpu").fingerprint


def test_the_fingerprint_follows_what_changes_results(
    folders: dict[str, Path], encoders: dict[str, OpenClipEncoder], tmp_path: Path
) -> None:
    original = encoders["tiny-vit"].fingerprint
    copy = tmp_path / "copy"
    shutil.copytree(folders["tiny-vit"], copy)
    assert fingerprint(copy) == original, "a folder's place is not part of an encoder"

    config_file, weights_file = copy / "open_clip_config.json", copy / "open_clip_model.safetensors"
    config = json.loads(config_file.read_text())
    seen = {original}
    for section, key, value in (
        ("preprocess_cfg", "interpolation", "bilinear"),
        ("preprocess_cfg", "mean", [0.5, 0.5, 0.5]),
        ("model_cfg", "quick_gelu", True),
    ):
        changed = config | {section: config[section] | {key: value}}
        config_file.write_text(json.dumps(changed))
        seen.add(fingerprint(copy))
    config_file.write_text(json.dumps(config))

    weights = load_file(weights_file)
    weights["visual.proj"][3, 5] += 1e-6
    save_file(weights, weights_file)
    seen.add(fingerprint(copy))
    assert len(seen) == 5


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


# --- names and missing weights -----------------------------------------------------------------


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


@pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)
def test_a_tokenizer_from_the_folder_is_read_and_counted(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """Like SigLIP's: padding on the right, an end, no start."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "</s>", "<unk>", "a", "red", "bus"]
    inner = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    )
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    copy = tmp_path / "copy"
    shutil.copytree(folders["tiny-siglip"], copy)
    made.save_pretrained(copy)
    config = json.loads((copy / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "someone/tiny"
    (copy / "open_clip_config.json").write_text(json.dumps(config))

    encoder = load(f"open_clip:local-dir:{copy}", device="cpu")
    texts = ["a red bus", "", "a yellow bus", "red " * 30]
    model = open_clip.create_model(f"local-dir:{copy}").eval()
    with torch.no_grad():
        ids = open_clip.get_tokenizer(f"local-dir:{copy}")(texts)
        expected = model.encode_text(ids, normalize=True)
    packed = encoder.encode_text(texts, tokens=True)
    torch.testing.assert_close(packed.vectors, expected, atol=1e-5, rtol=0)
    assert packed.offsets is not None
    assert packed.offsets.diff().tolist() == [3, 0, 3, 11]

    (copy / "tokenizer.json").write_text(
        (copy / "tokenizer.json").read_text().replace('"bus"', '"car"')
    )
    assert fingerprint(copy) != encoder.fingerprint


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cpu:0", "cuda:99"])
def test_a_device_that_is_not_there_is_a_usage_error(device: str, folders: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match=device):
        load(f"open_clip:local-dir:{folders['tiny-vit']}", device=device)


# --- preprocessing -----------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [224, 75])
def test_preprocessing_is_open_clips(
    size: int,
    resize_mode: Any,
    interpolation: Any,
    pictures: list[Image.Image],
) -> None:
    config = PreprocessCfg(
        size=size, resize_mode=resize_mode, interpolation=interpolation, fill_color=7
    )
    ours = Preprocess(
        size,
        resize_mode,
        interpolation,
        mean=config.mean,
        std=config.std,
        fill=(7, 7, 7),
    )
    raw = dataclasses.replace(config, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    for picture in pictures:
        pixels = torch.from_numpy(resize(picture, ours).copy())
        exact = (image_transform_v2(raw, is_train=False)(picture) * 255).round().to(torch.uint8)
        assert torch.equal(pixels, exact.permute(1, 2, 0)), picture.size
        expected = image_transform_v2(config, is_train=False)(picture)
        difference = (normalize(pixels[None], ours)[0] - expected).abs().max()
        assert difference < 1e-6, (picture.size, difference)


def test_a_sliver_survives_every_resize_mode() -> None:
    sliver = Image.new("RGB", (3000, 1), (9, 9, 9))
    for mode in ("shortest", "longest", "squash"):
        pixels = resize(sliver, Preprocess(32, mode))
        assert pixels.shape == (32, 32, 3)
        assert (pixels == 9).any()
