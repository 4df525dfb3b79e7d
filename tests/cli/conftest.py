"""One demo, run once as a user would, for all tests of the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Shell:
    """Runs ``maxsight`` as a process of its own, in a folder and with a cache of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {"MAXSIGHT_CACHE": str(folder / "cache")}

    def __call__(self, *arguments: str | Path, **environment: str) -> Answer:
        done = subprocess.run(
            [sys.executable, "-m", "maxsight.cli", *map(str, arguments)],
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        return Answer(done.returncode, done.stdout, done.stderr)


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
