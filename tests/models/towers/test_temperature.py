"""TempScale: a temperature in a text tower's attention."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch
from tiny_clips import save_model
from torch import nn

from maxsight.models.encoder import load
from maxsight.models.towers.temperature import sharpen


@pytest.mark.parametrize("temperature", [0.5, 0.9, 2.0])
def test_it_divides_the_logits(temperature: float) -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(16, 2, batch_first=True).requires_grad_(False)
    attention.in_proj_bias.normal_()
    states = torch.randn(3, 7, 16)
    packed = states @ attention.in_proj_weight.T + attention.in_proj_bias
    query, key, value = packed.view(3, 7, 3, 2, 8).permute(2, 0, 3, 1, 4)
    weights = (query @ key.transpose(-1, -2) / (temperature * 8**0.5)).softmax(-1)
    expected = attention.out_proj((weights @ value).transpose(1, 2).flatten(2))
    sharpen([attention], temperature)
    torch.testing.assert_close(attention(states, states, states)[0], expected)


def test_one_is_the_encoder_itself_and_less_moves_texts(tmp_path: Path) -> None:
    uri = f"open_clip:local-dir:{save_model('tiny-siglip', tmp_path / 'm')}"
    plain, one, low = (
        load(uri + query, device="cpu") for query in ("", "?tempscale=1", "?tempscale=0.5")
    )
    texts = ["a red bus", "one " * 30]
    expected = plain.encode_text(texts, tokens=True)
    same, other = one.encode_text(texts, tokens=True), low.encode_text(texts, tokens=True)
    assert torch.equal(same.vectors, expected.vectors)
    assert one.fingerprint == plain.fingerprint != low.fingerprint
    assert not torch.allclose(other.vectors, expected.vectors, atol=1e-5)
    pixels = torch.randint(0, 256, (1, 160, 160, 3), dtype=torch.uint8)
    assert torch.equal(low.encode_images(pixels).vectors, plain.encode_images(pixels).vectors)
    assert open_clip.create_model(uri.removeprefix("open_clip:")) is not None
