"""Small models in folders of sentence-transformers, made when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_vlms

MAKERS: dict[str, Callable[[Path], Path]] = {
    "clip": tiny_vlms.clip,
    "qwen2_vl": tiny_vlms.qwen_embedder,
    "qwen2_5_vl": lambda folder: tiny_vlms.qwen_embedder(
        folder, family="qwen2_5_vl", pooling="mean"
    ),
    "colqwen": tiny_vlms.colqwen,
    "colpali": tiny_vlms.colpali,
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in made:
            made[name] = MAKERS[name](tmp_path_factory.mktemp(name))
        return made[name]

    return of
