"""Vectors and tokens of texts that were encoded before, shared by every library of one encoder.

A query typed twice must not pay for loading a language model: with its vector at hand a search
starts in the time it takes to open the library.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
import weakref
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

# The latter: SQLite quotes bytes of a damaged file that are no text.
_DAMAGE = (sqlite3.Error, UnicodeDecodeError)

_LOG = logging.getLogger(__name__)
_CAPACITY = 100_000  # texts; 300 MB at 768 dimensions
_PATIENCE_S = 2.0  # that another process is waited for
_SCHEMA = """
CREATE TABLE IF NOT EXISTS texts (
    fingerprint TEXT NOT NULL, text TEXT NOT NULL, vector BLOB NOT NULL,
    used INTEGER NOT NULL, PRIMARY KEY (fingerprint, text)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sums (
    fingerprint TEXT NOT NULL, text TEXT NOT NULL, crc32 INTEGER NOT NULL,
    PRIMARY KEY (fingerprint, text)
) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS forget AFTER DELETE ON texts BEGIN
    DELETE FROM sums WHERE fingerprint = old.fingerprint AND text = old.text;
END;
"""
# Of rows that are not damaged: a text, or a number that leaves none above it, is none of ours.
_NEWEST = (
    "SELECT coalesce(max(used), 0) FROM texts "
    f"WHERE typeof(used) = 'integer' AND used BETWEEN 0 AND {1 << 62}"
)
# Rows of older maxsights have no sum.
_ROWS = "SELECT vector, crc32 FROM texts LEFT JOIN sums USING (fingerprint, text)"


class TextCache:
    """Text -> vector and tokens on disk, keyed by the encoder's fingerprint. Safe among processes
    and among threads: each has a connection of its own while it reads, and they take turns to
    write.

    A cache that cannot be read or written (no space, no permission, a damaged file) is logged
    once and then does nothing: it only ever saves time. A row that is damaged is as if it were not
    there, and written anew.

    Args:
        path: of the SQLite file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._guard = threading.Lock()
        self._turn = threading.Lock()
        self._closed = threading.Event()
        # Connections that no thread uses now. A thread that asks takes one, or opens one.
        self._idle: list[sqlite3.Connection] = []
        weakref.finalize(self, _close_all, self._idle)

        def prepare(connection: sqlite3.Connection) -> None:
            _write_ahead(connection)
            connection.executescript(_SCHEMA)

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._give_up(error)
        self._use(prepare)

    def get(
        self, fingerprint: str, texts: Sequence[str], *, dim: int | None = None
    ) -> dict[str, np.ndarray]:
        """The known ones among ``texts``, each (D,) float32.

        Args:
            dim: D; None: whatever it is.
        """
        found: dict[str, np.ndarray] = {}

        def look(connection: sqlite3.Connection) -> None:
            for text in filter(_is_storable, texts):
                row = connection.execute(
                    f"{_ROWS} WHERE fingerprint = ? AND text = ?", (fingerprint, text)
                ).fetchone()
                vector = None if row is None else _vector(*row)
                if vector is not None and dim in (None, len(vector)):
                    found[text] = vector

        self._use(look)
        return found

    def newest(self, fingerprint: str, count: int) -> np.ndarray:
        """The vectors of the texts encoded last: (n, D) float32; (0, 0) if there are none."""
        rows: list[tuple[object, object]] = []
        newest = f"{_ROWS} WHERE fingerprint = ? ORDER BY used DESC LIMIT ?"
        self._use(lambda connection: rows.extend(connection.execute(newest, (fingerprint, count))))
        vectors = [vector for row in rows if (vector := _vector(*row)) is not None]
        if not vectors:
            return np.empty((0, 0), dtype=np.float32)
        dim, _ = Counter(map(len, vectors)).most_common(1)[0]
        return np.stack([vector for vector in vectors if len(vector) == dim])

    def put(self, fingerprint: str, vectors: Mapping[str, np.ndarray]) -> None:
        """Remember ``text -> (D,) vector``; beyond 100,000 texts the oldest go."""

        def write(connection: sqlite3.Connection) -> None:
            with self._turn, contextlib.closing(connection.cursor()) as cursor:
                cursor.execute("BEGIN IMMEDIATE")
                newest = cursor.execute(_NEWEST).fetchone()[0]
                rows = {
                    text: np.asarray(vector, "<f4").tobytes()
                    for text, vector in vectors.items()
                    if _is_storable(text)
                }
                cursor.executemany(
                    "INSERT OR REPLACE INTO texts VALUES (?, ?, ?, ?)",
                    [(fingerprint, text, row, newest + 1) for text, row in rows.items()],
                )
                cursor.executemany(
                    "INSERT OR REPLACE INTO sums VALUES (?, ?, ?)",
                    [(fingerprint, text, zlib.crc32(row)) for text, row in rows.items()],
                )
                cursor.execute(
                    "DELETE FROM texts WHERE used <= ("
                    "SELECT used FROM texts ORDER BY used DESC LIMIT 1 OFFSET ?)",
                    (_CAPACITY,),
                )
                cursor.execute("COMMIT")

        self._use(write)

    def get_tokens(
        self, fingerprint: str, texts: Sequence[str], *, width: int
    ) -> dict[str, np.ndarray]:
        """Of the texts whose tokens are known, (n, width) float32 each."""
        found = self.get(_of_tokens(fingerprint), texts)
        return {
            text: flat.reshape(-1, width) for text, flat in found.items() if len(flat) % width == 0
        }

    def put_tokens(self, fingerprint: str, tokens: Mapping[str, np.ndarray]) -> None:
        """Remember ``text -> (n, d) tokens``."""
        self.put(_of_tokens(fingerprint), tokens)

    def close(self) -> None:
        """Know nothing from now on. A thread that reads or writes meanwhile comes to its end."""
        self._closed.set()
        _close_all(self._idle)

    def _use(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Do ``work`` on a connection that no other thread has meanwhile."""
        if self._closed.is_set():
            return
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = sqlite3.connect(
                    self._path, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False
                )
            try:
                work(connection)
            finally:
                self._idle.append(connection)
        except _DAMAGE as error:
            self._give_up(error)
        if self._closed.is_set():
            _close_all(self._idle)

    def _give_up(self, error: Exception) -> None:
        with self._guard:
            if not self._closed.is_set():
                _LOG.warning("the cache of encoded texts at %s is not used: %s", self._path, error)
            self.close()


def _close_all(connections: list[sqlite3.Connection]) -> None:
    while connections:
        with contextlib.suppress(IndexError):  # which another thread closes
            connections.pop().close()


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Have readers and a writer not wait for each other.

    Of several processes that open a new file at once SQLite tells all but one that it is locked,
    without the patience it has elsewhere.
    """
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
        time.sleep(0.01)


def _vector(row: object, crc32: object) -> np.ndarray | None:
    """The numbers of a row; None if they are not what was written, or cannot be."""
    if not isinstance(row, bytes) or len(row) % 4 or crc32 not in (None, zlib.crc32(row)):
        return None
    vector: np.ndarray = np.frombuffer(row, dtype="<f4")
    return vector if np.isfinite(vector).all() else None


def _is_storable(text: str) -> bool:
    """Whether SQLite takes it: a name that is not UTF-8 is no text to it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _of_tokens(fingerprint: str) -> str:
    """What a text's tokens are kept under, beside its vector."""
    return f"{fingerprint} tokens"
