"""open_clip encoders against open_clip itself, with small real models in open_clip's own format."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import skimage
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_clips import ARCHITECTURES, TEXT, TEXTS

from maxsight.errors import EncoderError, UsageError
from maxsight.models.encoder import load
from maxsight.models.open_clip.encoder import OpenClipEncoder
from maxsight.models.pixels.preprocess import Preprocess, normalize, resize

pytestmark = pytest.mark.usefixtures("one_thread")


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
