"""The files of a token store: written once or appended to, and mapped into memory for reading.

    tokens.bin    a row a token: int8 numbers, or codes
    scales.bin    float32 a token, of int8 numbers alone
    ids.bin       the number of each token's centroid: uint8, or uint16 above 256 centroids
    lengths.bin   uint32 a document: its tokens
    labels.bin    int64 a document: its owner's number for it, if it has one
    codebook.npz  centroids and levels, which never change

What lies behind the sizes that ``late.json`` gives is of a writer that died, and is not read.
"""

from __future__ import annotations

import mmap
import os
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from maxsight import plain_files, settings
from maxsight.errors import LibraryError
from maxsight.index.array_types import Floats, Rows
from maxsight.index.files.arrays import read_arrays
from maxsight.index.late.codec import MOST_CENTROIDS, Codebook
from maxsight.index.records import TokenTable
from maxsight.kernels.maxsim import CodedTokens

TOKENS, SCALES, IDS = "tokens.bin", "scales.bin", "ids.bin"
LENGTHS, LABELS = "lengths.bin", "labels.bin"
CODEBOOK = "codebook.npz"
_ITEM_BYTES = {LENGTHS: 4, LABELS: 8, SCALES: 4}
# Tokens turned into float32 at a time.
_WRITTEN_TOKENS = 16_384
# The share of the memory allowed that pages of a larger file may take before they are given back.
_RESIDENT_SHARE = 0.25
# What Linux maps around a page that is asked for.
_FAULT_BYTES = 65_536
_READ = 1 << 20


@dataclass(frozen=True)
class Extent:
    """How much of a file counts, and the CRC-32 of that."""

    bytes: int
    crc32: int


class TokenWriter:
    """Appends documents to the files of a folder. Nothing counts before :meth:`finish` says so.

    Args:
        folder: with what ``extents`` describes in it.
        book: by which tokens are coded; None: int8 numbers, without ids.
        extents: of the files as they stand.
        labelled: whether documents have numbers of their owner's.
    """

    def __init__(
        self,
        folder: Path,
        book: Codebook | None,
        extents: Mapping[str, Extent],
        *,
        labelled: bool = False,
    ) -> None:
        self.book = book
        names = [TOKENS, LENGTHS]
        names += [LABELS] if labelled else []
        names += [SCALES] if book is None or book.bits == 8 else []
        names += [] if book is None else [IDS]
        self.documents = self.tokens = 0
        self._extents = {name: extents.get(name, Extent(0, 0)) for name in names}
        self._streams: dict[str, BinaryIO] = {}
        try:
            for name in names:
                descriptor = plain_files.open_to_write(folder / name, os.O_RDWR | os.O_CREAT)
                self._streams[name] = os.fdopen(descriptor, "r+b")
        except OSError:
            self.close()
            raise
        for name, stream in self._streams.items():
            stream.truncate(self._extents[name].bytes)
            stream.seek(0, os.SEEK_END)

    def add(self, table: TokenTable) -> None:
        """Append the documents of a table."""
        lengths = np.diff(table.offsets).astype("<u4")
        self._write(LENGTHS, lengths)
        self.documents += len(lengths)
        self.tokens += len(table.tokens)
        for start in range(0, len(table.tokens), _WRITTEN_TOKENS):
            part = slice(start, start + _WRITTEN_TOKENS)
            self._write_tokens(table.tokens[part], table.scales[part])

    def label(self, labels: Rows) -> None:
        """Append the numbers of the documents that were added."""
        self._write(LABELS, labels.astype("<i8"))

    def finish(self) -> dict[str, Extent]:
        """Force everything to the disk; what the files hold now."""
        for stream in self._streams.values():
            stream.flush()
            os.fsync(stream.fileno())
            stream.close()
        return dict(self._extents)

    def close(self) -> None:
        """Leave off; nothing that was added counts."""
        for stream in self._streams.values():
            stream.close()

    def _write_tokens(self, tokens: npt.NDArray[np.int8], scales: Floats) -> None:
        if self.book is None or self.book.bits == 8:
            self._write(TOKENS, tokens)
            self._write(SCALES, scales.astype("<f4"))
        if self.book is None:
            return
        vectors = widened(tokens, scales)
        if self.book.bits == 8:
            self._write(IDS, self.book.nearest(vectors))
            return
        ids, codes = self.book.encode(units(vectors))
        self._write(IDS, ids)
        self._write(TOKENS, codes)

    def _write(self, name: str, array: npt.NDArray[Any]) -> None:
        content = np.ascontiguousarray(array).tobytes()
        self._streams[name].write(content)
        before = self._extents[name]
        self._extents[name] = Extent(before.bytes + len(content), zlib.crc32(content, before.crc32))


class MappedTokens:
    """The token store of a folder, read where it lies.

    Args:
        extents: of its files.
        bits: of a token's numbers.
        dim: d.

    Attributes:
        book: by which tokens are coded.
        coded: the tokens.
        labels: (N,) int64, the owner's numbers of the documents; None if they have none.

    Raises:
        LibraryError: a file is missing, too short, or, of those that are read whole, damaged.
    """

    def __init__(self, folder: Path, extents: Mapping[str, Extent], *, bits: int, dim: int) -> None:
        self._resident = int(_RESIDENT_SHARE * settings.memory())
        self._tokens = _Map(folder / TOKENS, extents[TOKENS].bytes)
        self._others = {
            name: _Map(folder / name, extent.bytes)
            for name, extent in extents.items()
            if name not in (TOKENS, CODEBOOK)
        }
        for name, item in _ITEM_BYTES.items():
            if name in extents and extents[name].bytes % item:
                raise damaged(folder, f"{name} has {extents[name].bytes:,} bytes, {item} a number")
        # They are read whole anyway, and the compiled code trusts them. A token that is damaged
        # changes what its own document scores, and nothing else.
        for name in (LENGTHS, LABELS, IDS):
            if name in extents and self._others[name].checksum() != extents[name].crc32:
                raise damaged(folder, f"{name} is not what was written")
        lengths = self._others[LENGTHS].array("<u4")
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
        self.labels = self._others[LABELS].array("<i8") if LABELS in extents else None
        if self.labels is not None and len(self.labels) != len(lengths):
            raise damaged(folder, f"{len(lengths):,} documents have {len(self.labels):,} labels")
        book = read_codebook(folder, extents[CODEBOOK], bits=bits, dim=dim)
        if extents[IDS].bytes % book.id_type.itemsize:
            raise damaged(folder, f"{IDS} ends within a number")
        ids = self._others[IDS].array(book.id_type)
        data = self._tokens.array(np.uint8)
        scales = self._others[SCALES].array("<f4") if bits == 8 else None
        total = int(offsets[-1])
        if len(ids) != total or 8 * len(data) != total * dim * bits:
            raise damaged(folder, f"{total:,} tokens are counted, {len(ids):,} have a centroid")
        if scales is not None and len(scales) != total:
            raise damaged(folder, f"{total:,} tokens have {len(scales):,} scales")
        self.book = book
        try:
            self.coded = CodedTokens(
                ids=ids,
                centroids=book.centroids,
                data=data.reshape(total, dim * bits // 8),
                bits=bits,
                levels=book.levels if bits < 8 else None,
                scale=scales,
                offsets=offsets,
            )
        except ValueError as error:
            raise damaged(folder, str(error)) from None
        self._others[IDS].release()

    def used(self, tokens: int, documents: int) -> None:
        """So many were read, here and there: past a share of memory their pages are given back."""
        row = self.coded.data.shape[1]
        if self.coded.data.size > self._resident:
            self._tokens.used(tokens * row + documents * _FAULT_BYTES, self._resident)


class _Map:
    """A file, or the first bytes of it, mapped for reading anywhere."""

    def __init__(self, path: Path, size: int) -> None:
        self._lock = threading.Lock()
        self._touched = 0
        try:
            with plain_files.open_to_read(path) as stream:
                there = os.fstat(stream.fileno()).st_size
                if there < size:
                    raise damaged(path.parent, f"{path.name} has {there:,} bytes of {size:,}")
                self._map = mmap.mmap(stream.fileno(), size, prot=mmap.PROT_READ) if size else None
        except OSError as error:
            raise damaged(path.parent, f"{path.name}: {error.strerror or error}") from None
        if self._map is not None and path.name == TOKENS:
            self._map.madvise(mmap.MADV_RANDOM)

    def checksum(self) -> int:
        """The CRC-32 of the bytes."""
        return 0 if self._map is None else zlib.crc32(self._map)

    def array(self, kind: npt.DTypeLike) -> npt.NDArray[Any]:
        return np.empty(0, kind) if self._map is None else np.frombuffer(self._map, kind)

    def used(self, count: int, most: int) -> None:
        with self._lock:
            self._touched += count
            if self._touched > most:
                self.release()

    def release(self) -> None:
        """Take the pages out of this process; the system still holds them while it has room."""
        self._touched = 0
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)


def write_codebook(folder: Path, book: Codebook) -> Extent:
    """Write ``codebook.npz`` and force it to the disk."""
    with (folder / CODEBOOK).open("w+b") as stream:
        np.savez(stream, centroids=book.centroids, levels=book.levels, scale=np.array(book.scale))
        stream.flush()
        os.fsync(stream.fileno())
    return extent_of(folder / CODEBOOK)


def read_codebook(folder: Path, extent: Extent, *, bits: int, dim: int) -> Codebook:
    """Read ``codebook.npz``.

    Raises:
        LibraryError: it is missing, not what was written, or not of such tokens.
    """
    scale, centroids, levels = read_arrays(folder / CODEBOOK, "scale", "centroids", "levels")
    if scale.shape != () or scale.dtype.kind != "f" or not 0 < float(scale) < np.inf:
        raise damaged(folder, f"{CODEBOOK} has the scale {scale}")
    if centroids.ndim != 2 or not 0 < len(centroids) <= MOST_CENTROIDS:
        raise damaged(folder, f"{CODEBOOK} has centroids {centroids.shape}")
    book = Codebook(bits, float(scale), centroids, levels)
    if (
        book.centroids.dtype != np.int8
        or book.centroids.ndim != 2
        or book.centroids.shape[1] != dim
        or book.levels.dtype != np.int8
        or book.levels.shape != (0 if bits == 8 else 2**bits,)
    ):
        raise damaged(folder, f"{CODEBOOK} is not of {bits}-bit tokens of {dim} dimensions")
    # The compiled code trusts tokens to name centroids of this one.
    if extent_of(folder / CODEBOOK, extent.bytes) != extent:
        raise damaged(folder, f"{CODEBOOK} is not what was written")
    return book


def extent_of(path: Path, size: int | None = None) -> Extent:
    """The extent of a file, or of its first ``size`` bytes, as it is read now."""
    total = check = 0
    with plain_files.open_to_read(path) as stream:
        while block := stream.read(_READ if size is None else min(_READ, size - total)):
            total += len(block)
            check = zlib.crc32(block, check)
    return Extent(total, check)


def widened(tokens: npt.NDArray[np.int8], scales: Floats) -> Floats:
    """Tokens (n, d) as float32."""
    vectors: Floats = tokens.astype(np.float32)
    vectors *= scales[:, None]
    return vectors


def units(vectors: Floats) -> Floats:
    """Rows divided by their norms; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Floats = vectors / np.maximum(lengths, np.float32(1e-30))
    return found


def damaged(folder: Path, what: str) -> LibraryError:
    """What is said of a store that cannot be read."""
    return LibraryError(
        f"the token index {folder} is damaged ({what}): it is derived data; delete the folder and "
        "make it again"
    )
