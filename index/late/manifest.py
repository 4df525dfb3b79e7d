"""``late.json``: what an index of tokens is, and how much of its files counts.

Replacing it is what makes an addition happen: files only ever grow, and what lies behind the sizes
that stand here is not read. What it names is there as long as it does: :func:`newest` reads the one
and then the other, beside a writer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from maxsight.errors import LibraryError
from maxsight.index.ann import saved
from maxsight.index.files import sealed_json
from maxsight.index.late.calibration import Calibration
from maxsight.index.late.codec import CODES
from maxsight.index.late.token_files import (
    CODEBOOK,
    IDS,
    LABELS,
    LENGTHS,
    SCALES,
    TOKENS,
    Extent,
    damaged,
    extent_of,
)
from maxsight.index.tables.manifest import MOST_DIMENSIONS

SCHEMA = 1
FILE = "late.json"

_T = TypeVar("_T")


@dataclass(frozen=True)
class LateManifest:
    """What ``late.json`` says.

    Attributes:
        codes: how tokens are stored. dim: d, of the tokens as they were given.
        documents: N.
        encodings: number of the folder of MUVERA encodings, or None.
        calibration: how many candidates a search takes.
        extents: file -> how much of it counts.
        details: what its owner wrote down about it.
    """

    codes: str
    dim: int
    documents: int
    encodings: int | None
    calibration: Calibration
    extents: Mapping[str, Extent]
    details: Mapping[str, Any]

    @property
    def bits(self) -> int:
        """Of a token's number."""
        return CODES[self.codes]

    @property
    def width(self) -> int:
        """Of the tokens as they are stored: d, and zeros up to a multiple of 8."""
        return -(-self.dim // 8) * 8

    def encodings_folder(self, folder: Path) -> Path:
        """Where the MUVERA encodings are."""
        return folder / f"encodings-{self.encodings}"

    @staticmethod
    def read(folder: Path) -> LateManifest:
        """The manifest of the index in ``folder``.

        Raises:
            LibraryError: it is not there, or damaged.
            SchemaTooNew: a newer maxsight wrote it.
        """

        def made(fields: Mapping[str, Any]) -> LateManifest:
            if fields["codes"] not in CODES:
                raise ValueError(f"codes are {fields['codes']!r}")
            return _checked(
                LateManifest(
                    codes=str(fields["codes"]),
                    dim=int(fields["dim"]),
                    documents=int(fields["documents"]),
                    encodings=None if fields["encodings"] is None else int(fields["encodings"]),
                    calibration=Calibration(**fields["calibration"]),
                    extents={name: Extent(**held) for name, held in fields["extents"].items()},
                    details=dict(fields["details"]),
                )
            )

        return sealed_json.read(
            folder / FILE,
            made,
            schema=SCHEMA,
            damaged=lambda error: damaged(folder, f"{FILE}: {error!r}"),
        )

    def write(self, folder: Path) -> None:
        """Replace the file, so that a reader sees the old one or this one.

        Raises:
            OSError: the disk refused; the old one stands.
        """
        sealed_json.write(folder / FILE, {"schema": SCHEMA} | asdict(self))


def _checked(manifest: LateManifest) -> LateManifest:
    """The same, if its numbers can be those of an index.

    Raises:
        ValueError: they cannot.
        KeyError: a file is not named.
    """
    sizes = [manifest.documents, manifest.calibration.proposed, manifest.calibration.queries]
    sizes += [number for held in manifest.extents.values() for number in (held.bytes, held.crc32)]
    sizes += [] if manifest.encodings is None else [manifest.encodings]
    if not all(type(size) is int and 0 <= size < 2**63 for size in sizes):
        raise ValueError(f"it counts {sizes}")
    if not 1 <= manifest.dim <= MOST_DIMENSIONS:
        raise ValueError(f"tokens of {manifest.dim} dimensions")
    shortlist = manifest.calibration.shortlist
    if type(shortlist) is not int or not 1 <= shortlist < 2**63:
        raise ValueError(f"a shortlist of {shortlist!r}")
    needed = [TOKENS, LENGTHS, IDS, CODEBOOK] + ([SCALES] if manifest.bits == 8 else [])
    if unknown := manifest.extents.keys() - {*needed, LABELS}:
        raise ValueError(f"it names {', '.join(sorted(unknown))}")
    for name in needed:
        manifest.extents[name]
    return manifest


def newest(folder: Path, read: Callable[[LateManifest], _T]) -> _T:
    """What ``read`` makes of the newest state of the index in ``folder``.

    A writer takes away what the state before was made of: where ``read`` meets with a LibraryError
    and there is another state by now, that is read.

    Raises:
        LibraryError: the index is damaged.
        SchemaTooNew: a newer maxsight wrote it.
    """
    manifest = LateManifest.read(folder)
    while True:
        try:
            return read(manifest)
        except LibraryError:
            before, manifest = manifest, LateManifest.read(folder)
            if manifest == before:
                raise


def problems(folder: Path, manifest: LateManifest) -> list[str]:
    """What is wrong with the files that a manifest names, all read; nothing if nothing is.

    Raises:
        LibraryError: the encodings have no readable ``index.json``.
    """
    found = []
    for name, expected in manifest.extents.items():
        try:
            actual = extent_of(folder / name, expected.bytes)
        except OSError as error:
            found.append(f"{folder / name} cannot be read: {error.strerror or error}")
            continue
        if actual.bytes < expected.bytes:
            found.append(f"{folder / name} has {actual.bytes} bytes of {expected.bytes}")
        elif actual != expected:
            found.append(f"{folder / name} is not what was written")
    if manifest.encodings is not None:
        found += saved.problems(manifest.encodings_folder(folder))
    return found
