"""``partial/``: what was encoded of films that are not done, so that a killed run need not do it
again.

A file for each film, appended to and forced to the disk every few seconds, and deleted when the
film is stored. All of it is derived: deleted or damaged, it costs encoding the film from its start.

Each entry is::

    BYTES OF HEADER (u32) BYTES OF BODY (u32) CRC-32 OF BOTH (u32) HEADER (JSON) BODY

The first says whose it is and has no body; the others hold some units each. What follows the last
whole entry was being written when the writer died.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import struct
import zlib
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from maxsight import plain_files, strict_json
from maxsight.index.files.durable import force
from maxsight.index.records import TokenTable
from maxsight.index.tables import table_rows

FOLDER = "partial"

_FORMAT = 1
_LENGTHS = struct.Struct("<III")
# Of all films together, in bytes; above it no more is kept.
_MOST_KEPT = 1 << 30
_MOST_UNITS = 1 << 20

_log = logging.getLogger("maxsight.index")


@dataclass(frozen=True)
class PartialFilm:
    """Whose units they are: they serve this content alone, read and encoded in the same way.

    Attributes:
        content_hash: of the film's file.
        settings: how it is read, as in ``EncodedItem``.
        fingerprint: of the encoder.
        dim, token_dim: widths of vectors and tokens.
        path, bytes: where the film was seen, and its size.
    """

    content_hash: str
    settings: str
    fingerprint: str
    dim: int
    token_dim: int | None
    path: str
    bytes: int


@dataclass(frozen=True, eq=False)
class Stretch:
    """Some successive units of a film.

    Attributes:
        spans: (n, 2) float64 [start, end) in seconds.
        vectors: (n, D) float32, rows L2-normalised.
        tokens: of the same units, in a library that stores them.
        mark: where to go on after them, in the decoder's words.
    """

    spans: np.ndarray
    vectors: np.ndarray
    tokens: TokenTable | None
    mark: str


class Damaged(Exception):
    """A file in ``partial/`` is not what was written."""


class Keeper:
    """The writer's side.

    Args:
        library: its folder.
    """

    def __init__(self, library: Path) -> None:
        self._library = library
        self._ends: dict[Path, int] = {}  # whole bytes of the files appended to

    def append(self, film: PartialFilm, stretch: Stretch) -> None:
        """Keep some more units of a film.

        A disk or a bound that refuses costs a warning: nothing that is stored depends on it.
        """
        library, file = self._library, _path(self._library, film)
        entry = _stretch_entry(stretch)
        try:
            plain_files.require_folder(library / FOLDER)
            (library / FOLDER).mkdir(exist_ok=True)
            if sum(path.lstat().st_size for path in _files(library)) + len(entry) > _MOST_KEPT:
                raise OSError(f"more than {_MOST_KEPT >> 30} GiB of films that are not done")
            descriptor = plain_files.open_to_write(file, os.O_RDWR | os.O_CREAT)
            with open(descriptor, "r+b") as stream:
                end = self._ends.get(file)
                if end is None:
                    end = _whole_bytes(stream, film)
                if end == 0:
                    entry = _entry(asdict(film)) + entry
                stream.truncate(end)
                stream.seek(end)
                stream.write(entry)
                stream.flush()
                os.fsync(descriptor)
            if end == 0:
                force(library / FOLDER)
            self._ends[file] = end + len(entry)
        except OSError as error:
            _log.warning("the progress of %s is not kept: %s", film.path, error.strerror or error)

    def remove(self, film: PartialFilm) -> None:
        """It is stored, beyond storing, or to be read from its start."""
        file = _path(self._library, film)
        self._ends.pop(file, None)
        delete(file)


def load(library: Path, film: PartialFilm) -> list[Stretch]:
    """All that is kept of a film, in order; empty if that is nothing, or damaged.

    A killed writer's last entry is left out.
    """
    try:
        with plain_files.open_to_read(_path(library, film)) as stream:
            entries = _entries(stream)
            if _owner(next(entries, None)) != _key(film):
                return []
            return [_stretch(header, body, film) for header, body in entries]
    except (OSError, Damaged):
        return []


def found(library: Path) -> list[PartialFilm]:
    """The films of which something is kept."""
    films = []
    for file in _files(library):
        try:
            with plain_files.open_to_read(file) as stream:
                film = _film(next(_entries(stream), None))
        except (OSError, Damaged):
            continue
        if file == _path(library, film):
            films.append(film)
    return films


def clear(library: Path, stored: Collection[tuple[str, str | None]]) -> None:
    """Delete what no run will take up. For the writer alone.

    Args:
        stored: content hash and settings of the live items.
    """
    for file in _files(library):
        try:
            with plain_files.open_to_read(file) as stream:
                film = _film(next(_entries(stream), None))
        except (OSError, Damaged):
            delete(file)
            continue
        if (film.content_hash, film.settings) in stored or not _stands(film):
            delete(file)


def problems(library: Path) -> Iterator[tuple[Path, str]]:
    """Files that are not what was written, and what is wrong."""
    for file in _files(library):
        try:
            with plain_files.open_to_read(file) as stream:
                entries = _entries(stream)
                film = _film(next(entries, None))
                for header, body in entries:
                    _stretch(header, body, film)
        except FileNotFoundError:  # a writer is done with it
            continue
        except (OSError, Damaged) as error:
            yield file, f"is damaged ({error}); the film is read from its start without it"


def _files(library: Path) -> list[Path]:
    folder = library / FOLDER
    try:
        plain_files.require_folder(folder)
        return [folder / name for name in sorted(os.listdir(folder))]
    except OSError:
        return []


def _path(library: Path, film: PartialFilm) -> Path:
    return library / FOLDER / hashlib.blake2b(_key(film).encode(), digest_size=16).hexdigest()


def _key(film: PartialFilm) -> str:
    """What units must have in common."""
    same = (film.content_hash, film.settings, film.fingerprint, film.dim, film.token_dim)
    return json.dumps([_FORMAT, *same])


def _owner(entry: tuple[dict[str, Any], bytes] | None) -> str:
    return _key(_film(entry))


def _film(entry: tuple[dict[str, Any], bytes] | None) -> PartialFilm:
    try:
        header, _ = entry or ({}, b"")
        film = PartialFilm(**header)
        texts = (film.content_hash, film.settings, film.fingerprint, film.path)
        numbers = [film.dim, film.bytes] + ([] if film.token_dim is None else [film.token_dim])
        if not all(isinstance(text, str) for text in texts) or not all(
            isinstance(number, int) and number >= 0 for number in numbers
        ):
            raise Damaged("its beginning makes no sense")
        return film
    except TypeError:
        raise Damaged("its beginning makes no sense") from None


def _stands(film: PartialFilm) -> bool:
    try:
        return os.stat(film.path).st_size == film.bytes
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:  # out of reach, but perhaps not gone
        return True


def delete(file: Path) -> None:
    """Delete a file of the folder. For the writer alone."""
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("%s is not needed and cannot be deleted: %s", file, error.strerror)


def _whole_bytes(stream: BinaryIO, film: PartialFilm) -> int:
    """Where to append; 0 for a file that is new, damaged or another's."""
    try:
        entries = _entries(stream)
        if _owner(next(entries, None)) != _key(film):
            return 0
        end = stream.tell()
        for _ in entries:
            end = stream.tell()
        return end
    except Damaged:
        return 0


def _entries(stream: BinaryIO) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Headers and bodies up to the last whole entry.

    Raises:
        Damaged: an entry that is all there is not what was written.
    """
    size = os.fstat(stream.fileno()).st_size
    while len(prefix := stream.read(_LENGTHS.size)) == _LENGTHS.size:
        header_bytes, body_bytes, check = _LENGTHS.unpack(prefix)
        if stream.tell() + header_bytes + body_bytes > size:
            return
        text, body = stream.read(header_bytes), stream.read(body_bytes)
        if zlib.crc32(body, zlib.crc32(text)) != check:
            raise Damaged("a checksum does not fit")
        try:
            header = strict_json.parse(text)
        except ValueError as error:
            raise Damaged(str(error)) from None
        if not isinstance(header, dict):
            raise Damaged("a record makes no sense")
        yield header, body


def _entry(header: dict[str, Any], body: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return _LENGTHS.pack(len(text), len(body), zlib.crc32(body, zlib.crc32(text))) + text + body


def _stretch_entry(stretch: Stretch) -> bytes:
    parts = [stretch.spans.astype("<f8"), stretch.vectors.astype("<f4")]
    tokens = 0
    if stretch.tokens is not None:
        table = stretch.tokens
        tokens = len(table.tokens)
        parts += [
            table.offsets.astype("<i8"),
            table.tokens.astype("<i1"),
            table.scales.astype("<f4"),
            table.sizes.astype("<f4"),
        ]
    header = {"units": len(stretch.spans), "tokens": tokens, "mark": stretch.mark}
    return _entry(header, b"".join(part.tobytes() for part in parts))


def _stretch(header: dict[str, Any], body: bytes, film: PartialFilm) -> Stretch:
    units, count, mark = (header.get(name) for name in ("units", "tokens", "mark"))
    if not isinstance(units, int) or not isinstance(count, int) or not isinstance(mark, str):
        raise Damaged("a record makes no sense")
    if not 0 < units <= _MOST_UNITS or not 0 <= count <= len(body):
        raise Damaged("a record has not the size it says")
    width = film.token_dim
    shapes: list[tuple[str, tuple[int, ...]]] = [("<f8", (units, 2)), ("<f4", (units, film.dim))]
    if width is not None:
        shapes += [
            ("<i8", (units + 1,)),
            ("<i1", (count, width)),
            ("<f4", (count,)),
            ("<f4", (count,)),
        ]
    sizes = [np.dtype(kind).itemsize * math.prod(shape) for kind, shape in shapes]
    if sum(sizes) != len(body):
        raise Damaged("a record has not the size it says")
    starts = np.cumsum([0, *sizes])
    spans, vectors, *rest = (
        np.frombuffer(body[start : start + size], kind).reshape(shape)
        for (kind, shape), start, size in zip(shapes, starts, sizes)
    )
    norms = np.linalg.norm(vectors, axis=1)
    if not table_rows.is_one(norms).all() or not (spans[:, 0] < spans[:, 1]).all():
        raise Damaged("its units make no sense")
    table = None
    if width is not None:
        offsets, tokens, scales, token_sizes = rest
        if offsets[0] != 0 or offsets[-1] != count or (np.diff(offsets) < 0).any():
            raise Damaged("its tokens make no sense")
        table = TokenTable(tokens=tokens, scales=scales, sizes=token_sizes, offsets=offsets)
    return Stretch(spans, vectors, table, mark)
