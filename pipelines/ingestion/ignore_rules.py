"""Which files and folders a person leaves out: patterns as in a ``.gitignore``.

A pattern without a slash fits a name at any depth, one with a slash a path from the folder of the
rules; ``*``, ``?`` and ``[a-z]`` stay within a name, ``**/`` is any folders. A slash at the end
means folders alone, ``!`` takes back in what a line before it left out. Of several that fit, the
last one counts. Patterns come from strangers' folders, too: matching takes time in proportion to
the lengths of pattern and name.

A pattern given by hand (``--exclude``) may also be a path, as a person finds it on the disk, and
its names may be meant as they stand, whatever signs are in them.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import glob
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from maxsight.arguments import is_name
from maxsight.errors import UsageError
from maxsight.pipelines.media.files import NotNow, open_regular

FILE_NAME = ".maxsightignore"
_MOST_RULES_BYTES = 1 << 16


@dataclass(frozen=True)
class _Pattern:
    """One line.

    Attributes:
        parts: of a path, each as an expression; None for any number of folders.
    """

    text: str
    leaves_out: bool
    folders_only: bool
    parts: tuple[re.Pattern[str] | None, ...]

    def fits(self, names: list[str], *, is_folder: bool) -> bool:
        return (is_folder or not self.folders_only) and _fits(self.parts, names)


class IgnoreRules:
    """Patterns that count below one folder.

    Args:
        base: the folder, absolute.
        lines: patterns; empty ones and those that begin with ``#`` are comments.
        source: what a person calls them.
        given: they were given by hand.
    """

    def __init__(
        self, base: str, lines: Iterable[str], *, source: str, given: bool = False
    ) -> None:
        self.source = source
        self._start = len(base.rstrip("/")) + 1
        self._patterns = [
            dataclasses.replace(found, text=line)
            for line in lines
            if (found := _parsed(_below(base, line) if given else line, as_it_stands=given))
        ]
        self._patterns.reverse()
        self._unseen = self._patterns if given else []

    def verdict(self, path: str, *, is_folder: bool) -> bool | None:
        """Whether a path below the base is left out; None where nothing is said of it."""
        names = path[self._start :].split("/")
        if self._unseen:
            self._unseen = [
                pattern for pattern in self._unseen if not pattern.fits(names, is_folder=is_folder)
            ]
        for pattern in self._patterns:
            if pattern.fits(names, is_folder=is_folder):
                return pattern.leaves_out
        return None

    def unseen(self) -> set[str]:
        """Those given by hand that have fitted nothing that was asked for."""
        return {pattern.text for pattern in self._unseen}


def read_rules(folder: str) -> IgnoreRules:
    """The rules in a folder's ``.maxsightignore``.

    Raises:
        NotNow: it cannot be read, or is no text of less than 64 KB.
    """
    path = os.path.join(folder, FILE_NAME)
    with open_regular(path) as file:
        data = os.read(file, _MOST_RULES_BYTES + 1)
    if len(data) > _MOST_RULES_BYTES or b"\0" in data:
        raise NotNow("not a text of at most 64 KB")
    return IgnoreRules(folder, os.fsdecode(data).splitlines(), source=path)


def given_rules(root: str, patterns: Iterable[str]) -> IgnoreRules:
    """Rules given by hand, which count below each root.

    One with a slash may also be a path that leads below the root, from the current folder or from
    ``/``, by whatever links. What stands below the root by that name comes first.

    Raises:
        UsageError: a pattern says nothing.
    """
    lines = list(patterns)
    for line in lines:
        if _parsed(line) is None or not is_name(line):
            raise UsageError(
                f"exclude={line!r} is no pattern; say *.png, drafts/ or /2019/**/raw (as in a "
                ".gitignore), or the path of a folder or file"
            )
    return IgnoreRules(root, lines, source="--exclude", given=True)


def _below(root: str, line: str) -> str:
    """A pattern given by hand, with a path in it as one from the root."""
    taken_back = line.startswith("!")
    body = line.removeprefix("!")
    path = body.rstrip("/")
    if "/" not in path:
        return line
    inner = _from(root, os.path.normpath(os.path.join(root, path.lstrip("/"))))
    try:
        outside = os.path.abspath(os.path.expanduser(path))
    except FileNotFoundError:  # the current folder is gone
        outside = path
    outer = _from(root, outside)
    is_whole = path.startswith(("/", "~"))
    if outer is not None and (is_whole or inner is None or _is_there(outside)):
        is_inner = inner is not None and _is_there(os.path.join(root, inner))
        inner = inner if is_inner else outer
    if inner is None:
        return line
    return "!" * taken_back + "/" + inner + "/" * body.endswith("/")


def _from(root: str, path: str) -> str | None:
    """The way from the root to a path below it; None if it does not stand there."""
    folder, name = os.path.split(path)
    for base, inner in (
        (root, path),
        (os.path.realpath(root), os.path.join(os.path.realpath(folder), name)),
    ):
        start = base.rstrip("/") + "/"
        if inner.startswith(start) and len(inner) > len(start):
            return inner[len(start) :]
    return None


def _is_there(path: str) -> bool:
    return os.path.lexists(path) or next(glob.iglob(path), None) is not None


def _parsed(line: str, *, as_it_stands: bool = False) -> _Pattern | None:
    text = line.rstrip("\r\n")
    while text.endswith(" ") and not text.endswith("\\ "):
        text = text[:-1]
    if not text or text.startswith("#"):
        return None
    body = text.removeprefix("!")
    folders_only = body.endswith("/")
    body = body.rstrip("/") if folders_only else body
    if not body:
        return None
    anchored = "/" in body
    names = [name for name in body.split("/") if name not in ("", ".")] if anchored else [body]
    if not names:
        return None
    parts = [None if name == "**" else _expression(name, as_it_stands) for name in names]
    if not anchored:
        parts.insert(0, None)
    elif parts and parts[-1] is None:
        parts.append(_expression("*"))  # "a/**" is what stands in a, not a itself
    return _Pattern(line, not text.startswith("!"), folders_only, tuple(parts))


def _expression(name: str, as_it_stands: bool = False) -> re.Pattern[str]:
    """Of one name; ``fnmatch`` makes expressions that never try again what has failed.

    Args:
        as_it_stands: the name itself is meant, too, signs and all.
    """
    out = []
    position = 0
    while position < len(name):
        character = name[position]
        if character == "\\" and position + 1 < len(name):
            position += 1
            out.append(f"[{name[position]}]" if name[position] in "*?[" else name[position])
        elif name.startswith("[^", position):
            out.append("[!")
            position += 1
        else:
            out.append(character)
        position += 1
    also = rf"|{re.escape(name)}\Z" if as_it_stands else ""
    return re.compile(fnmatch.translate("".join(out)) + also)


def _fits(parts: tuple[re.Pattern[str] | None, ...], names: list[str]) -> bool:
    """Whether the parts fit all the names; a None takes as few as will do, then one more."""
    part = name = 0
    again: tuple[int, int] | None = None
    while name < len(names):
        wanted = parts[part] if part < len(parts) else ...
        if wanted is None:
            part += 1
            again = part, name
        elif isinstance(wanted, re.Pattern) and wanted.match(names[name]):
            part += 1
            name += 1
        elif again is not None:
            part, name = again[0], again[1] + 1
            again = part, name
        else:
            return False
    return part == len(parts)
