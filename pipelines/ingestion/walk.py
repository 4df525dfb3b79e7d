"""The pictures and films under folders, listed; only files of which the name says nothing are
opened."""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from maxsight.errors import UsageError
from maxsight.index.records import Failure, FileState, Kind
from maxsight.pipelines.decoding.orders import Job
from maxsight.pipelines.ingestion.ignore_rules import (
    FILE_NAME,
    IgnoreRules,
    given_rules,
    read_rules,
)
from maxsight.pipelines.media.files import NotNow, not_a_file, obstacle, open_regular, state_of
from maxsight.pipelines.media.formats import HEAD_BYTES, content_kind
from maxsight.pipelines.media.suffixes import kind_of, promise, suffix_of

LIBRARY_SUFFIX = ".maxsight"

# The modification time in the record of a failure that does not depend on the file alone (rights,
# settings, codecs). No file has it, so the path is tried again at every run.
TRY_AGAIN_NS = -1

# Folders, by their names in lower case, in which nothing is the owner's: thumbnails and snapshots
# of a NAS, recycle bins, what systems and build tools keep for themselves.
_LEFT_OUT = frozenset(
    (
        *("@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot"),
        *("$recycle.bin", "recycler", "recycled", "system volume information", "lost+found"),
        *("found.000", "__macosx", "network trash folder", "temporary items", "ipod photo cache"),
        *("node_modules", "__pycache__"),
    )
)
# What Apple's photo library makes of the originals.
_PHOTO_LIBRARY = ".photoslibrary"
_LEFT_OUT_OF_IT = frozenset(("resources", "database", "private", "internal", "scopes", "external"))


@dataclass(frozen=True)
class _Folder:
    """A folder to be listed, with the rules that count in it, inner ones last."""

    path: str
    status: os.stat_result
    rules: tuple[IgnoreRules, ...]


class Walk:
    """Lists every folder once, in the order of the names' bytes.

    Left out are entries whose name begins with a dot, libraries, folders in which nothing is the
    owner's, and what the rules name, roots excepted. Links are followed, but wait until all real
    folders are listed: a file is known by its real place, and stays so when a link to it comes or
    goes.

    Args:
        roots: absolute paths of folders and files.
        on_files: called after every folder with the number of files found so far.
        is_known: whether a path was read before, so that its content need not be looked at.
        exclude: patterns of what to leave out below each root (``ignore_rules``).

    Attributes:
        files: by path.
        unreadable: paths named like a picture or film that are none, and folders that cannot be
            listed.
        passed_over: suffix -> how many files are neither pictures nor films.
        left_out: name of a folder, or source of a rule -> how many entries it left out.
        warnings: what the person should know.

    Raises:
        UsageError: a root cannot be looked at, or is neither a folder nor a file.
    """

    def __init__(
        self,
        roots: Iterable[str],
        on_files: Callable[[int], None] = lambda count: None,
        *,
        is_known: Callable[[str], bool] = lambda path: False,
        exclude: Sequence[str] = (),
    ) -> None:
        self.files: dict[str, Job] = {}
        self.unreadable: list[Failure] = []
        self.passed_over: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.warnings: list[str] = []
        self._is_known = is_known
        self._out_of_sight: list[str] = []
        self._ruled_out: set[str] = set()
        self._listed: dict[tuple[int, int], str] = {}
        self._names: dict[tuple[str, str], str] | None = None
        self._linked_files: list[tuple[str, os.stat_result, Kind | None]] = []
        tops: list[_Folder] = []
        given: list[IgnoreRules] = []
        for root in roots:
            try:
                status = os.stat(root)
            except OSError as error:
                raise UsageError(f"{root} cannot be read: {obstacle(error)}") from None
            if stat.S_ISDIR(status.st_mode):
                rules = (given_rules(root, exclude),) if exclude else ()
                given += rules
                tops.append(_Folder(root, status, rules))
            elif reason := not_a_file(status.st_mode):
                raise UsageError(f"{root}: {reason}")
            else:
                self.files.setdefault(root, Job(state_of(root, status), kind_of(root)))
        for top in tops:  # the links found on the way are appended while this runs
            self._descend(top, tops, on_files)
        self._take_linked_files()
        for pattern in dict.fromkeys(exclude):
            name = os.path.basename(pattern.rstrip("/"))
            is_hidden = name.startswith(".") and name not in (".", "..")
            if not is_hidden and all(pattern in rules.unseen() for rules in given):
                self.warnings.append(
                    f"--exclude {pattern} fits nothing below what was given: say a name (NAS/), a "
                    "path as it is on the disk, or a pattern from the folder that is indexed "
                    "(/2019/*/raw); what is given by itself is read in any case"
                )

    def is_out_of_sight(self, path: str) -> bool:
        """Whether the path could not be looked at, so that nothing is known of it."""
        return any(is_under(path, root) for root in self._out_of_sight)

    def is_ruled_out(self, path: str) -> bool:
        """Whether a person's rules leave out the path, or a folder above it."""
        if not self._ruled_out:
            return False
        while path not in self._ruled_out:
            parent = os.path.dirname(path)
            if parent == path:
                return False
            path = parent
        return True

    def listed_as(self, folder: str) -> str | None:
        """The name under which a folder was listed, whatever its name here; None if it was not."""
        try:
            status = os.stat(folder)
        except OSError:
            return None
        return self._listed.get((status.st_dev, status.st_ino))

    def is_renamed(self, path: str) -> bool:
        """Whether a folder shows a file under another name that its file system takes for this."""
        if self._names is None:
            self._names = {
                (os.path.dirname(file), _folded(os.path.basename(file))): file
                for file in self.files
            }
        other = self._names.get((os.path.dirname(path), _folded(os.path.basename(path))))
        return other is not None and other != path and _is_same(path, other)

    def _descend(self, top: _Folder, links: list[_Folder], on_files: Callable[[int], None]) -> None:
        folders = [top]
        while folders:
            folder = folders.pop()
            identity = (folder.status.st_dev, folder.status.st_ino)
            if identity in self._listed:
                continue
            self._listed[identity] = folder.path
            entries, rules = self._entries(folder)
            below: list[_Folder] = []
            for entry in entries:
                if self._is_left_out(entry, folder.path, rules):
                    continue
                if (found := self._look(entry)) is not None:
                    inner = _Folder(entry.path, found, rules)
                    (links if entry.is_symlink() else below).append(inner)
            folders.extend(reversed(below))
            on_files(len(self.files))

    def _entries(self, folder: _Folder) -> tuple[list[os.DirEntry[str]], tuple[IgnoreRules, ...]]:
        try:
            with os.scandir(folder.path) as entries:
                every = list(entries)
        except OSError as error:
            self._fail(folder.path, f"a folder that cannot be listed: {obstacle(error)}")
            self._out_of_sight.append(folder.path)
            return [], ()
        names = {entry.name for entry in every}
        if "items.lance" in names and "library.json" in names:  # a library by any other name
            return [], ()
        rules = folder.rules
        if FILE_NAME in names:
            try:
                # Rules of inner folders outweigh those of outer ones; those given by hand, all.
                given = [rule for rule in rules if rule.source == "--exclude"]
                rules = (*rules[: len(rules) - len(given)], read_rules(folder.path), *given)
            except NotNow as error:
                self.warnings.append(
                    f"{folder.path}/{FILE_NAME} is not heeded: {error}; what it leaves out is read"
                )
        shown = [entry for entry in every if not entry.name.startswith(".")]
        return sorted(shown, key=lambda entry: os.fsencode(entry.name)), rules

    def _is_left_out(
        self, entry: os.DirEntry[str], folder: str, rules: tuple[IgnoreRules, ...]
    ) -> bool:
        for rule in reversed(rules):
            verdict = rule.verdict(entry.path, is_folder=_is_folder(entry))
            if verdict:
                self.left_out[rule.source] += 1
                self._ruled_out.add(entry.path)
            if verdict is not None:
                return verdict
        name = entry.name.lower()
        is_waste = name in _LEFT_OUT or (
            name in _LEFT_OUT_OF_IT and folder.lower().endswith(_PHOTO_LIBRARY)
        )
        if is_waste and _is_folder(entry):
            self.left_out[entry.name] += 1
            return True
        return False

    def _look(self, entry: os.DirEntry[str]) -> os.stat_result | None:
        """Take a file in; give back the status of a folder that is to be listed."""
        kind = promise(entry.name)
        try:
            if kind == "other" and not entry.is_dir():
                self.passed_over[suffix_of(entry.name)] += 1
                return None
            status = entry.stat()
        except FileNotFoundError:
            # Anything but a link is merely gone since the folder was listed.
            if entry.is_symlink() and kind is not None:
                target = os.readlink(entry.path)
                self._fail(
                    entry.path, f"a link to {target}, which does not exist; mend or remove it"
                )
            return None
        except OSError as error:
            if error.errno != errno.ELOOP:
                self._fail(entry.path, str(obstacle(error)))
                self._out_of_sight.append(entry.path)
            elif kind is not None:
                self._fail(entry.path, "a link that leads back to itself; mend or remove it")
            return None
        if stat.S_ISDIR(status.st_mode):
            return None if entry.name.endswith(LIBRARY_SUFFIX) else status
        if kind == "other":  # a folder a moment ago
            return None
        if reason := not_a_file(status.st_mode):
            if kind is not None:
                self._fail(entry.path, reason)
        elif (
            kind is None
            and not self._is_known(entry.path)
            and not (kind := _kind_by_content(entry.path))
        ):
            self.passed_over[suffix_of(entry.name)] += 1
        elif entry.is_symlink():
            self._linked_files.append((entry.path, status, kind))
        else:
            self.files.setdefault(entry.path, Job(state_of(entry.path, status), kind))
        return None

    def _take_linked_files(self) -> None:
        """Links to files: a file has one name, its own where its folder was listed."""
        seen: set[str] = set()
        for path, status, kind in self._linked_files:
            real = os.path.realpath(path)
            if real in seen or self._name_of(real) in self.files:
                continue
            seen.add(real)
            self.files.setdefault(path, Job(state_of(path, status), kind))

    def _name_of(self, real: str) -> str:
        """The name under which a file was listed, if it was."""
        folder, name = os.path.split(real)
        return os.path.join(self.listed_as(folder) or folder, name)

    def _fail(self, path: str, reason: str) -> None:
        self.unreadable.append(Failure(FileState(path, 0, TRY_AGAIN_NS), reason))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _kind_by_content(path: str) -> Kind | None:
    try:
        with open_regular(path) as file:
            return content_kind(os.read(file, HEAD_BYTES))
    except NotNow:
        return None


def absolute(root: str | os.PathLike[str]) -> str:
    """A path as the library names it: absolute, ``~`` expanded, links kept as given.

    ``..`` is the folder above, where a link leads also of the link's target, as for the system.

    Raises:
        UsageError: it is empty, or relative to a folder that is gone.
    """
    path = os.path.expanduser(os.fspath(root))
    if not path:
        raise UsageError("an empty path names no file and no folder; say . for the current folder")
    if not path.startswith("/"):
        try:
            path = os.path.join(os.getcwd(), path)
        except FileNotFoundError:
            raise UsageError(
                f"{path} is relative, and the current folder is gone; give the whole path"
            ) from None
    plain = "/" + os.path.normpath(path).lstrip("/")
    names = path.split("/")
    if ".." in names and os.path.exists(path) and not _is_same(path, plain):
        last = len(names) - names[::-1].index("..")
        plain = os.path.join(os.path.realpath("/".join(names[:last])), *filter(None, names[last:]))
    return plain


def _is_same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def is_under(path: str, root: str) -> bool:
    """Whether an absolute path is ``root`` or stands somewhere below it."""
    return path == root or path.startswith(root if root.endswith("/") else root + "/")


def waste_above(path: str, root: str) -> str | None:
    """The name of a folder above ``path`` and below ``root`` that is left out by itself."""
    names = path[len(root) :].split("/")[:-1]
    return next((name for name in names if name.lower() in _LEFT_OUT), None)
