"""A process that gets too few files, or too little memory, says so in one sentence."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from decoders import support_environment
from PIL import Image


def run(*command: str, **limits: int) -> subprocess.CompletedProcess[str]:
    """Run with limits, by the names of ``resource``."""

    def limit() -> None:
        for name, most in limits.items():
            resource.setrlimit(getattr(resource, name), (most, most))

    return subprocess.run(
        command, preexec_fn=limit, capture_output=True, text=True, check=False,
        env=support_environment() | {"MAXSIGHT_MEMORY": "16GiB", "MAXSIGHT_WORKERS": "16"},
    )  # fmt: skip


@pytest.mark.parametrize("verb", ["list", "search", "index", "verify", "remove", "doctor"])
def test_hardly_any_file_may_be_open(tmp_path: Path, verb: str) -> None:
    arguments = [] if verb == "doctor" else [str(tmp_path / "l.maxsight"), "x"]
    done = run(sys.executable, "-m", "maxsight.cli", verb, *arguments, RLIMIT_NOFILE=24)
    assert done.returncode == 3
    assert "may open 24 files" in done.stderr
    assert "ulimit -n" in done.stderr
    assert "Traceback" not in done.stderr


def test_hardly_any_memory() -> None:
    done = run(sys.executable, "-m", "maxsight.cli", "list", "l.maxsight", RLIMIT_AS=300 << 20)
    assert done.returncode == 3
    assert "ulimit -v" in done.stderr
    assert "Traceback" not in done.stderr


PROGRAM = """
import os, resource, sys
from pathlib import Path
from colour_grid import ColourGridEncoder
from maxsight.errors import BackendError
from maxsight.index.store import Store
from maxsight.pipelines.ingestion.ingest import ingest

encoder = ColourGridEncoder()
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
options = dict(encoder_uri=encoder.uri, fingerprint=encoder.fingerprint, dim=encoder.dim)
with Store.create(Path(sys.argv[1]), **options) as store:
    opened = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 20, most))
    try:
        ingest(store, lambda: encoder, [sys.argv[2]])
    except BackendError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    report = ingest(store, lambda: encoder, [sys.argv[2]])
    print(len(store.known()), report.failed)
"""


def test_files_run_out_in_the_middle_of_a_run(tmp_path: Path) -> None:
    """Sixteen decoders are too many; the library goes on afterwards, and no file is to blame."""
    (tmp_path / "photos").mkdir()
    for number in range(16):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(tmp_path / "photos" / f"{number}.png")
    library, photos = str(tmp_path / "l.maxsight"), str(tmp_path / "photos")
    done = run(sys.executable, "-c", PROGRAM, library, photos)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert "too many open files" in first
    assert "ulimit -n" in first
    assert second == "16 0"
