"""Everyday obstacles end in one sentence and an exit code, never in a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from shell import Shell

RUN = f"{sys.executable} -m maxsight.cli"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A folder with a library of one picture, and a file."""
    folder = tmp_path_factory.mktemp("obstacles")
    (folder / "pictures").mkdir()
    Image.new("RGB", (16, 16), "red").save(folder / "pictures" / "red.png")
    (folder / "afile").write_text("x")
    shell = Shell(folder)
    assert shell("index", "lib.maxsight", "pictures").code == 0
    return shell


def bash(shell: Shell, line: str) -> tuple[int, str]:
    """Exit code and what was said on stderr."""
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        cwd=shell.folder,
        env=shell.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (f"{RUN} demo afile", 2, "the demo cannot be put into afile: Not a directory"),
        (f"{RUN} list lib.maxsight > /dev/full", 3, "output cannot be written: No space left"),
        (f"{RUN} list lib.maxsight --json > /dev/full", 3, "output cannot be written: No space"),
        (f"{RUN} search lib.maxsight red --sheet /dev/full", 2, "/dev/full: No space left"),
        (f"{RUN} encoders --json | true", 141, ""),
        (f"{RUN} encoders --quiet | true", 141, ""),
        (f"{RUN} list lib.maxsight <&- >&- 2>&-", 0, ""),
        (f"{RUN} list nowhere 2> /dev/full", 3, ""),
        (f"mkdir gone && cd gone && rmdir ../gone && {RUN} list lib.maxsight", 2, "folder is gone"),
        (f"TERM=dumb COLUMNS=1 LANG=C {RUN} list lib.maxsight", 0, ""),
        (f"env -u HOME {RUN} search lib.maxsight red", 0, ""),
        (f"{RUN} search ~nosuchuser/lib red", 3, "no library"),
        (f"{RUN} verify ~nosuchuser/lib", 3, "no library"),
        (f"{RUN} search lib.maxsight --image ~nosuchuser/x.jpg", 2, "~nosuchuser/x.jpg"),
    ],
)
def test_obstacles(place: Shell, line: str, code: int, said: str) -> None:
    ended, errors = bash(place, line)
    assert ended == code, errors
    assert said in errors
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
    assert len(errors.splitlines()) == bool(said)


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/usr/bin/setpriv").exists(), reason="root")
@pytest.mark.parametrize("verb", ["verify", "list", "info"])
def test_a_library_without_rights(place: Shell, verb: str) -> None:
    drop = (
        "setpriv --bounding-set=-dac_override,-dac_read_search "
        "--inh-caps=-dac_override,-dac_read_search"
    )
    versions = place.folder / "lib.maxsight" / "units.lance" / "_versions"
    versions.chmod(0)
    try:
        as_user = f"{drop} " if os.geteuid() == 0 else ""
        ended, errors = bash(place, f"{as_user}{RUN} {verb} lib.maxsight")
    finally:
        versions.chmod(0o755)
    assert ended == 3, errors
    assert "Traceback" not in errors
    assert "_versions" in errors or "units.lance" in errors
