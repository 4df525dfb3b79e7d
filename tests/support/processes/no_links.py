"""A process in which the system makes no hard links, as on exFAT: a seccomp filter refuses them."""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

# Numbers of the calls link and linkat (asm/unistd.h), and of the machine (linux/audit.h).
_CALLS = {"x86_64": (86, 265), "aarch64": (37,)}
_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_SECCOMP_MODE_FILTER = 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def forbid_links() -> None:
    """From now on ``link`` and ``linkat`` fail with EPERM, here and in every child.

    Raises:
        OSError: the system takes no filters.
    """
    calls = _CALLS[platform.machine()]
    steps = [(_LOAD, 0, 0, 4), (_JUMP_IF_EQUAL, 0, len(calls) + 1, _MACHINES[platform.machine()])]
    steps += [(_LOAD, 0, 0, 0)]
    for left, call in zip(range(len(calls), 0, -1), calls, strict=True):
        steps.append((_JUMP_IF_EQUAL, left, 0, call))
    steps += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _FAIL | errno.EPERM)]
    # From another machine's calls straight to "allow".
    steps[1] = (_JUMP_IF_EQUAL, 0, len(calls) + 1, _MACHINES[platform.machine()])
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    libc = ctypes.CDLL(None, use_errno=True)
    program = _Program(len(steps), code)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "no filter of system calls")
