"""Settings read from the environment. docs/settings.md lists them all.

Nothing here is read at import: a test or a long-lived process may change the environment.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from maxsight.errors import UsageError
from maxsight.machine import available_memory


def cache_directory() -> Path:
    """Where encoded texts and fetched benchmark material are kept.

    ``MAXSIGHT_CACHE`` if set, else ``$XDG_CACHE_HOME/maxsight``, else ``~/.cache/maxsight``.
    """
    if explicit := os.environ.get("MAXSIGHT_CACHE"):
        return Path(explicit)
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "maxsight"


def state_directory() -> Path:
    """Where this user's own decisions are kept: which encoders were used on this machine.

    ``MAXSIGHT_STATE`` if set, else ``$XDG_STATE_HOME/maxsight``, else ``~/.local/state/maxsight``.
    Not the cache, which anyone may empty, and which may be shared.
    """
    if explicit := os.environ.get("MAXSIGHT_STATE"):
        return Path(explicit)
    root = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(root) / "maxsight"


def max_pixels() -> int:
    """The largest picture that is decoded, in pixels after JPEG draft scaling.

    ``MAXSIGHT_MAX_PIXELS``, default 210 million: room for the 16,320 x 12,240 pixels of telephones.
    Above it a picture needs more than 0.8 gigabytes of memory and is refused with its dimensions.
    """
    return _positive_integer("MAXSIGHT_MAX_PIXELS", 210_000_000)


def memory(*, held: int = 0) -> int:
    """Bytes that a search, the making of an index, and all decoders together may take.

    ``MAXSIGHT_MEMORY``, say ``1GiB`` or ``800MB``; default: half of what is free when it is asked.

    Args:
        held: bytes of it that this process holds by now, which are not free any more.
    """
    text = os.environ.get("MAXSIGHT_MEMORY")
    if text is None:
        return held + available_memory()[0] // 2
    match = re.fullmatch(r"\s*([0-9.]+)\s*([KMGT]i?)?B?\s*", text, flags=re.IGNORECASE)
    try:
        number = float(match[1]) if match else 0.0
    except ValueError:
        number = 0.0
    unit = ((match and match[2]) or "").lower()
    base = 1024 if unit.endswith("i") else 1000
    size = number * base ** (" kmgt".index(unit[:1] or " "))
    if not 1 <= size < math.inf:
        raise UsageError(f"MAXSIGHT_MEMORY={text!r} is not a size; say 2GiB, or 800MB")
    return int(size)


def decode_timeout() -> int:
    """Seconds without a sign of life after which a decoder is stopped.

    ``MAXSIGHT_DECODE_TIMEOUT``, default 60.
    """
    return _positive_integer("MAXSIGHT_DECODE_TIMEOUT", 60)


def filter_timeout() -> int:
    """Seconds that one ``where`` may take.

    ``MAXSIGHT_FILTER_TIMEOUT``, default 10.
    """
    return _positive_integer("MAXSIGHT_FILTER_TIMEOUT", 10)


def film_frames() -> int:
    """How many frames of one film are stored at most; stills count once.

    ``MAXSIGHT_FILM_FRAMES``, default 100,000: more than a day at one frame a second.
    """
    return _positive_integer("MAXSIGHT_FILM_FRAMES", 100_000)


def decode_workers() -> int:
    """How many decoder processes run.

    ``MAXSIGHT_WORKERS``, default: the usable cores, at most 16.
    """
    return _positive_integer("MAXSIGHT_WORKERS", min(16, len(os.sched_getaffinity(0))))


def kernels_room() -> str | None:
    """Which implementation of the kernels computes, whatever the device.

    ``MAXSIGHT_KERNELS``: ``reference``, ``cpu`` or ``gpu``; unset, the tensors' device decides.
    """
    name = os.environ.get("MAXSIGHT_KERNELS")
    if name not in (None, "reference", "cpu", "gpu"):
        raise UsageError(f"MAXSIGHT_KERNELS={name!r} must be reference, cpu or gpu")
    return name


def video_backend() -> str:
    """Which library decodes films, ``pyav`` or ``decord``.

    ``MAXSIGHT_VIDEO_BACKEND``, default pyav.
    """
    name = os.environ.get("MAXSIGHT_VIDEO_BACKEND", "pyav")
    if name not in ("pyav", "decord"):
        raise UsageError(f"MAXSIGHT_VIDEO_BACKEND={name!r} must be pyav or decord")
    return name


def _positive_integer(name: str, default: int) -> int:
    text = os.environ.get(name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise UsageError(f"{name}={text!r} is not a positive whole number; unset it or give one")
    return value
