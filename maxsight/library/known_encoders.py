"""Which encoders were used on this machine: a library may come from anyone, and names one.

Each decision is a small file of its own in the user's state folder, so that two processes never
write the same one. What others could have written there counts for nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
from pathlib import Path

from maxsight import plain_files, settings
from maxsight.errors import UntrustedEncoder
from maxsight.index.files import durable
from maxsight.index.tables.manifest import Manifest
from maxsight.models.encoder import folder_of
from maxsight.models.options import parse

_log = logging.getLogger("maxsight")


def require_known(manifest: Manifest, library: Path) -> None:
    """Refuse to load an encoder that only a library names.

    ``builtin`` is always known. A name of the hub is known once it was used, with any options, by
    any library. A folder is known for the one library that the user made with it or allowed, while
    that library names the same weights: what another library names may lie anywhere.

    Args:
        library: its folder, for the message.

    Raises:
        UntrustedEncoder: it was not used on this machine.
        UnknownEncoder: there is no such encoder.
    """
    key = _key(manifest)
    if key is None or _is_written(key):
        return
    uri = manifest.encoder_uri
    folder = folder_of(uri)
    if folder is None:
        reason = f"the encoder {uri}, which was not used on this machine before"
    else:
        reason = f"an encoder in the folder {folder} ({uri}), which nobody named for it here"
    raise UntrustedEncoder(
        f"{library} was made with {reason}. A library may come from anyone, so what it names is "
        "neither fetched nor loaded unasked. If you know that encoder, say so once with "
        "--trust-encoder (in Python trust_encoder=True). Texts that were searched before need none"
    )


def remember(manifest: Manifest) -> None:
    """Count a library's encoder as known: the user has named it, and it was loaded."""
    key = _key(manifest)
    if key is None or _is_written(key):
        return
    file = _file(key)
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        durable.replace(file, key)
        file.chmod(0o600)
    except OSError as error:
        if _is_written(key):
            return  # by another process, meanwhile
        _log.warning(
            "cannot remember in %s that %s was used (%s): add --trust-encoder the next time too, "
            "or set MAXSIGHT_STATE to a folder of yours",
            file.parent,
            manifest.encoder_uri,
            error.strerror or error,
        )


def _key(manifest: Manifest) -> bytes | None:
    """What is written when an encoder was used; None if nothing need be."""
    scheme, name, _ = parse(manifest.encoder_uri)
    folder = folder_of(manifest.encoder_uri)
    if scheme == "builtin":
        return None
    if folder is None:
        # maxsight's own options load nothing more.
        fields = {"encoder": f"{scheme}:{name}"}
    else:
        fields = {
            "folder": str(folder),
            "scheme": scheme,
            "fingerprint": manifest.fingerprint,
            "library": manifest.library_id,
        }
    return (json.dumps(fields, indent=2) + "\n").encode()


def _file(key: bytes) -> Path:
    name = hashlib.sha256(key).hexdigest()[:32]
    return settings.state_directory() / "encoders" / f"{name}.json"


def _is_written(key: bytes) -> bool:
    """Whether this user wrote it, and nobody else could have."""
    try:
        with plain_files.open_to_read(_file(key)) as stream:
            status = os.fstat(stream.fileno())
            is_own = status.st_uid == os.geteuid()
            others_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            return is_own and not others_write and stream.read(len(key) + 1) == key
    except OSError:
        return False
