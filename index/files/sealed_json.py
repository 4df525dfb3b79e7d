"""JSON objects that carry a checksum of themselves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maxsight.index.files.durable import replace

_KEY = "checksum"


def seal(fields: Mapping[str, Any]) -> dict[str, Any]:
    """``fields`` and ``checksum``, the BLAKE2b hash of 128 bits (hex) of all the others."""
    # What will be read again: JSON knows no tuples, and no keys but text.
    given = json.loads(json.dumps({k: value for k, value in fields.items() if k != _KEY}))
    text = json.dumps(given, sort_keys=True)
    return {**given, _KEY: hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}


def is_sealed(fields: Mapping[str, Any]) -> bool:
    """Whether ``checksum`` fits the others."""
    return bool(fields.get(_KEY) == seal(fields)[_KEY])


def write(file: Path, fields: Mapping[str, Any]) -> None:
    """Seal ``fields`` in a file, which is replaced whole.

    Raises:
        OSError: the disk refused; the old file stands.
    """
    replace(file, (json.dumps(seal(fields), indent=2) + "\n").encode())
