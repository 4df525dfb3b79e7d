"""What an index keeps of an encoding."""

from __future__ import annotations

import json

import pytest

from maxsight.kernels.fde import Config


@pytest.mark.parametrize(
    ("config", "dim"),
    [
        (Config(token_dim=128), 20 * 16 * 16),
        (Config(token_dim=128, projection_dim=None), 20 * 16 * 128),
        (Config(token_dim=128, repetitions=40, k_sim=6, projection_dim=None, final_dim=4096), 4096),
        (Config(token_dim=128, k_sim=0, fill_empty=False), 20 * 16),
    ],
)
def test_dimensions(config: Config, dim: int) -> None:
    assert config.dim == dim
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"token_dim": 0}, "token_dim must be at least 1, got 0"),
        ({"repetitions": 0}, "repetitions must be at least 1"),
        ({"projection_dim": 0}, "projection_dim"),
        ({"final_dim": -1}, "final_dim"),
        ({"k_sim": 31}, "0 to 30, got 31"),
        ({"k_sim": -1}, "0 to 30, got -1"),
        ({"k_sim": 0}, "fill_empty=False"),
        ({"seed": -1}, "seed"),
        ({"seed": 1 << 63}, "seed"),
    ],
)
def test_refusals(values: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**{"token_dim": 8} | values)  # type: ignore[arg-type]


def test_another_scheme_is_refused() -> None:
    values = Config(token_dim=8).to_dict()
    with pytest.raises(ValueError, match=r"scheme 1 .* built with 2"):
        Config.from_dict(values | {"scheme": 2})
    with pytest.raises(ValueError, match="needed"):
        Config.from_dict({"scheme": 1, "token_dim": 8})
