"""Merging in the CLIP and SigLIP towers of transformers, with small models of random weights."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from maxsight.errors import EncoderError, UnknownEncoder
from maxsight.models.towers import hf
from maxsight.models.towers.merging import run

transformers = pytest.importorskip("transformers")

VISION = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 64,
    "patch_size": 16,
}
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 10,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@pytest.fixture(params=["CLIP", "Siglip"])
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{request.param}Config")
    made = getattr(transformers, f"{request.param}Model")(
        config(vision_config=VISION, text_config=TEXT)
    )
    for name, parameter in made.eval().requires_grad_(False).named_parameters():
        if parameter.ndim == 2 and "position" not in name:
            parameter.normal_(std=parameter.shape[1] ** -0.5)
    return made


def features(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    found = model.get_image_features(pixel_values=pixels)
    pooled: torch.Tensor = getattr(found, "pooler_output", found)
    return pooled


def test_a_tower_taken_apart_is_the_tower(model: Any) -> None:
    pixels = torch.randn(3, 3, 64, 64)
    tower = hf.tower(model, encoder="x")
    _, left = run(tower, pixels)
    torch.testing.assert_close(tower.pool(left.tokens, None), features(model, pixels))


def test_merging_exact_duplicates_changes_nothing(model: Any) -> None:
    model.vision_model.embeddings.position_embedding.weight.zero_()
    pixels = torch.randn(2, 3, 4, 1).repeat_interleave(4, 3)
    pixels = pixels.repeat_interleave(16, 2).repeat_interleave(16, 3)
    expected = features(model, pixels)
    hf.attach(model, "8+4", encoder="x")
    torch.testing.assert_close(features(model, pixels), expected, atol=1e-5, rtol=1e-4)
    states = model.vision_model(pixel_values=pixels).last_hidden_state
    assert states.shape[1] == 16 - 12 + (type(model).__name__ == "CLIPModel")


def test_it_reaches_one_model_and_no_other(model: Any) -> None:
    untouched, pixels = copy.deepcopy(model), torch.randn(2, 3, 64, 64)
    expected = features(model, pixels)
    hf.attach(model, "4", encoder="x")
    assert not torch.allclose(features(model, pixels), expected, atol=1e-4)
    assert torch.equal(features(untouched, pixels), expected)


def test_what_it_does_not_know_it_refuses(model: Any) -> None:
    with pytest.raises(EncoderError, match="Linear cannot be taken apart"):
        hf.tower(torch.nn.Linear(2, 2), encoder="x")
    with pytest.raises(UnknownEncoder, match="has 3"):
        hf.attach(model, "1+1+1+1", encoder="x")
