"""Other search tools, each in its own environment and its own process.

Their dependencies exclude one another's and ours (numpy 1 here, 2 there), so each lives in a
virtual environment that this makes, never beside maxsight::

    python -m maxsight.benchmarks.peers DIRECTORY [NAME...]

A benchmark given DIRECTORY then talks to whichever of them is there.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import numpy as np

from maxsight.errors import BackendError, UsageError


@dataclass(frozen=True)
class PeerTool:
    """A tool that can be measured.

    Attributes:
        name: of the contender.
        requirements: what pip installs, one after the other; first itself, at the version whose
            code was read.
        script: the worker beside this file that calls the tool's own functions.
        arguments: handed to the worker after the folder.
        dims: the widths it accepts; None means any.
        is_exact: whether it finds the true best, so that parity can be asserted.
        most: vectors beyond which it is not asked, because its set-up takes too long.
    """

    name: str
    requirements: tuple[str, ...]
    script: str
    arguments: tuple[str, ...] = ()
    dims: tuple[int, ...] | None = None
    is_exact: bool = True
    most: int = 1_000_000

    @property
    def environment(self) -> str:
        """The folder of its virtual environment."""
        return self.requirements[0].partition("==")[0]


# clip-anytorch imports a part of setuptools that version 70 dropped; torch asks for a newer one
# but runs without, so pip is to put it in afterwards, against its own advice.
_CLIP_RETRIEVAL = ("clip-retrieval==2.45.0", "setuptools<70")

TOOLS = (
    PeerTool("rclip", ("rclip==3.3.0",), "rclip_worker.py", dims=(512,)),
    PeerTool(
        "clip-retrieval, flat index",
        _CLIP_RETRIEVAL,
        "clip_retrieval_worker.py",
        ("flat",),
    ),
    PeerTool(
        "clip-retrieval, its own index",
        _CLIP_RETRIEVAL,
        "clip_retrieval_worker.py",
        ("autofaiss",),
        is_exact=False,
        most=100_000,
    ),
)

# Approximate indexes; the options are each library's own. Graphs are as dense as one another: up to
# 64 links a row at the bottom, chosen from 200 candidates.
INDEX_TOOLS = (
    PeerTool(
        "hnswlib",
        ("hnswlib==0.8.0",),
        "ann_worker.py",
        ("hnswlib", "M=32", "ef_construction=200"),
        is_exact=False,
    ),
    PeerTool(
        "usearch, bfloat16",
        ("usearch==2.26.6",),
        "ann_worker.py",
        ("usearch", "connectivity=32", "expansion_add=200"),
        is_exact=False,
    ),
    PeerTool(
        "SVS Vamana, float16",
        ("scalable-vs==0.5.0",),
        "ann_worker.py",
        ("scalable-vs", "graph_max_degree=64", "window_size=200"),
        is_exact=False,
    ),
    PeerTool("ScaNN", ("scann-core==0.2.1",), "ann_worker.py", ("scann-core",), is_exact=False),
    PeerTool(
        "ScaNN", ("scann-core==0.2.1",), "ann_worker.py", ("scann-core", "block=3"), is_exact=False
    ),
)

# Engines of late interaction, which are given tokens; their workers take more arguments, which
# the benchmark adds.
TOKEN_TOOLS = (PeerTool("fast-plaid", ("fast-plaid==1.7.0.2110",), "fast_plaid_worker.py"),)


@dataclass(frozen=True)
class Answer:
    """One search by a peer: its own seconds, and what it found."""

    seconds: float
    ids: list[int]
    scores: list[float]


@dataclass(frozen=True)
class _Ready:
    version: str
    setup: float
    bytes: int = 0


_Message = TypeVar("_Message", Answer, _Ready)


class Peer:
    """A tool at work in its own process, holding some vectors.

    Args:
        tool: which.
        environments: the directory that ``python -m maxsight.benchmarks.peers`` filled.
        vectors: (N, D) floats, of the width that its worker expects.
        queries: (Q, D) float32; asked for by number.

    Attributes:
        version: of the tool.
        setup: seconds that its set-up took.
        bytes: of its index, where the worker says so; otherwise 0.

    Raises:
        BackendError: it is not installed there, or its set-up failed; with its last words.
    """

    def __init__(
        self, tool: PeerTool, environments: Path, *, vectors: np.ndarray, queries: np.ndarray
    ) -> None:
        python = environments / tool.environment / "bin" / "python"
        if not python.exists():
            raise BackendError(
                f"{tool.name} is not installed in {environments}; install it with: "
                f"python -m maxsight.benchmarks.peers {environments}"
            )
        self.tool = tool
        self._folder = tempfile.TemporaryDirectory(prefix="maxsight-peer-")
        folder = Path(self._folder.name)
        np.save(folder / "vectors.npy", vectors)
        np.save(folder / "queries.npy", queries)
        self._log = (folder / "log").open("w+")
        self._process = subprocess.Popen(
            [python, Path(__file__).with_name(tool.script), folder, *tool.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=folder,
        )
        try:
            ready = self._receive(_Ready)
        except BackendError:
            self.close()
            raise
        self.version = ready.version
        self.setup = ready.setup
        self.bytes = ready.bytes

    def search(self, query: int, k: int) -> Answer:
        """Answer query number ``query`` with ``k`` hits."""
        return self.ask(query, k)

    def ask(self, *request: int) -> Answer:
        """Answer a request of a worker that takes other numbers."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._receive(Answer)

    def close(self) -> None:
        """End the process and remove its files."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _receive(self, kind: type[_Message]) -> _Message:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            last = self._log.read().strip().splitlines()[-3:]
            raise BackendError(f"{self.tool.name} stopped: {' / '.join(last) or 'no message'}")
        return kind(**json.loads(line))


def install(directory: Path, names: Sequence[str] = ()) -> list[str]:
    """Make one virtual environment a tool below ``directory``; what is there is kept.

    Args:
        names: of environments; none means all.

    Returns:
        The names of those that could not be installed; pip has said why.

    Raises:
        UsageError: a name that no tool has.
    """
    tools = {tool.environment: tool.requirements for tool in (*TOOLS, *INDEX_TOOLS, *TOKEN_TOOLS)}
    unknown = set(names) - set(tools)
    if unknown:
        raise UsageError(f"no peer {', '.join(sorted(unknown))}; there are {', '.join(tools)}")
    failed = []
    for name in names or tools:
        environment = directory / name
        commands = [[str(environment / "bin" / "pip"), "install", each] for each in tools[name]]
        if not (environment / "bin" / "python").exists():
            commands.insert(0, [sys.executable, "-m", "venv", str(environment)])
        if any(subprocess.run(command).returncode for command in commands):
            failed.append(name)
    return failed
