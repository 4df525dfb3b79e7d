"""JSON objects that carry a checksum of themselves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from maxsight import strict_json
from maxsight.errors import LibraryError, SchemaTooNew
from maxsight.index.files.durable import replace

_KEY = "checksum"

_T = TypeVar("_T")


def seal(fields: Mapping[str, Any]) -> dict[str, Any]:
    """``fields`` and ``checksum``, the BLAKE2b hash of 128 bits (hex) of all the others."""
    # What will be read again: JSON knows no tuples, and no keys but text.
    given = json.loads(json.dumps({k: value for k, value in fields.items() if k != _KEY}))
    text = json.dumps(given, sort_keys=True)
    return {**given, _KEY: hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}


def is_sealed(fields: Mapping[str, Any]) -> bool:
    """Whether ``checksum`` fits the others."""
    return bool(fields.get(_KEY) == seal(fields)[_KEY])


def read(
    file: Path,
    make: Callable[[Mapping[str, Any]], _T],
    *,
    schema: int,
    damaged: Callable[[Exception], LibraryError],
) -> _T:
    """What ``make`` makes of the fields of a sealed file.

    Args:
        schema: the newest that is known.
        damaged: the error where the seal does not fit, or ``make`` cannot.

    Raises:
        SchemaTooNew: a newer maxsight wrote it.
        LibraryError: it cannot be read, or is damaged.
    """
    try:
        fields = strict_json.read(file)
        written = int(fields["schema"])
        if written <= schema:
            if not is_sealed(fields):
                raise ValueError("its checksum does not fit what it says")
            return make(fields)
    except OSError as error:
        raise LibraryError(f"{file} cannot be read: {error.strerror or error}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise damaged(error) from None
    raise SchemaTooNew(
        f"{file} has schema {written}, and this maxsight knows {schema}: update maxsight "
        "(pip install -U maxsight), or make the index again"
    )


def write(file: Path, fields: Mapping[str, Any]) -> None:
    """Seal ``fields`` in a file, which is replaced whole.

    Raises:
        OSError: the disk refused; the old file stands.
    """
    replace(file, (json.dumps(seal(fields), indent=2) + "\n").encode())
