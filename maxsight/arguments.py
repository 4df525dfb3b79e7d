"""What callers give, looked at once: paths, numbers and choices, each one or several.

A string is also a sequence of its letters, and of a path each letter may name a folder: what may be
one or several is asked for here, and nowhere else.
"""

from __future__ import annotations

import math
import numbers
import operator
import os
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from maxsight.errors import UsageError

Choice = TypeVar("Choice", bound=str)

# Also what is left of https://host/name where it was taken for a path before.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


def one_path(given: Any, *, what: str = "a path") -> str:
    """A path as text, as ``os.fsdecode`` gives it.

    Raises:
        UsageError: it is none, empty, no name a file can have, or the address of something
            elsewhere.
    """
    try:
        path = os.fsdecode(given)
    except TypeError:
        raise UsageError(
            f"{what} must be a text or a pathlib.Path, got {type(given).__name__}"
        ) from None
    if not path:
        raise UsageError(
            f"{what} is empty, as an unset variable leaves it; say . for the current folder"
        )
    if "\0" in path:
        raise UsageError(f"{what} cannot hold a zero byte: {path}")
    if not is_name(path):
        raise UsageError(
            f"{what} cannot hold half a character, which no file's name is made of: {path}"
        )
    address = _ADDRESS.match(path)
    if address is not None and not os.path.lexists(f"{address[1]}:"):
        raise UsageError(
            f"{what} must stand on this machine, got the address {path}: give the folder where it "
            "is mounted, or fetch it first"
        )
    return path


def one_place(given: Any, *, what: str = "a path") -> Path:
    """A path as :func:`one_path` takes it; ``~`` is the user's home folder.

    Not ``Path.expanduser``, which raises where there is no such user.
    """
    return Path(os.path.expanduser(one_path(given, what=what)))


def many_paths(given: Any, *, what: str = "a path") -> list[str]:
    """Paths as :func:`one_path` gives them; one path alone is one.

    Raises:
        UsageError: as there; or it is neither a path nor several.
    """
    if isinstance(given, str | bytes | os.PathLike):
        return [one_path(given, what=what)]
    return [one_path(path, what=what) for path in _several(given, what)]


def many_texts(given: Any, *, what: str) -> list[str]:
    """Texts; one text alone is one."""
    if isinstance(given, str):
        return [given]
    texts = list(_several(given, what))
    for text in texts:
        if not isinstance(text, str):
            raise UsageError(f"{what} must be a text, got {type(text).__name__}")
    return texts


def choices(given: Any, allowed: Collection[Choice], *, what: str) -> frozenset[Choice]:
    """Some of ``allowed``; one alone is one."""
    chosen = many_texts(given, what=what)
    for choice in chosen:
        if choice not in allowed:
            raise UsageError(f"{what} is {' or '.join(allowed)}, not {choice!r}")
    if not chosen:
        raise UsageError(f"no {what} was given: leave it out, or give {' or '.join(allowed)}")
    return frozenset(choice for choice in allowed if choice in chosen)


def whole_number(given: Any, *, what: str) -> int:
    """A whole number of at least 1."""
    try:
        number = operator.index(given)
    except TypeError:
        number = None
    if number is None or isinstance(given, bool):
        raise UsageError(f"{what} must be a whole number, got {given!r}")
    if number < 1:
        raise UsageError(f"{what} must be at least 1, got {number}")
    return number


def positive_number(given: Any, *, what: str) -> float:
    """A finite number above 0."""
    if not is_number(given) or not 0 < given < math.inf:
        raise UsageError(f"{what} must be a finite number above 0, got {given!r}")
    return float(given)


def is_number(given: object) -> bool:
    """Whether it is a number, of Python's or NumPy's, and no truth value."""
    return isinstance(given, numbers.Real) and not isinstance(given, bool)


def is_text(given: object) -> bool:
    """Whether it is a text; what callers give need not be what a signature says."""
    return isinstance(given, str)


def is_unicode(text: str) -> bool:
    """Whether a text is one for others, too. Bytes that are not UTF-8 come as half characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_name(text: str) -> bool:
    """Whether a file may have it in its name: a text, and bytes as ``os.fsdecode`` gives them."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def _several(given: Any, what: str) -> Iterator[Any]:
    if not isinstance(given, Iterable):
        raise UsageError(f"{what} must be one or several, got {type(given).__name__}")
    return iter(given)
