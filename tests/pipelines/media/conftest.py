"""A folder of films for the tests of a file."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Path:
    """Four seconds of numbered frames, coded as most films are."""
    from numbered_films import plain_film  # needs PyAV, which may be absent

    return plain_film(folder)
