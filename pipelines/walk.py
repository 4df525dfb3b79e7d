"""The pictures and films under folders, listed without opening one."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable

from maxsight.errors import UsageError
from maxsight.index.records import Failure, FileState
from maxsight.pipelines.content import not_a_file, obstacle, state_of
from maxsight.pipelines.formats import kind_of
from maxsight.pipelines.messages import Job

LIBRARY_SUFFIX = ".maxsight"

# The modification time in the record of a failure that does not depend on the file alone (rights,
# settings, codecs). No file has it, so the path is tried again at every run.
TRY_AGAIN_NS = -1


class Walk:
    """Lists every folder once, in the order of the names' bytes.

    Hidden entries and ``*.maxsight`` folders are left out, roots excepted. Links are followed, but
    wait until all real folders are listed: a file is known by its real place, and stays so when a
    link to it comes or goes.

    Args:
        roots: absolute paths of folders and files.
        on_files: called after every folder with the number of files found so far.

    Attributes:
        files: by path.
        unreadable: paths named like a picture or film that are none, and folders that cannot be
            listed.

    Raises:
        UsageError: a root does not exist, or is neither a folder nor a file.
    """

    def __init__(self, roots: Iterable[str], on_files: Callable[[int], None]) -> None:
        self.files: dict[str, Job] = {}
        self.unreadable: list[Failure] = []
        self._out_of_sight: list[str] = []
        self._listed: set[tuple[int, int]] = set()
        tops: list[tuple[str, os.stat_result]] = []
        for root in roots:
            try:
                status = os.stat(root)
            except OSError as error:
                raise UsageError(_missing_root(root, error)) from None
            if stat.S_ISDIR(status.st_mode):
                tops.append((root, status))
            elif reason := not_a_file(status.st_mode):
                raise UsageError(f"{root}: {reason}")
            else:
                self.files.setdefault(root, Job(state_of(root, status), kind_of(root)))
        for top in tops:  # the links found on the way are appended while this runs
            self._descend(top, tops, on_files)

    def is_out_of_sight(self, path: str) -> bool:
        """Whether the path could not be looked at, so that nothing is known of it."""
        return any(is_under(path, place) for place in self._out_of_sight)

    def _descend(
        self,
        top: tuple[str, os.stat_result],
        links: list[tuple[str, os.stat_result]],
        on_files: Callable[[int], None],
    ) -> None:
        folders = [top]
        while folders:
            folder, status = folders.pop()
            identity = (status.st_dev, status.st_ino)
            if identity in self._listed:
                continue
            self._listed.add(identity)
            below: list[tuple[str, os.stat_result]] = []
            for entry in self._entries(folder):
                if (found := self._look(entry)) is not None:
                    (links if entry.is_symlink() else below).append((entry.path, found))
            folders.extend(reversed(below))
            on_files(len(self.files))

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                shown = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            self._fail(folder, f"a folder that cannot be listed: {obstacle(error)}")
            self._out_of_sight.append(folder)
            return []
        return sorted(shown, key=lambda entry: os.fsencode(entry.name))

    def _look(self, entry: os.DirEntry[str]) -> os.stat_result | None:
        """Take a file in; give back the status of a folder that is to be listed."""
        kind = kind_of(entry.name)
        try:
            if kind is None and not entry.is_dir():
                return None
            status = entry.stat()
        except FileNotFoundError:
            if entry.is_symlink():  # anything else is merely gone since the folder was listed
                target = os.readlink(entry.path)
                self._fail(
                    entry.path, f"a link to {target}, which does not exist; mend or remove it"
                )
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                self._fail(entry.path, "a link that leads back to itself; mend or remove it")
            else:
                self._fail(entry.path, str(obstacle(error)))
                self._out_of_sight.append(entry.path)
            return None
        if stat.S_ISDIR(status.st_mode):
            return None if entry.name.endswith(LIBRARY_SUFFIX) else status
        if reason := not_a_file(status.st_mode):
            self._fail(entry.path, reason)
        else:
            self.files.setdefault(entry.path, Job(state_of(entry.path, status), kind))
        return None

    def _fail(self, path: str, reason: str) -> None:
        self.unreadable.append(Failure(FileState(path, 0, TRY_AGAIN_NS), reason))


def absolute(root: str | os.PathLike[str]) -> str:
    """A root as the library names it: absolute, ``~`` expanded, links kept as given."""
    return os.path.abspath(os.path.expanduser(os.fspath(root)))


def is_under(path: str, place: str) -> bool:
    """Whether an absolute path is ``place`` or stands somewhere below it."""
    return path == place or path.startswith(place if place.endswith("/") else place + "/")


def _missing_root(root: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return (
            f"{root} does not exist; give folders or files that do. If it was deleted, take what "
            f"the library holds from there out with: maxsight remove LIBRARY {root}"
        )
    return f"{root} cannot be read: {obstacle(error)}"
