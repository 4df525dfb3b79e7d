"""A library of pictures and films: what users hold."""

from __future__ import annotations

import os

from maxsight.library.reader import Reader
from maxsight.library.writer import Writer


def open(
    path: str | os.PathLike[str],
    *,
    encoder: str | None = None,
    device: str = "auto",
    trust_encoder: bool = False,
) -> Library:
    """Open a library, or name one that the first :meth:`Library.add` will create.

    Args:
        path: a folder, by custom ``NAME.maxsight``.
        encoder: URI (``maxsight.models.encoder.load``). Default: the one the library was made
            with, or ``builtin`` for a new one.
        device: where the encoder computes: ``auto``, ``cpu``, ``cuda``, ``cuda:N``.
        trust_encoder: load the encoder that the library names though it was not used on this
            machine before (docs/security.md). Naming it as ``encoder`` does the same.

    Raises:
        EncoderMismatch: the library was made with another encoder.
        SchemaTooNew, LibraryError: it cannot be read.
    """
    return Library(path, encoder=encoder, device=device, trust_encoder=trust_encoder)


class Library(Reader, Writer):
    """Pictures and films with their vectors, in one folder.

    Threads may share it. Any number of them search at the same time, while one changes the library,
    in this process or in another. A search sees one committed state from its beginning to its end,
    and the next search sees the newest. Methods that change the library hold its only write lock
    while they run: the threads that share this object take turns, and other objects and other
    processes get :class:`maxsight.errors.LibraryLocked`.
    """
