"""What several tests of encoders share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from tiny_clips import save_model
from traps import Trap


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Networks this small lose more to waking threads than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Zoo(dict[str, Path]):
    """Folders of small open_clip models by name, each saved when it is first asked for."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root

    def __missing__(self, name: str) -> Path:
        self[name] = save_model(name, self._root / name)
        return self[name]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return Zoo(tmp_path_factory.mktemp("zoo"))


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trap:
    """The code lies where Python would find it by its name, too."""
    trap = Trap(tmp_path)
    home = tmp_path / "importable"
    home.mkdir()
    (home / "evil.py").write_text(trap.source)
    monkeypatch.syspath_prepend(home)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    return trap
