"""``st:`` encoders against sentence-transformers' own ``encode``, from small models on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import maxsight
from maxsight.errors import EncoderError, UnknownEncoder
from maxsight.index.store import Store
from maxsight.kernels import maxsim
from maxsight.models.encoder import Encoder, load
from maxsight.models.options import parse
from maxsight.models.pixels.preprocess import resize

TEXTS = ["a red bus", "rain", "describe the image, please", ""]


# Width and height: a strip longer than eight times its width is cut, all others fit.
SHAPES = [(150, 100), (60, 60), (120, 200), (40, 300), (16, 16)]


SINGLE = ["clip", "qwen2_vl", "qwen2_5_vl"]


MULTIPLE = ["colqwen", "colpali"]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def encoder(folder: Callable[[str], Path]) -> Callable[..., Encoder]:
    loaded: dict[str, Encoder] = {}

    def of(name: str, options: str = "") -> Encoder:
        uri = f"st:{folder(name)}{options}"
        if uri not in loaded:
            loaded[uri] = load(uri, device="cpu")
        return loaded[uri]

    return of


@pytest.fixture(scope="module")
def theirs(folder: Callable[[str], Path]) -> Callable[[str], Any]:
    import sentence_transformers

    loaded: dict[str, Any] = {}

    def of(name: str) -> Any:
        if name not in loaded:
            several = name in MULTIPLE
            kind = "MultiVectorEncoder" if several else "SentenceTransformer"
            loaded[name] = getattr(sentence_transformers, kind)(str(folder(name)), device="cpu")
        return loaded[name]

    return of


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    draw = np.random.default_rng(0)
    return [
        # Small blocks of one colour: what a processor's resampling does to them is seen.
        Image.fromarray(
            draw.integers(0, 255, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
        ).resize((width, height), Image.Resampling.NEAREST)
        for width, height in SHAPES
    ]


# --- the same as theirs -------------------------------------------------------------------------


@pytest.mark.parametrize("name", SINGLE)
def test_vectors_are_sentence_transformers(
    name: str,
    encoder: Callable[..., Encoder],
    theirs: Callable[[str], Any],
    pictures: list[Image.Image],
) -> None:
    mine, other = encoder(name), theirs(name)
    for found, expected in (
        (mine.encode_images(pictures).vectors, other.encode_document(pictures)),
        (mine.encode_text(TEXTS).vectors, other.encode_query(TEXTS)),
    ):
        truth = torch.nn.functional.normalize(torch.tensor(expected), dim=1)
        assert found.shape == (len(truth), mine.dim)
        torch.testing.assert_close(found, truth, rtol=0, atol=1e-5)
    assert mine.token_dim is None
    with pytest.raises(EncoderError, match="no tokens"):
        mine.encode_text(TEXTS, tokens=True)


@pytest.mark.parametrize("name", MULTIPLE)
def test_tokens_are_sentence_transformers(
    name: str,
    encoder: Callable[..., Encoder],
    theirs: Callable[[str], Any],
    pictures: list[Image.Image],
) -> None:
    """Query prompts, augmentation tokens and masks included."""
    mine, other = encoder(name), theirs(name)
    queries = mine.encode_text(TEXTS, tokens=True)
    documents = mine.encode_images(pictures, tokens=True)
    their_queries, their_documents = other.encode_query(TEXTS), other.encode_document(pictures)
    for found, expected in ((queries, their_queries), (documents, their_documents)):
        assert found.tokens is not None
        assert found.offsets is not None
        assert found.sizes is None
        assert found.offsets.diff().tolist() == [len(states) for states in expected]
        torch.testing.assert_close(found.tokens, torch.cat(list(expected)), rtol=0, atol=1e-5)
        means = torch.stack([states.mean(0) for states in expected])
        pooled = torch.nn.functional.normalize(means, dim=1)
        torch.testing.assert_close(found.vectors, pooled, rtol=0, atol=1e-5)
    assert queries.tokens is not None
    assert queries.offsets is not None
    assert documents.tokens is not None
    assert documents.offsets is not None
    scores = maxsim.score(queries.tokens, queries.offsets, documents.tokens, documents.offsets)
    similarity = other.similarity(their_queries, their_documents)
    torch.testing.assert_close(scores, similarity, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [*SINGLE, *MULTIPLE])
def test_pixels_of_their_own_shapes_are_the_pictures(
    name: str, encoder: Callable[..., Encoder], pictures: list[Image.Image]
) -> None:
    """What decoders hand over gives what the pictures give, in whatever batch."""
    mine = encoder(name)
    pixels: Any = [torch.tensor(resize(picture, mine.preprocess)) for picture in pictures]
    assert len({tuple(picture.shape) for picture in pixels}) > 1
    expected = mine.encode_images(pictures).vectors
    torch.testing.assert_close(mine.encode_images(pixels).vectors, expected, rtol=0, atol=1e-6)
    singly = torch.cat([mine.encode_images(picture[None]).vectors for picture in pixels])
    torch.testing.assert_close(singly, expected, rtol=0, atol=1e-5)


def test_many_texts_come_back_in_order(encoder: Callable[..., Encoder]) -> None:
    mine = encoder("colqwen")
    texts = [" ".join(["rain"] * (7 * number % 23)) for number in range(130)]
    together = mine.encode_text(texts, tokens=True)
    assert together.offsets is not None
    for number in (0, 1, 64, 129):
        alone = mine.encode_text([texts[number]], tokens=True)
        assert alone.tokens is not None
        torch.testing.assert_close(alone.vectors[0], together.vectors[number], rtol=0, atol=1e-5)
        assert int(together.offsets[number + 1] - together.offsets[number]) == len(alone.tokens)


def test_nothing_gives_nothing(encoder: Callable[..., Encoder]) -> None:
    mine = encoder("colqwen")
    for empty in (mine.encode_text([], tokens=True), mine.encode_images([], tokens=True)):
        assert empty.vectors.shape == (0, mine.dim)
        assert empty.tokens is not None
        assert empty.tokens.shape == (0, mine.token_dim)
        assert empty.offsets is not None
        assert empty.offsets.tolist() == [0]


def test_threads_share_an_encoder(
    encoder: Callable[..., Encoder], pictures: list[Image.Image]
) -> None:
    mine = encoder("qwen2_vl", "?prune=25%")
    expected = [mine.encode_images(pictures[:3]).vectors, mine.encode_text(TEXTS).vectors]

    def work(number: int) -> torch.Tensor:
        if number % 2:
            return mine.encode_text(TEXTS).vectors
        return mine.encode_images(pictures[:3]).vectors

    with ThreadPoolExecutor(4) as threads:
        for number, found in enumerate(threads.map(work, range(12))):
            assert torch.equal(found, expected[number % 2])


def test_what_it_declares(encoder: Callable[..., Encoder]) -> None:
    assert encoder("clip").max_text_tokens == 16
    assert encoder("clip").dim == 24
    assert encoder("colpali").token_dim == encoder("colpali").dim == 16
    qwen = encoder("qwen2_vl")
    assert qwen.max_text_tokens == 512
    assert (qwen.preprocess.resize_mode, qwen.preprocess.size) == ("fit", 224)  # 64 cells of 28
    assert encoder("colpali").preprocess.size == 168  # twice its square


# --- merging and pruning ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["colqwen", "colpali"])
def test_pruned_tokens_leave_and_merged_ones_say_their_size(
    name: str, encoder: Callable[..., Encoder], pictures: list[Image.Image]
) -> None:
    plain = encoder(name).encode_images(pictures, tokens=True)
    pruned = encoder(name, "?prune=25%").encode_images(pictures, tokens=True)
    merged = encoder(name, "?merge=25%").encode_images(pictures, tokens=True)
    assert plain.offsets is not None
    assert pruned.offsets is not None
    assert merged.offsets is not None
    assert merged.tokens is not None
    assert merged.sizes is not None
    assert pruned.sizes is None
    assert torch.equal(pruned.offsets, merged.offsets)
    assert bool((pruned.offsets.diff() < plain.offsets.diff()).all())
    # Every visual token is in one that is left, and every token of text is.
    sizes = [part.sum() for part in torch.split(merged.sizes, merged.offsets.diff().tolist())]
    assert torch.stack(sizes).tolist() == plain.offsets.diff().tolist()
    for reduced in (pruned, merged):
        cosine = (reduced.vectors * plain.vectors).sum(1)
        assert bool((cosine > 0.5).all())
        assert bool((cosine < 1 - 1e-4).all())
    by_size = [
        torch.nn.functional.normalize(weights @ states, dim=0)
        for states, weights in zip(
            torch.split(merged.tokens, merged.offsets.diff().tolist()),
            torch.split(merged.sizes, merged.offsets.diff().tolist()),
        )
    ]
    torch.testing.assert_close(merged.vectors, torch.stack(by_size), rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", ["?prune=aim", "?merge=25%", "?merge=50%&prune=25%,2,5"])
@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl"])
def test_ragged_batches_reduce_as_single_pictures(
    name: str, options: str, encoder: Callable[..., Encoder], pictures: list[Image.Image]
) -> None:
    reduced, plain = encoder(name, options), encoder(name)
    together = reduced.encode_images(pictures).vectors
    singly = torch.cat([reduced.encode_images([picture]).vectors for picture in pictures])
    torch.testing.assert_close(together, singly, rtol=0, atol=1e-5)
    assert not torch.allclose(together, plain.encode_images(pictures).vectors, atol=1e-3)
    # Queries have no picture to reduce.
    assert torch.equal(reduced.encode_text(TEXTS).vectors, plain.encode_text(TEXTS).vectors)


def test_pruning_a_model_without_a_causal_mask(
    folder: Callable[[str], Path], pictures: list[Image.Image]
) -> None:
    """PaliGemma sees a picture both ways. Held against the whole model with what was pruned
    masked, chosen by the attention weights that its own eager attention reports."""
    from transformers import AutoProcessor, ColPaliForRetrieval

    from maxsight.models.vlm import aim

    source = str(folder("colpali"))
    inputs = AutoProcessor.from_pretrained(source)(images=pictures[:3], return_tensors="pt")
    pruned = ColPaliForRetrieval.from_pretrained(source).eval()
    eager = ColPaliForRetrieval.from_pretrained(source, attn_implementation="eager").eval()
    reduction = aim.attach(pruned, merge_share=1.0, prune="25%,3,4", encoder="test")
    with torch.no_grad():
        with reduction.of(inputs["input_ids"], inputs["attention_mask"]) as done:
            found = pruned(**inputs).embeddings
        weights = eager(**inputs, output_attentions=True).attentions[3]
    # Softmax at a tenth of the temperature: weights to the tenth power, made to sum to one.
    flow = (10 * weights.double().log()).softmax(-1)
    rank = torch.full((*flow.shape[:2], 1, flow.shape[-1]), 1 / flow.shape[-1]).double()
    for _ in range(5):
        rank = rank @ flow
    scores = rank[:, :, 0].square().mean(1).sqrt()
    visual = inputs["input_ids"] == eager.config.vlm_config.image_token_id
    best = scores.masked_fill(~visual, -1).topk(round(0.25 * 36), dim=1).indices
    left = ~visual
    left.scatter_(1, best, True)
    assert torch.equal(done.is_left, left)

    def hide(layer: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        unseen = torch.finfo(torch.float32).min
        mask = kwargs["attention_mask"].masked_fill(~left[:, None, None], unseen)
        return args, {**kwargs, "attention_mask": mask}

    for layer in eager.vlm.language_model.layers[4:]:
        layer.register_forward_pre_hook(hide, with_kwargs=True)
    with torch.no_grad():
        expected = eager(**inputs).embeddings
    torch.testing.assert_close(found[left], expected[left], rtol=1e-4, atol=1e-4)


def test_options_change_the_fingerprint_and_files_do(
    encoder: Callable[..., Encoder], folder: Callable[[str], Path], tmp_path: Path
) -> None:
    uris = ["", "?prune=25%", "?prune=50%", "?merge=25%", "?merge=25%&prune=25%"]
    encoders = [encoder("colqwen", options) for options in uris]
    assert len({each.fingerprint for each in encoders}) == len(uris)
    assert encoders[-1].uri == f"st:{folder('colqwen')}?merge=25%&prune=25%"
    copy = tmp_path / "copy"
    shutil.copytree(folder("colqwen"), copy)
    (copy / "README.md").write_text("words")
    assert load(f"st:{copy}", device="cpu").fingerprint == encoders[0].fingerprint
    processor = json.loads((copy / "processor_config.json").read_text())
    processor["image_processor"]["image_mean"] = [0.5, 0.5, 0.5]
    (copy / "processor_config.json").write_text(json.dumps(processor))
    assert load(f"st:{copy}", device="cpu").fingerprint != encoders[0].fingerprint


def test_clip_merges_in_its_tower(
    encoder: Callable[..., Encoder], pictures: list[Image.Image]
) -> None:
    plain, merged = encoder("clip"), encoder("clip", "?merge=5")
    cosine = (plain.encode_images(pictures).vectors * merged.encode_images(pictures).vectors).sum(1)
    assert bool((cosine > 0.9).all())
    assert bool((cosine < 1 - 1e-5).all())
    assert torch.equal(plain.encode_text(TEXTS).vectors, merged.encode_text(TEXTS).vectors)
    # A picture of one colour has patches that differ by their places alone, which decide little.
    flat = [Image.new("RGB", (64, 64), "teal")]
    assert float(plain.encode_images(flat).vectors @ merged.encode_images(flat).vectors.T) > 0.99


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("prune=aim", "?prune=aim"),
        ("prune=0%", "?prune=aim"),
        ("prune=025.0%", "?prune=25%"),
        ("prune=25%,02,5", "?prune=25%,2,5"),
        ("prune=100%", ""),
        ("prune=100%,2,5", ""),
        ("prune=25%&merge=50%", "?merge=50%&prune=25%"),
    ],
)
def test_one_schedule_has_one_spelling(written: str, canonical: str) -> None:
    assert str(parse(f"st:a?{written}")) == f"st:a{canonical}"


@pytest.mark.parametrize("text", ["", "25", "-1%", "101%", "nan%", "25%,3", "25%,5,5", "aim,2,5"])
def test_a_bad_schedule_is_told_what_is_allowed(text: str) -> None:
    with pytest.raises(UnknownEncoder, match="the share of the visual tokens to keep as 25%"):
        parse(f"st:a?prune={text}")


# --- a library ----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", ["", "?merge=50%&prune=50%"])
def test_index_search_and_maxsim(
    options: str,
    folder: Callable[[str], Path],
    encoder: Callable[..., Encoder],
    pictures: list[Image.Image],
    tmp_path: Path,
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for number, picture in enumerate(pictures):
        picture.save(files / f"{number}.png")
    uri = f"st:{folder('colqwen')}{options}"
    with maxsight.open(tmp_path / "lib", encoder=uri, device="cpu") as library:
        report = library.add([files], tokens=True)
        assert (report.added, report.failed) == (len(pictures), 0)
    mine = encoder("colqwen", options)
    with maxsight.open(tmp_path / "lib", device="cpu") as library:  # by the URI it recorded
        hits = library.search("a red bus in the rain", k=len(pictures))
        assert {Path(hit.path).name for hit in hits} == {f"{n}.png" for n in range(len(pictures))}
        assert library.search(image=files / "2.png", include_references=True)[0].path == str(
            files / "2.png"
        )
    with Store.open(tmp_path / "lib") as store:
        snapshot = store.snapshot()
        table = snapshot.tokens.of_units(range(len(pictures)))
        order = [
            int(Path(snapshot.search(vector[None], 1)[0][0].path).stem)
            for vector in snapshot.vectors(np.arange(len(pictures)))
        ]
    expected = mine.encode_images([pictures[number] for number in order], tokens=True)
    assert expected.tokens is not None
    assert expected.offsets is not None
    assert table.offsets.tolist() == expected.offsets.tolist()
    stored = torch.tensor(table.tokens) * torch.tensor(table.scales)[:, None]
    torch.testing.assert_close(stored, expected.tokens, rtol=0, atol=5e-3)  # int8
    if options:
        assert expected.sizes is not None
        assert table.sizes.tolist() == expected.sizes.tolist()
    query = mine.encode_text(["a red bus in the rain"], tokens=True)
    assert query.tokens is not None
    assert query.offsets is not None
    scores = maxsim.score(query.tokens, query.offsets, stored, torch.tensor(table.offsets))
    truth = maxsim.score(query.tokens, query.offsets, expected.tokens, expected.offsets)
    torch.testing.assert_close(scores, truth, rtol=1e-2, atol=1e-2)
