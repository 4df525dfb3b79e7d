"""Where a Triton kernel is launched, and which tile it takes there."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path

import torch

from maxsight.errors import BackendError
from maxsight.kernels.configs import ARCHITECTURES

_PLACES = ("TRITON_CACHE_DIR", "TRITON_HOME")


def architecture_of(device: torch.device) -> int:
    """The architecture whose tiles a device takes; of the interpreter, any will do."""
    if device.type != "cuda":
        return 90
    major, minor = torch.cuda.get_device_capability(device)
    # GeForce and workstation cards are numbered above 100, with the shared memory and the
    # tensor-core instructions of sm_89.
    return 10 * major + minor if major < 12 else ARCHITECTURES[0]


def on(device: torch.device) -> AbstractContextManager[object]:
    """Makes a device the current one, which is where Triton launches, whatever its arguments.

    Raises:
        BackendError: as :func:`require_own_cache`.
    """
    if device.type != "cuda":
        return nullcontext()
    require_own_cache(*map(os.environ.get, _PLACES))
    return torch.cuda.device(device)


@cache
def require_own_cache(folder: str | None = None, home: str | None = None) -> None:
    """Refuse compiled kernels that another user could have put into Triton's cache.

    Triton loads what lies there as code. A folder that is not there yet will be this user's.

    Args:
        folder, home: ``TRITON_CACHE_DIR`` and ``TRITON_HOME`` as the environment has them.

    Raises:
        BackendError: another user owns the folder, or may write to it.
    """
    place = Path(folder) if folder else Path(home or Path.home()) / ".triton" / "cache"
    try:
        status = place.stat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise BackendError(f"Triton's cache {place} cannot be read: {error.strerror}") from error
    if status.st_uid not in (0, os.geteuid()) or _others_write(status):
        raise BackendError(
            f"{place} holds compiled kernels that Triton would run, and other users of this "
            f"machine may write there: `chmod go-w {place}` if it is yours, or set "
            "TRITON_CACHE_DIR to a folder of your own"
        )


def _others_write(status: os.stat_result) -> bool:
    if status.st_mode & stat.S_IWOTH:
        return True
    if not status.st_mode & stat.S_IWGRP:
        return False
    # Many systems give each user a group of his own, and write permission to it by default.
    try:
        group, user = grp.getgrgid(status.st_gid), pwd.getpwuid(status.st_uid)
    except KeyError:
        return True
    return group.gr_name != user.pw_name or bool(set(group.gr_mem) - {user.pw_name})
