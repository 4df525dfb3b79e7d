"""Every instruction set that this machine can run."""

from __future__ import annotations

import pytest

from maxsight.kernels import native
from maxsight.kernels.native import binding


def engines() -> dict[str, int]:
    if native.available() is None:
        return {}
    library = binding.library()
    found: dict[str, int] = {}
    place = 0
    while engine := library.maxsight_engine(place):
        found[library.maxsight_name(engine).decode()] = engine
        place += 1
    return found


@pytest.fixture(params=["avx512_bf16", "avx512_vnni", "avx2", "portable"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Computes on one instruction set, not on the best."""
    found = engines()
    name: str = request.param
    if name not in found:
        pytest.skip(f"this machine cannot run {name}")
    monkeypatch.setattr(binding, "engine", lambda: found[name])
    return name
