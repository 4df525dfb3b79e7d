"""A library of known contents, to be damaged."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from damaged_library import CONTENTS

from maxsight.index.records import Changes, Failure, FileState
from maxsight.index.store import Store


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory, samples: Any) -> Path:
    """Three steps of two files, one of which is replaced and one removed."""
    library = tmp_path_factory.mktemp("verify") / "library"
    with Store.create(library, encoder_uri="t", fingerprint="f", dim=samples.dim) as store:
        pairs = list(CONTENTS.items())
        for step in range(3):
            chosen = pairs[2 * step : 2 * step + 2]
            store.apply(Changes(added=[samples.item(*pair) for pair in chosen]))
        store.apply(
            Changes(
                added=[samples.item("/gone", "gone")],
                replaced=[(0, samples.item("/a", "a2"))],
                failed=[Failure(FileState("/bad", 1, 1), "bad")],
            )
        )
        store.apply(Changes(removed=[6]))
    return library


@pytest.fixture
def library(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "library"))
