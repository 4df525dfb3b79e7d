"""Token merging inside image towers: what it must not change, and what it must."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from torch import Tensor, nn

from maxsight.benchmarks.peers import tome_published
from maxsight.errors import EncoderError, UnknownEncoder
from maxsight.kernels.merge import Keep, Linear, Schedule
from maxsight.models.encoder import load
from maxsight.models.towers import open_clip as open_clip_towers
from maxsight.models.towers import timm as timm_towers
from maxsight.models.towers.merging import run, schedule_of
from maxsight.models.towers.tower import Tower

TRANSFORMERS = [
    "tiny-vit",
    "tiny-siglip",
    "tiny-vit-l-14",
    "tiny-vit-b-32",
    "tiny-coca",
    "tiny-eva",
]
# Trunks of published towers in their own classes, narrow and shallow.
SMALL = {"depth": 3, "embed_dim": 64, "num_heads": 2, "img_size": 64, "num_classes": 24}
TRUNKS: dict[str, dict[str, Any]] = {
    "eva02_base_patch16_clip_224": SMALL | {"global_pool": "token"},
    "eva02_enormous_patch14_clip_224": SMALL | {"global_pool": "token", "img_size": 56},
    "eva_giant_patch14_224": SMALL | {"global_pool": "avg", "img_size": 56},
    "vit_pe_core_base_patch16_224": SMALL | {"global_pool": "map"},
    "vit_base_patch16_siglip_224": SMALL | {"global_pool": "map"},
    "vit_medium_patch16_gap_256": SMALL,
}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def visual(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Any:
    """An image tower of open_clip's, with weights large enough to make attention matter."""
    model = open_clip.create_model(f"local-dir:{folders[request.param]}").eval()
    return livelier(model.visual)


def livelier(network: nn.Module) -> nn.Module:
    """Random weights as they are drawn give states in which attention hardly matters."""
    draw = torch.Generator().manual_seed(5)
    for parameter in network.requires_grad_(False).parameters():
        if parameter.ndim == 2:
            noise = torch.randn(parameter.shape, generator=draw)
            parameter.copy_(noise * parameter.shape[1] ** -0.5)
    return network


def side(visual: Any) -> int:
    size = visual.image_size
    return size if isinstance(size, int) else int(size[0])


def pooled(tower: Tower, pixels: Tensor, schedule: Schedule = 0) -> Tensor:
    with torch.no_grad():
        _, left = run(tower, pixels, schedule)
        return tower.pool(left.tokens, left.sizes)


def assert_alike(found: Tensor, expected: Tensor) -> None:
    scale = expected.abs().max()
    torch.testing.assert_close(found / scale, expected / scale, atol=1e-5, rtol=0)


def only_vectors(result: Any) -> Tensor:
    vectors: Tensor = result[0] if isinstance(result, tuple) else result
    return vectors


@pytest.mark.parametrize("visual", TRANSFORMERS, indirect=True)
def test_a_tower_taken_apart_is_the_tower(visual: Any) -> None:
    pixels = torch.randn(3, 3, side(visual), side(visual))
    tower = open_clip_towers.tower(visual, encoder="x")
    with torch.no_grad():
        assert_alike(pooled(tower, pixels), only_vectors(visual(pixels)))


@pytest.mark.parametrize("name", TRUNKS)
def test_a_trunk_taken_apart_is_the_trunk(name: str) -> None:
    trunk = livelier(timm.create_model(name, **TRUNKS[name]).eval())
    pixels = torch.randn(3, 3, TRUNKS[name]["img_size"], TRUNKS[name]["img_size"])
    tower = timm_towers.tower(trunk, nn.Identity(), encoder="x")
    with torch.no_grad():
        assert_alike(pooled(tower, pixels), trunk(pixels))
    assert pooled(tower, pixels, 2).isfinite().all()


def repeated(pixels: Tensor, times: int) -> Tensor:
    """(B, 3, S, S) of patches of 1: each run of ``times`` patches, row by row, the same."""
    flat = pixels.flatten(2)
    index = torch.arange(flat.shape[2]) // times * times
    return flat[:, :, index].view_as(pixels)


def without_places(visual: Any) -> None:
    """Positions would tell equal patches apart."""
    trunk = getattr(visual, "trunk", visual)
    if hasattr(visual, "positional_embedding"):
        visual.positional_embedding[1:] = visual.positional_embedding[1]
    else:
        trunk.pos_embed[:, trunk.num_prefix_tokens :] = trunk.pos_embed[:, -1:]
        if (rope := getattr(trunk, "rope", None)) is not None:
            half = rope.pos_embed.shape[1] // 2
            rope.pos_embed[:, :half], rope.pos_embed[:, half:] = 0.6, 0.8  # one angle for all


@pytest.mark.parametrize("visual", TRANSFORMERS, indirect=True)
def test_merging_exact_duplicates_changes_nothing(visual: Any) -> None:
    """Proportional attention, the heads by size, and the angles that travel with their tokens."""
    without_places(visual)
    tower = open_clip_towers.tower(visual, encoder="x")
    trunk = getattr(visual, "trunk", visual)
    patch = trunk.patch_embed.patch_size[0] if trunk is not visual else visual.patch_size[0]
    cells = side(visual) // patch
    squares = repeated(torch.randn(2, 3, cells, cells), 4)
    pixels = squares.repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    half = cells * cells // 2
    expected = pooled(tower, pixels)
    for schedule in ((half,), (half // 4,), (half // 2, half // 4)):
        assert_alike(pooled(tower, pixels, schedule), expected)
    with torch.no_grad():
        _, left = run(tower, pixels, (half,))
    assert left.sizes is not None
    assert left.sizes.max() > 1


@pytest.mark.parametrize("schedule", [(3,) * 4, (9, 6, 3, 0), (18, 9, 4, 2)])
@pytest.mark.parametrize("visual", ["tiny-vit-l-14"], indirect=True)
def test_it_is_tome_as_published(visual: Any, schedule: tuple[int, ...]) -> None:
    pixels = torch.randn(8, 3, side(visual), side(visual))
    tower = open_clip_towers.tower(visual, encoder="x")
    with torch.no_grad():
        expected = tome_published.encode(visual, pixels, schedule)
    assert_alike(pooled(tower, pixels, schedule), expected)
    assert not torch.allclose(pooled(tower, pixels), expected, rtol=0.05)


@pytest.mark.parametrize("visual", ["tiny-siglip", "tiny-vit-b-32", "tiny-coca"], indirect=True)
def test_heads_count_a_merged_token_as_often_as_it_stands_for(visual: Any) -> None:
    tower = open_clip_towers.tower(visual, encoder="x")
    with torch.no_grad():
        states = torch.randn(2, tower.prefix + 3, visual_width(visual))
        sizes = torch.tensor([[1.0] * tower.prefix + [1, 4, 2]] * 2)
        places = [*range(tower.prefix), *(tower.prefix + i for i in (0, 1, 1, 1, 1, 2, 2))]
        assert_alike(tower.pool(states, sizes), tower.pool(states[:, places], None))
        assert not torch.allclose(tower.pool(states, sizes), tower.pool(states, None), atol=1e-3)


def visual_width(visual: Any) -> int:
    trunk = getattr(visual, "trunk", None)
    return int(trunk.embed_dim if trunk is not None else visual.transformer.width)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_merging_nothing_is_the_encoder_itself(name: str, folders: dict[str, Path]) -> None:
    uri = f"open_clip:local-dir:{folders[name]}"
    plain, merged = load(uri, device="cpu"), load(f"{uri}?merge=0", device="cpu")
    size = plain.preprocess.size
    pixels = torch.randint(0, 256, (3, size, size, 3), dtype=torch.uint8)
    assert merged.uri == plain.uri
    assert merged.fingerprint == plain.fingerprint
    assert torch.equal(merged.encode_images(pixels).vectors, plain.encode_images(pixels).vectors)
    if plain.token_dim is not None:
        found, expected = (e.encode_images(pixels, tokens=True) for e in (merged, plain))
        assert found.tokens is not None
        assert expected.tokens is not None
        assert torch.equal(found.tokens, expected.tokens)
        assert found.sizes is None


@pytest.mark.parametrize("name", ["tiny-vit-l-14", "tiny-siglip", "tiny-eva"])
def test_tokens_leave_with_their_sizes(name: str, folders: dict[str, Path]) -> None:
    encoder = load(f"open_clip:local-dir:{folders[name]}?merge=7,-1", device="cpu")
    size = encoder.preprocess.size
    pixels = torch.randint(0, 256, (3, size, size, 3), dtype=torch.uint8)
    packed = encoder.encode_images(pixels, tokens=True)
    assert packed.tokens is not None
    assert packed.offsets is not None
    assert packed.sizes is not None
    patches = {"tiny-vit-l-14": 36, "tiny-siglip": 100, "tiny-eva": 256}[name]
    for low, high in zip(packed.offsets[:-1], packed.offsets[1:]):
        assert packed.sizes[low:high].sum() == patches
        assert packed.sizes[low:high].max() > 1
    assert (packed.offsets.diff() < patches).all()
    without = encoder.encode_images(pixels)
    torch.testing.assert_close(packed.vectors, without.vectors)
    assert len(encoder.encode_images([], tokens=True)) == 0


def test_the_fingerprint_tells_options_apart(folders: dict[str, Path]) -> None:
    uri = f"open_clip:local-dir:{folders['tiny-vit']}"
    queries = ["", "?merge=1", "?merge=2", "?merge=2,-1", "?tokens=value", "?tempscale=0.8"]
    encoders = [load(uri + query, device="cpu") for query in queries]
    assert len({encoder.fingerprint for encoder in encoders}) == len(queries)
    last = load(f"{uri}?tokens=last", device="cpu")
    assert last.fingerprint == encoders[0].fingerprint, "it is what one gets without the option"
    pixels = torch.randint(0, 256, (2, 48, 48, 3), dtype=torch.uint8)
    for encoder in encoders:
        again = load(encoder.uri, device="cpu")
        assert again.uri == encoder.uri
        assert again.fingerprint == encoder.fingerprint
        assert torch.equal(
            again.encode_images(pixels).vectors, encoder.encode_images(pixels).vectors
        )


def test_merging_is_refused_where_there_are_no_tokens(folders: dict[str, Path]) -> None:
    with pytest.raises(EncoderError, match="ConvNeXt"):
        load(f"open_clip:local-dir:{folders['tiny-convnext']}?merge=8", device="cpu")
    with pytest.raises(EncoderError, match="leave the option tokens out"):
        load(f"open_clip:local-dir:{folders['tiny-coca']}?tokens=value", device="cpu")
    with pytest.raises(UnknownEncoder, match="3 layers, but the image tower has 2"):
        load(f"open_clip:local-dir:{folders['tiny-vit']}?merge=2+2+2", device="cpu")
    with pytest.raises(EncoderError, match="prune"):
        load(f"open_clip:local-dir:{folders['tiny-vit']}?prune=25%", device="cpu")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("13", 13),
        ("13,-1", Linear(13, -1.0)),
        ("8+8+4", (8, 8, 4)),
        ("8+0", (8, 0)),
        ("12.5%", Keep(0.125)),
    ],
)
def test_a_schedule_reads_as_it_is_written(text: str, expected: Schedule) -> None:
    assert schedule_of(text, layers=12) == expected


@pytest.mark.parametrize(("name", "layers"), [("ViT-B-32", 12), ("ViT-L-14", 24)])
def test_the_published_towers_are_known(name: str, layers: int) -> None:
    """On the meta device, which takes no memory."""
    model = open_clip.create_model(name, load_weights=False, device="meta")
    assert len(open_clip_towers.tower(model.visual, encoder=name).blocks) == layers
