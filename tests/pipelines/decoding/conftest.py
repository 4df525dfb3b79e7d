"""What several tests of decoding share."""

from __future__ import annotations

import pytest
from hostile import photographs
from PIL import Image


@pytest.fixture(scope="session")
def photograph() -> Image.Image:
    return photographs()[0].resize((160, 120))
