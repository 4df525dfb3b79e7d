"""One demo, run once as a user would, for all tests of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from shell import Answer, Shell


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shell, Answer]:
    """The demo in an empty folder, and what it printed."""
    shell = Shell(tmp_path_factory.mktemp("demo"))
    return shell, shell("demo")


@pytest.fixture
def shell(demo: tuple[Shell, Answer]) -> Shell:
    """Where ``maxsight-demo/demo.maxsight`` is."""
    return demo[0]


@pytest.fixture
def library(shell: Shell) -> Path:
    return shell.folder / "maxsight-demo" / "demo.maxsight"
