"""Patch tokens from the last block's values, against the block's own modules taken one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear, normalize

from maxsight.models.encoder import load
from maxsight.models.pixels.preprocess import normalize as normalize_pixels
from maxsight.models.towers import open_clip as open_clip_towers
from maxsight.models.towers.dense import dense
from maxsight.models.towers.merging import run

pytestmark = pytest.mark.usefixtures("one_thread")


def into_last_block(network: Any, blocks: Any, images: Tensor) -> Tensor:
    """The states that enter the last block of the library's own run."""
    seen: list[Tensor] = []
    handle = blocks[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network.encode_image(images)
    handle.remove()
    return seen[0]


def by_hand(packed: Tensor, heads: int, *, gather: bool) -> Tensor:
    """(L, 3C) query, key and value to (L, C): values, or values gathered by like queries."""
    length, width = packed.shape
    query, _, value = packed.view(length, 3, heads, width // 3 // heads).unbind(1)
    if gather:
        weights = torch.einsum("ihd,jhd->hij", query, query) * query.shape[-1] ** -0.5
        value = torch.einsum("hij,jhd->ihd", weights.softmax(-1), value)
    flat: Tensor = value.flatten(1)
    return flat


@pytest.mark.parametrize("source", ["value", "self"])
def test_value_tokens_of_a_clip(source: str, folders: dict[str, Path]) -> None:
    uri = f"open_clip:local-dir:{folders['tiny-vit']}"
    encoder = load(f"{uri}?tokens={source}", device="cpu")
    pixels = torch.randint(0, 256, (2, 48, 48, 3), dtype=torch.uint8)
    network = open_clip.create_model(uri.removeprefix("open_clip:")).eval()
    visual, images = network.visual, normalize_pixels(pixels, encoder.preprocess)
    states = into_last_block(network, visual.transformer.resblocks, images)[1]
    block = visual.transformer.resblocks[-1]
    with torch.no_grad():
        packed = linear(block.ln_1(states), block.attn.in_proj_weight, block.attn.in_proj_bias)
        values = by_hand(packed, block.attn.num_heads, gather=source == "self")
        expected = visual.ln_post(block.attn.out_proj(values)) @ visual.proj
    found = encoder.encode_images(pixels, tokens=True)
    assert found.tokens is not None
    torch.testing.assert_close(found.tokens[9:], normalize(expected[1:], dim=1), atol=1e-5, rtol=0)
    plain = load(uri, device="cpu").encode_images(pixels, tokens=True)
    assert plain.tokens is not None
    torch.testing.assert_close(found.vectors, plain.vectors, atol=1e-6, rtol=0)
    assert (found.tokens * plain.tokens).sum(1).max() < 0.99


@pytest.mark.parametrize("source", ["value", "self"])
def test_value_tokens_of_a_siglip(source: str, folders: dict[str, Path]) -> None:
    uri = f"open_clip:local-dir:{folders['tiny-siglip']}"
    encoder = load(f"{uri}?tokens={source}", device="cpu")
    pixels = torch.randint(0, 256, (1, 160, 160, 3), dtype=torch.uint8)
    network = open_clip.create_model(uri.removeprefix("open_clip:")).eval()
    trunk, images = network.visual.trunk, normalize_pixels(pixels, encoder.preprocess)
    states = into_last_block(network, trunk.blocks, images)[0]
    block = trunk.blocks[-1]
    with torch.no_grad():
        packed = block.attn.qkv(block.norm1(states))
        values = by_hand(packed, block.attn.num_heads, gather=source == "self")
        added = trunk.norm(block.ls1(block.attn.proj(values)))
        expected = torch.cat([trunk.forward_head(added[None, i : i + 1]) for i in (3, 77)])
    found = encoder.encode_images(pixels, tokens=True).tokens
    assert found is not None
    torch.testing.assert_close(
        found[[2, 76]],  # behind the class token
        normalize(expected, dim=1),
        atol=1e-5,
        rtol=0,
    )


@pytest.mark.parametrize("source", ["last", "value", "self"])
@pytest.mark.parametrize("name", ["tiny-vit", "tiny-siglip"])
def test_equal_patches_merged_give_the_same_tokens(
    name: str, source: str, folders: dict[str, Path]
) -> None:
    """Sizes reach the attention among like queries too."""
    network = open_clip.create_model(f"local-dir:{folders[name]}").eval().requires_grad_(False)
    visual = network.visual
    position = getattr(visual, "positional_embedding", None)
    (position[1:] if position is not None else visual.trunk.pos_embed[0]).zero_()
    tower = open_clip_towers.tower(visual, encoder="x")
    side = {"tiny-vit": 48, "tiny-siglip": 160}[name]
    colours = torch.randn(1, 3, (side // 16) ** 2)
    colours[:, :, 1::2] = colours[:, :, 0:-1:2]
    pixels = colours.view(1, 3, side // 16, side // 16)
    pixels = pixels.repeat_interleave(16, 2).repeat_interleave(16, 3)
    merged_away = colours.shape[2] // 2
    with torch.no_grad():
        whole, none = dense(tower, *run(tower, pixels), source)
        fewer, sizes = dense(tower, *run(tower, pixels, (merged_away,)), source)
    assert none is None
    assert sizes is not None
    assert sizes.sum() == whole.shape[1]
    assert fewer.shape[1] == whole.shape[1] - merged_away
    unlike = (fewer[0][:, None] - whole[0]).norm(dim=2).min(dim=1).values
    assert unlike.max() < 1e-4 * whole.abs().max()
