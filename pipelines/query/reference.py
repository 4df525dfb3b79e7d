"""The picture that a query starts from."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maxsight import settings
from maxsight.errors import MediaError, UsageError
from maxsight.pipelines.media import files

if TYPE_CHECKING:
    from maxsight.index.snapshot import Snapshot
    from maxsight.models.encoder import Encoder
    from maxsight.pipelines.decoding.lone import LoneDecoder

# What Path leaves of https://host/name.
_WEB = re.compile(r"[a-z][a-z0-9+.-]+:/{1,2}[^/]", re.IGNORECASE)


def encode_reference(
    snapshot: Snapshot,
    path: Path,
    *,
    encoder: Callable[[], Encoder],
    decoder: LoneDecoder,
) -> tuple[np.ndarray, list[int]]:
    """The vector of a picture, and the items of the library that are the same bytes.

    A picture that the library holds needs neither decoder nor encoder: its vector is there.

    Args:
        path: of a picture.
        encoder: gives the encoder; called only where it is needed.
        decoder: decodes the picture.

    Returns:
        (D,) float32 and item ids.

    Raises:
        UsageError: it is not there, or no picture that can be read.
    """
    limit = settings.max_pixels()
    _require_file(path, most_bytes=files.most_bytes(limit))
    name = os.fspath(path)
    try:
        content_hash, _ = files.hash_file(name)
        if items := snapshot.find_items(content_hash=content_hash):
            return _of_a_picture(snapshot.item_vectors(items[0])), items
        model = encoder()
        pixels = decoder.pixels(name, model.preprocess)
    except MediaError as error:
        raise UsageError(f"cannot search by the picture {name}: {error}") from None
    import torch

    vectors = model.encode_images(torch.from_numpy(pixels)).vectors
    return _of_a_picture(vectors.cpu().numpy()), []


def _of_a_picture(vectors: np.ndarray) -> np.ndarray:
    """One unit vector for a picture's units: of a long one half the whole, half its squares.

    Of ten ways that were tried it finds most, the thing alone and in other long pictures together
    (docs/preprocessing.md).
    """
    if len(vectors) > 1:
        vectors = np.stack([vectors[0], mean(vectors[1:])])
    return mean(vectors)


def mean(vectors: np.ndarray) -> np.ndarray:
    """The unit vector between (n, D) unit vectors: (D,); a lone one as it is."""
    if len(vectors) == 1:
        alone: np.ndarray = vectors[0]
        return alone
    between: np.ndarray = vectors.mean(axis=0)
    return between / max(float(np.linalg.norm(between)), 1e-12)


def _require_file(path: Path, *, most_bytes: int) -> None:
    """Say in a query's words why a path cannot be a picture."""
    name = os.fspath(path)
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        if _WEB.match(name):
            raise UsageError(
                f"{name} is a web address, which is not read: download the picture, give its file"
            ) from None
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            raise UsageError(f"there is no file {name} to search by") from None
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"the picture {name} cannot be read: {reason}") from None
    if stat.S_ISDIR(status.st_mode):
        raise UsageError(f"{name} is a folder: give one picture to search by")
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{name} is not a regular file: give one picture to search by")
    if not status.st_size:
        raise UsageError(f"{name} is empty (0 bytes): give another picture to search by")
    if status.st_size > most_bytes:
        raise UsageError(
            f"{name} has {status.st_size / 1e9:.1f} GB, more than a picture may take "
            f"({most_bytes / 1e9:.1f} GB): scale it down, or raise MAXSIGHT_MAX_PIXELS"
        )
