"""The rooms that compute on this machine."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["reference", "cpu"])
def room(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    monkeypatch.setenv("MAXSIGHT_KERNELS", name)
    return name
