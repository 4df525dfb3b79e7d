"""Bringing a library that an older maxsight made to the present layout."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from maxsight.index import tables
from maxsight.index.manifest import SCHEMA, Manifest
from maxsight.index.upkeep import checksums

_log = logging.getLogger("maxsight.index")


def upgrade(library: Path, manifest: Manifest) -> Manifest:
    """Add what the library's schema lacks; the library's one writer calls it.

    What is new is written before ``library.json`` names the new schema, which is replaced whole:
    killed at any moment before, the library is an old one as it was, and the next writer begins
    again. Readers of this maxsight take either.

    Raises:
        LibraryError: the disk refused; the library is an old one as it was.
    """
    if manifest.schema == SCHEMA:
        return manifest
    upgraded = dataclasses.replace(manifest, schema=SCHEMA)
    with tables.storage_errors(library):
        # Schema 2 added the checksums of the tables' files, and one to library.json itself.
        checksums.Recorder(library).rewrite()
        upgraded.write(library)
    _log.info("%s: schema %d is now %d", library, manifest.schema, SCHEMA)
    return upgraded
