import sys
from pathlib import Path

import numpy as np
import pytest

from maxsight.benchmarks.peers.tools import TOOLS, Peer, install
from maxsight.errors import BackendError, UsageError

VECTORS = np.eye(4, 512, dtype=np.float32)


def test_a_peer_that_is_not_installed_says_how_to_install_it(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=f"benchmarks.peers {tmp_path}"):
        Peer(TOOLS[0], tmp_path, vectors=VECTORS, queries=VECTORS)


def test_a_peer_that_fails_leaves_its_last_words_and_no_process(tmp_path: Path) -> None:
    # This very interpreter stands in for the peer's environment, in which the peer is missing (and,
    # where it is a link into a virtual environment, what that one holds).
    tool = TOOLS[0]
    python = tmp_path / tool.environment / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    with pytest.raises(BackendError, match=r"rclip stopped: .*No module named"):
        Peer(tool, tmp_path, vectors=VECTORS, queries=VECTORS)


def test_a_name_that_no_peer_has_is_refused_before_anything_is_installed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no peer annoy; there are .*hnswlib"):
        install(tmp_path, ["hnswlib", "annoy"])
    assert not any(tmp_path.iterdir())
