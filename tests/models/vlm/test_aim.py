"""AIM against masking, which computes everything and hides it, and against plain arithmetic."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import Any

import pytest
import tiny_vlms
import torch
from torch import Tensor

from maxsight.benchmarks.cases.aim_pruning import masked, pictures, tiny_qwen
from maxsight.errors import EncoderError, UnknownEncoder
from maxsight.kernels.merge import merge
from maxsight.models.vlm import aim, visual_tokens

RAGGED = [(6, 6), (2, 3), (4, 8), (1, 1)]
EQUAL = [(5, 5)] * 3
LAYERS = 8


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model() -> Any:
    model = tiny_qwen(layers=LAYERS, width=128)
    # Weights drawn for training start near zero, where every attention is alike.
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "layers" in name and weight.ndim == 2:
                weight.mul_(6)
    return model


def reduced(
    model: Any, batch: dict[str, Tensor], *, merge_share: float = 1.0, prune: str | None = None
) -> tuple[Tensor, visual_tokens.Batch]:
    reduction = aim.attach(model, merge_share=merge_share, prune=prune, encoder="test")
    with torch.inference_mode(), reduction.of(batch["input_ids"], batch["attention_mask"]) as done:
        states = model(**batch, use_cache=False).last_hidden_state
    return states, done


def padded_left(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same rows with their padding in front."""
    flipped = dict(batch)
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    for name in ("input_ids", "attention_mask", "mm_token_type_ids"):
        rows = [row.roll(len(row) - length) for row, length in zip(batch[name], lengths)]
        flipped[name] = torch.stack(rows)
    return flipped


# --- pruning ------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("shapes", [EQUAL, RAGGED], ids=["equal", "ragged"])
@pytest.mark.parametrize("prune", ["aim", "25%", "40%,0,3", "0%,6,7"])
def test_dropping_is_masking(model: Any, prune: str, shapes: Any, side: str) -> None:
    batch = pictures(shapes)
    if side == "left":
        batch = padded_left(batch)
    expected = masked(model, batch, aim.schedule(prune, LAYERS))
    states, done = reduced(model, batch, prune=prune)
    assert torch.equal(done.is_left, expected.is_left)
    assert (done.is_left != batch["attention_mask"].bool()).any()
    torch.testing.assert_close(
        states[done.is_left], expected.states[done.is_left], rtol=1e-4, atol=1e-4
    )


def test_the_check_notices_another_choice(model: Any) -> None:
    """Masking by another layer's ranks leaves other tokens: the comparison above can fail."""
    batch = pictures(RAGGED)
    _, done = reduced(model, batch, prune="40%,0,3")
    other = masked(model, batch, (1.0, 1.0, 0.8, 0.6, 0.4, 0.4, 0.4, 0.4))
    assert not torch.equal(done.is_left, other.is_left)


@pytest.mark.parametrize("prune", ["aim", "25%"])
def test_a_picture_gets_the_same_states_alone(model: Any, prune: str) -> None:
    together, done = reduced(model, pictures(RAGGED), prune=prune)
    # Random patches are drawn in order: the first picture of the batch is the only one of its own.
    alone, done_alone = reduced(model, pictures(RAGGED[:1]), prune=prune)
    length = alone.shape[1]
    assert torch.equal(done.is_left[0, :length], done_alone.is_left[0])
    kept = done_alone.is_left[0]
    torch.testing.assert_close(together[0, :length][kept], alone[0][kept], rtol=1e-4, atol=1e-4)


def test_text_stays_and_counts_are_the_schedules(model: Any) -> None:
    batch = pictures(RAGGED)
    _, done = reduced(model, batch, prune="25%,1,4")
    visual = batch["input_ids"] == model.config.image_token_id
    is_real = batch["attention_mask"].bool()
    assert done.is_left[~visual & is_real].all()
    assert not done.is_left[~is_real].any()
    counts = [height * width for height, width in RAGGED]
    assert (done.is_left & visual).sum(1).tolist() == [round(count * 0.25) for count in counts]
    assert done.sizes is None


def test_layers_compute_only_what_is_left(model: Any) -> None:
    """The point of it: hidden states, rotary angles, masks and caches shrink, layer by layer."""
    batch = pictures(RAGGED)
    shares = aim.schedule("aim", LAYERS)
    seen: list[tuple[int, int]] = []
    hooks = [
        layer.self_attn.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append(
                (kwargs["hidden_states"].shape[1], kwargs["position_embeddings"][0].shape[-2])
            ),
            with_kwargs=True,
        )
        for layer in model.language_model.layers
    ]
    reduction = aim.attach(model, merge_share=1.0, prune="aim", encoder="test")
    with torch.inference_mode(), reduction.of(batch["input_ids"], batch["attention_mask"]):
        output = model(**batch, use_cache=True)
    for hook in hooks:
        hook.remove()
    text, most = 24, 36
    widths = [text + round(most * share) for share in shares]
    assert seen == [(width, width) for width in widths]
    cached = [layer.keys.shape[2] for layer in output.past_key_values.layers]
    assert cached == widths
    assert output.last_hidden_state.shape[1] == text + most


def test_without_a_batch_nothing_changes(model: Any) -> None:
    fresh = tiny_qwen(layers=LAYERS, width=128)
    fresh.load_state_dict(model.state_dict())
    batch = pictures(RAGGED)
    aim.attach(model, merge_share=0.5, prune="aim", encoder="test")
    with torch.inference_mode():
        plain = fresh(**batch, use_cache=False).last_hidden_state
        attached = model(**batch, use_cache=False).last_hidden_state
    assert torch.equal(plain, attached)


def test_threads_do_not_see_each_others_batches(model: Any) -> None:
    batches = [pictures(RAGGED), pictures(EQUAL)]
    expected = [reduced(model, batch, prune="25%")[0] for batch in batches]
    found: dict[int, list[Tensor]] = {0: [], 1: []}

    def work(number: int) -> None:
        for _ in range(4):
            found[number].append(reduced(model, batches[number], prune="25%")[0])

    threads = [threading.Thread(target=work, args=(number,)) for number in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, states in found.items():
        assert len(states) == 4
        assert all(torch.equal(state, expected[number]) for state in states)


# --- merging ------------------------------------------------------------------------------------


def test_merging_is_the_kernels_merges() -> None:
    draw = torch.Generator().manual_seed(1)
    features = torch.randn(2, 196, 16, generator=draw)
    states, sizes, heads = visual_tokens.merged(features, 49)
    half = merge(features, 98, protected=0, weighted=False)
    truth = merge(half.tokens, 49, sizes=half.sizes, protected=0, weighted=False)
    source = truth.source.gather(1, half.source)
    assert sizes.sum(1).tolist() == [196, 196]
    for row in range(2):
        assert heads[row].tolist() == sorted(set(heads[row].tolist()))
        # A token stands where one of its members stood, and is what the kernel made of them.
        group = source[row, heads[row]]
        assert sorted(group.tolist()) == list(range(49))
        torch.testing.assert_close(states[row], truth.tokens[row, group])
        torch.testing.assert_close(sizes[row], truth.sizes[row, group])


def test_what_did_not_merge_stays_in_place() -> None:
    features = torch.eye(6).repeat(1, 1, 1)
    features[0, 4] = features[0, 1]  # the only two alike: 4 is at an even place and joins 1
    states, sizes, heads = visual_tokens.merged(features, 5)
    assert heads.tolist() == [[0, 1, 2, 3, 5]]
    assert sizes.tolist() == [[1, 2, 1, 1, 1]]
    torch.testing.assert_close(states[0], features[0, heads[0]])


@pytest.mark.parametrize("shapes", [EQUAL, RAGGED], ids=["equal", "ragged"])
def test_a_merged_picture_is_a_shorter_input(model: Any, shapes: Any) -> None:
    """Merging in front of the model equals giving the language model the merged features."""
    batch = pictures(shapes)
    states, done = reduced(model, batch, merge_share=0.3)
    visual = batch["input_ids"] == model.config.image_token_id
    with torch.inference_mode():
        features = model.get_image_features(
            batch["pixel_values"], batch["image_grid_thw"]
        ).pooler_output
        positions = model.compute_3d_position_ids(
            input_ids=batch["input_ids"],
            inputs_embeds=None,
            image_grid_thw=batch["image_grid_thw"],
            attention_mask=batch["attention_mask"],
            mm_token_type_ids=batch["mm_token_type_ids"],
        )
        assert done.sizes is not None
        for row, (height, width) in enumerate(shapes):
            left = max(1, round(height * width * 0.3))
            merged, sizes, heads = visual_tokens.merged(features[row][None], left)
            places = visual[row].nonzero()[:, 0][heads[0]]
            kept = batch["attention_mask"][row].bool() & ~visual[row]
            kept[places] = True
            assert torch.equal(done.is_left[row], kept)
            torch.testing.assert_close(done.sizes[row, places], sizes[0])
            embeddings = model.get_input_embeddings()(batch["input_ids"][row])
            embeddings[places] = merged[0]
            expected = model.language_model(
                inputs_embeds=embeddings[kept][None],
                position_ids=positions[:, row : row + 1, kept],
                use_cache=False,
            ).last_hidden_state
            torch.testing.assert_close(states[row, kept], expected[0], rtol=1e-4, atol=1e-4)


def test_merging_then_pruning_counts_what_merging_left(model: Any) -> None:
    batch = pictures(RAGGED)
    _, done = reduced(model, batch, merge_share=0.5, prune="50%,2,5")
    visual = batch["input_ids"] == model.config.image_token_id
    merged = [max(1, round(height * width * 0.5)) for height, width in RAGGED]
    left = (done.is_left & visual).sum(1).tolist()
    assert left == [round(count * 0.5) for count in merged]


# --- what it is made of -------------------------------------------------------------------------


def test_page_rank_by_hand() -> None:
    """Two tokens, causal, one head: the second divides itself between both by its logits."""
    query = torch.tensor([[[1.0, 0.0], [0.2, 0.1]]])
    key = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    allowed = torch.ones(2, 2, dtype=torch.bool).tril()
    first, second = torch.tensor([0.2 * 10 * 0.5, 0.1 * 10 * 0.5]).softmax(0).tolist()
    ranks = [0.5, 0.5]
    for _ in range(5):
        ranks = [ranks[0] + first * ranks[1], second * ranks[1]]
    found = visual_tokens.page_rank(query, key, allowed, scaling=0.5)
    torch.testing.assert_close(found, torch.tensor(ranks))


def test_page_rank_shares_keys_and_averages_heads() -> None:
    draw = torch.Generator().manual_seed(2)
    query, key = torch.randn(4, 7, 8, generator=draw), torch.randn(2, 7, 8, generator=draw)
    allowed = torch.ones(7, 7, dtype=torch.bool)
    heads = torch.stack(
        [
            visual_tokens.page_rank(query[head][None], key[head // 2][None], allowed, scaling=0.3)
            for head in range(4)
        ]
    )
    together = visual_tokens.page_rank(query, key, allowed, scaling=0.3)
    torch.testing.assert_close(together, heads.square().mean(0).sqrt())
    torch.testing.assert_close(heads.sum(1), torch.ones(4))  # rank is moved, not made


@pytest.mark.parametrize(
    ("prune", "layers", "shares"),
    [
        ("25%", 28, [1.0] * 14 + [0.875, 0.75, 0.625, 0.5, 0.375] + [0.25] * 9),
        ("0%,0,4", 6, [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]),
        ("100%", 3, [1.0, 1.0, 1.0]),
    ],
)
def test_schedules(prune: str, layers: int, shares: Sequence[float]) -> None:
    assert aim.schedule(prune, layers) == pytest.approx(shares)


@pytest.mark.parametrize("layers", [1, 2, 5, 8, 24, 28, 36, 80])
def test_the_published_schedule_stretches(layers: int) -> None:
    shares = aim.schedule("aim", layers)
    assert shares[0] == 1
    assert all(later <= earlier for earlier, later in itertools.pairwise(shares))
    if layers >= 4:
        assert shares[-1] == 0
        assert sum(shares) / layers == pytest.approx(17.5 / 28, abs=0.5 / layers + 0.02)


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(UnknownEncoder, match="layers 0 to 7"):
        aim.schedule("25%,2,8", 8)


# --- which models -------------------------------------------------------------------------------


def test_the_other_qwen_prunes_alike() -> None:
    model = tiny_vlms.qwen(family="qwen2_5_vl")
    batch = pictures(RAGGED)
    batch["input_ids"][batch["input_ids"] == 1] = model.config.image_token_id
    expected = masked(model, batch, aim.schedule("25%", LAYERS))
    states, done = reduced(model, batch, prune="25%")
    assert torch.equal(done.is_left, expected.is_left)
    torch.testing.assert_close(
        states[done.is_left], expected.states[done.is_left], rtol=1e-4, atol=1e-4
    )


def test_a_family_with_features_between_layers_is_refused() -> None:
    model = tiny_vlms.qwen(family="qwen3_vl")
    with pytest.raises(EncoderError, match=r"st:x.*qwen2_vl.*this is qwen3_vl"):
        aim.attach(model, merge_share=1.0, prune="25%", encoder="st:x")


def test_a_model_without_a_language_model_is_refused() -> None:
    with pytest.raises(EncoderError, match="no vision-language model"):
        aim.attach(torch.nn.Linear(2, 2), merge_share=0.5, prune=None, encoder="st:x")


def test_another_attention_is_refused() -> None:
    model = tiny_vlms.qwen()
    model.language_model.set_attn_implementation("eager")
    with pytest.raises(EncoderError, match="asks for eager"):
        aim.attach(model, merge_share=1.0, prune="25%", encoder="st:x")
