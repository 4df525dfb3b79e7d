"""What several tests of open_clip's encoders share."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_clips import ARCHITECTURES

from maxsight.models.encoder import load
from maxsight.models.open_clip.encoder import OpenClipEncoder


@pytest.fixture(scope="session")
def encoders(folders: dict[str, Path]) -> dict[str, OpenClipEncoder]:
    loaded = {}
    for name in ARCHITECTURES:
        encoder = load(f"open_clip:local-dir:{folders[name]}", device="cpu")
        assert isinstance(encoder, OpenClipEncoder)
        loaded[name] = encoder
    return loaded
