"""Vectors and tokens of texts that were encoded before, shared by every library of one encoder.

A query typed twice must not pay for loading a language model: with its vector at hand a search
starts in the time it takes to open the library.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

_LOG = logging.getLogger(__name__)
_CAPACITY = 100_000  # texts; 300 MB at 768 dimensions
_PATIENCE_S = 2.0  # that another process is waited for
_SCHEMA = """
CREATE TABLE IF NOT EXISTS texts (
    fingerprint TEXT NOT NULL, text TEXT NOT NULL, vector BLOB NOT NULL,
    used INTEGER NOT NULL, PRIMARY KEY (fingerprint, text)
) WITHOUT ROWID
"""


class TextCache:
    """Text -> vector and tokens on disk, keyed by the encoder's fingerprint. Safe among processes.

    A cache that cannot be read or written (no space, no permission, a damaged file) is logged
    once and then does nothing: it only ever saves time.

    Args:
        path: of the SQLite file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None)
            _write_ahead(self._connection)
            self._connection.execute(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def get(self, fingerprint: str, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """The known ones among ``texts``, each (D,) float32."""
        if self._connection is None:
            return {}
        found = {}
        try:
            for text in texts:
                row = self._connection.execute(
                    "SELECT vector FROM texts WHERE fingerprint = ? AND text = ?",
                    (fingerprint, text),
                ).fetchone()
                if row is not None:
                    found[text] = np.frombuffer(row[0], dtype="<f4")
        except sqlite3.Error as error:
            self._give_up(error)
        return found

    def newest(self, fingerprint: str, count: int) -> np.ndarray:
        """The vectors of the texts encoded last: (n, D) float32; (0, 0) if there are none."""
        rows: list[tuple[bytes]] = []
        if self._connection is not None:
            try:
                rows = self._connection.execute(
                    "SELECT vector FROM texts WHERE fingerprint = ? ORDER BY used DESC LIMIT ?",
                    (fingerprint, count),
                ).fetchall()
            except sqlite3.Error as error:
                self._give_up(error)
        if not rows:
            return np.empty((0, 0), dtype=np.float32)
        return np.stack([np.frombuffer(vector, dtype="<f4") for (vector,) in rows])

    def put(self, fingerprint: str, vectors: Mapping[str, np.ndarray]) -> None:
        """Remember ``text -> (D,) vector``; beyond 100,000 texts the oldest go."""
        if self._connection is None:
            return
        try:
            with contextlib.closing(self._connection.cursor()) as cursor:
                cursor.execute("BEGIN IMMEDIATE")
                newest = cursor.execute("SELECT coalesce(max(used), 0) FROM texts").fetchone()[0]
                cursor.executemany(
                    "INSERT OR REPLACE INTO texts VALUES (?, ?, ?, ?)",
                    [
                        (fingerprint, text, np.asarray(vector, "<f4").tobytes(), newest + 1)
                        for text, vector in vectors.items()
                    ],
                )
                cursor.execute(
                    "DELETE FROM texts WHERE used <= ("
                    "SELECT used FROM texts ORDER BY used DESC LIMIT 1 OFFSET ?)",
                    (_CAPACITY,),
                )
                cursor.execute("COMMIT")
        except sqlite3.Error as error:
            self._give_up(error)

    def get_tokens(
        self, fingerprint: str, texts: Sequence[str], *, width: int
    ) -> dict[str, np.ndarray]:
        """Of the texts whose tokens are known, (n, width) float32 each."""
        found = self.get(_of_tokens(fingerprint), texts)
        return {text: flat.reshape(-1, width) for text, flat in found.items()}

    def put_tokens(self, fingerprint: str, tokens: Mapping[str, np.ndarray]) -> None:
        """Remember ``text -> (n, d) tokens``."""
        self.put(_of_tokens(fingerprint), tokens)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _give_up(self, error: Exception) -> None:
        _LOG.warning("the cache of encoded texts at %s is not used: %s", self._path, error)
        self.close()


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


def _of_tokens(fingerprint: str) -> str:
    """What a text's tokens are kept under, beside its vector."""
    return f"{fingerprint} tokens"
