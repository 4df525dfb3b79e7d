"""Where a library is made before it appears: in a draft beside its place.

A process that is killed on the way leaves the draft, and the next one to make or to write that
library clears it away.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from maxsight import plain_files
from maxsight.errors import LibraryError
from maxsight.index.files import checksum
from maxsight.index.files.durable import beside, clear
from maxsight.index.tables import manifest, schema
from maxsight.index.writing.lock import FILE_NAME, WriteLock

_OWN = {FILE_NAME, schema.ITEMS, schema.UNITS, manifest.FILE_NAME, checksum.FILE_NAME}


def claim(library: Path) -> tuple[Path, WriteLock]:
    """An empty folder, to be filled and renamed to ``library``, and the lock in it.

    Raises:
        LibraryLocked: another process is making that library.
        LibraryError: something else stands in the draft's place. It is left as it is.
        OSError: the disk refuses.
    """
    library.parent.mkdir(parents=True, exist_ok=True)
    draft = beside(library)
    try:
        draft.mkdir(mode=0o700)
    except FileExistsError:
        if left_draft(library) is None:
            raise LibraryError(
                f"cannot create {library}: {draft} is in the way, where it is made before it "
                "appears, and does not look as if maxsight had left it; move it elsewhere"
            ) from None
    try:
        lock = WriteLock(draft)
    except OSError:  # a full disk: whoever has the lock is told otherwise
        shutil.rmtree(draft, ignore_errors=True)
        raise
    try:
        for name in set(os.listdir(draft)) - {FILE_NAME}:
            clear(draft / name)
    except BaseException:
        lock.release()
        raise
    return draft, lock


def left_draft(library: Path) -> Path | None:
    """What a killed process left of making ``library``; None if nothing, or not surely that."""
    draft = beside(library)
    try:
        plain_files.require_folder(draft)
        # In a folder of somebody else's the library would be his.
        is_own = draft.stat().st_uid == os.geteuid()
        names = set(os.listdir(draft)) - _OWN
    except OSError:
        return None
    is_left = is_own and all(re.fullmatch(r"\..+\.partial", name) for name in names)
    return draft if is_left else None
