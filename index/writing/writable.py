"""What a writer asks of the place where a library stands, before it changes anything."""

from __future__ import annotations

from pathlib import Path

from maxsight import plain_files
from maxsight.errors import LibraryError
from maxsight.index.derived import generations
from maxsight.index.files import checksum
from maxsight.index.files.durable import require_own_folders
from maxsight.index.tables import schema


def require_writable(library: Path) -> None:
    """Look at the folders of a library. The library's own folder may be a link, or below one.

    Raises:
        LibraryError: a folder in it, or the ledger, is a link: what is written, merged and deleted
            there would be so elsewhere.
    """
    try:
        for name in (schema.ITEMS, schema.UNITS):
            require_own_folders(library / name)
        plain_files.require_folder(library / generations.FOLDER)
        plain_files.require_own(library / checksum.FILE_NAME)
    except OSError as error:
        raise LibraryError(
            f"{library} cannot be changed: {error.filename}: {error.strerror or error}. Put in the "
            "place of a link what it points to (a library may be moved as a whole, and linked to), "
            "or open the library for searching only"
        ) from None
