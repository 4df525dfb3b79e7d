"""What became of a library's files since the last run.

The scan is complete before anything is decoded: only then is it known what is gone, and a new file
can be a gone one that was moved. It costs one ``stat`` a file, and opens those alone whose name
says nothing of what they are.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from maxsight.errors import UsageError
from maxsight.index.records import Failure, KnownItem
from maxsight.pipelines.decoding.orders import Job
from maxsight.pipelines.ingestion.aliases import known_names
from maxsight.pipelines.ingestion.ignore_rules import FILE_NAME
from maxsight.pipelines.ingestion.walk import Walk, absolute, is_under, waste_above
from maxsight.pipelines.media.files import obstacle, state_of


@dataclass(frozen=True)
class Absent:
    """An item of which nothing is left where a whole folder is empty or not there.

    Attributes:
        folder: the outermost such folder, or a root.
    """

    item: KnownItem
    folder: str


@dataclass(frozen=True)
class ScanResult:
    """What a scan found; files are in the order of the walk.

    Attributes:
        new: files the library does not hold.
        changed: items whose file has another size or time.
        outdated: items whose file is as it was, but would be read in another way now.
        unchanged: how many items' files are as they were.
        gone: items whose file stood in a folder that still holds pictures or films, and is no more.
        absent: items whose folder is empty or gone, as an unmounted disk is: they may turn out to
            be moved, but must not be removed unasked.
        elsewhere: items that stand under no root.
        failing: files that could not be read before and have not changed since.
        unreadable: paths that cannot be opened at all.
        forgotten: paths whose recorded failure is void.
        passed_over: (suffix, count) of files that are neither pictures nor films, most first.
        left_out: (folder's name or source of a rule, count) of entries that do not count.
        warnings: what the person should know.
    """

    new: tuple[Job, ...]
    changed: tuple[tuple[KnownItem, Job], ...]
    outdated: tuple[tuple[KnownItem, Job], ...]
    unchanged: int
    gone: tuple[KnownItem, ...]
    absent: tuple[Absent, ...]
    elsewhere: tuple[KnownItem, ...]
    failing: tuple[Failure, ...]
    unreadable: tuple[Failure, ...]
    forgotten: tuple[str, ...]
    passed_over: tuple[tuple[str, int], ...]
    left_out: tuple[tuple[str, int], ...]
    warnings: tuple[str, ...]


def scan(
    roots: Iterable[str | os.PathLike[str]],
    known: Mapping[str, KnownItem],
    failures: Mapping[str, Failure],
    *,
    exclude: Sequence[str] = (),
    prune: bool = False,
    is_current: Callable[[KnownItem], bool] = lambda item: True,
    fails_again: Callable[[Failure], bool] = lambda failure: True,
    on_files: Callable[[int], None] = lambda count: None,
) -> ScanResult:
    """List the pictures and films under ``roots`` and compare them with what a library knows.

    Args:
        roots: folders (walked as ``Walk`` says) and single files, whatever their names. One that
            is not there, though the library knows files from it, is empty.
        known: the items of the library, by path.
        failures: what it could not read before, by path.
        exclude: patterns of what to leave out below the roots (``ignore_rules``).
        prune: folders that are empty or gone are meant to be: nothing is absent.
        is_current: whether an item was read as it would be now.
        fails_again: whether a file that did not change cannot be read now, either.
        on_files: called with the number of files found so far, now and then.

    Raises:
        UsageError: a root does not exist or cannot be read; a pattern says nothing.
    """
    given = list(dict.fromkeys(absolute(root) for root in roots))
    there, missing = _present(given, known, prune=prune)
    walk = Walk(
        there,
        on_files,
        is_known=lambda path: path in known or path in failures,
        exclude=exclude,
    )
    renamed = known_names(walk, known)
    looked_at = [*given, *renamed]

    lost: list[tuple[KnownItem, str]] = []
    gone: list[KnownItem] = []
    elsewhere: list[KnownItem] = []
    warnings = [*walk.warnings]
    ruled_out = unseen = 0
    waste: dict[str, int] = {}
    for path, item in known.items():
        if path in walk.files:
            continue
        if (root := _root_of(path, looked_at)) is None:
            elsewhere.append(item)
        elif walk.is_out_of_sight(path):
            continue
        elif walk.is_ruled_out(path):
            ruled_out += 1
            gone.append(item)
        else:
            try:
                job = _standing(item)
            except OSError:
                unseen += 1
                continue
            if job is None or walk.is_renamed(path):
                lost.append((item, root))
                continue
            walk.files[path] = job
            if (name := waste_above(path, root)) is not None:
                waste[name] = waste.get(name, 0) + 1

    absent: list[Absent] = []
    if lost:
        live = _folders_above(walk.files)
        for item, root in lost:
            if prune or (root not in missing and os.path.dirname(item.state.path) in live):
                gone.append(item)
            else:
                absent.append(Absent(item, _outermost(item.state.path, root, live)))

    new: list[Job] = []
    changed: list[tuple[KnownItem, Job]] = []
    outdated: list[tuple[KnownItem, Job]] = []
    failing: list[Failure] = []
    forgotten: list[str] = []
    unchanged = 0
    for path, job in walk.files.items():
        failure, former = failures.get(path), known.get(path)
        if former is not None and former.state == job.state and is_current(former):
            unchanged += 1
            if failure is not None:  # of a state, or a way to read it, that is no more
                forgotten.append(path)
        elif failure is not None and failure.state == job.state and fails_again(failure):
            failing.append(failure)
        elif former is None:
            new.append(job)
        elif former.state != job.state:
            changed.append((former, job))
        else:
            outdated.append((former, job))

    if ruled_out:
        warnings.append(
            f"{ruled_out:,} files were taken out of the library, because {FILE_NAME} or --exclude "
            "names them now"
        )
    for name, count in waste.items():
        warnings.append(
            f"{count:,} files of the library stand in folders named {name}, which are left out "
            f"now, and were kept; take them out with: --exclude '{name}/'"
        )
    if unseen:
        warnings.append(
            f"{unseen:,} files of the library cannot be looked at now (the disk or the rights to "
            "it refuse) and were kept as they are"
        )
    # A failure of a file that is tried again now is struck when the file has been read.
    unreadable = {failure.state.path for failure in walk.unreadable}
    kept = {item.item.state.path for item in absent}
    forgotten += [
        path
        for path in failures
        if path not in walk.files
        and path not in unreadable
        and path not in kept
        and _root_of(path, looked_at) is not None
        and not walk.is_out_of_sight(path)
    ]
    return ScanResult(
        new=tuple(new),
        changed=tuple(changed),
        outdated=tuple(outdated),
        unchanged=unchanged,
        gone=tuple(gone),
        absent=tuple(absent),
        elsewhere=tuple(elsewhere),
        failing=tuple(failing),
        unreadable=tuple(walk.unreadable),
        forgotten=tuple(forgotten),
        passed_over=tuple(walk.passed_over.most_common()),
        left_out=tuple(walk.left_out.most_common()),
        warnings=tuple(warnings),
    )


def _present(
    given: list[str], known: Mapping[str, KnownItem], *, prune: bool
) -> tuple[list[str], set[str]]:
    """The roots that are there, and those that are not, of which the library knows files.

    Raises:
        UsageError: one is not there that the library knows nothing of, or all are not there and
            that is not meant.
    """
    there = []
    missing = {}
    for root in given:
        try:
            os.stat(root)
        except (FileNotFoundError, NotADirectoryError):
            count = sum(is_under(path, root) for path in known)
            if not count:
                raise UsageError(f"{root} does not exist; give folders or files that do") from None
            missing[root] = count
        except OSError as error:
            raise UsageError(f"{root} cannot be read: {obstacle(error)}") from None
        else:
            there.append(root)
    if missing and not there and not prune:
        root, count = next(iter(missing.items()))
        raise UsageError(absence(root, count, is_folder_there=False))
    return there, set(missing)


def absence(root: str, count: int, *, is_folder_there: bool) -> str:
    """What a person should know of files that are absent."""
    what = "holds no picture or film now" if is_folder_there else "does not exist"
    return (
        f"{root} {what}, but the library knows {count:,} from there. Nothing was removed, in case "
        f"a disk is not mounted. If they have another place now: maxsight relocate LIBRARY {root} "
        f"NEW; if they are gone for good: maxsight index LIBRARY {root} --prune"
    )


def _root_of(path: str, given: list[str]) -> str | None:
    """The innermost root a path stands under."""
    return max((root for root in given if is_under(path, root)), key=len, default=None)


def _standing(item: KnownItem) -> Job | None:
    """A known file that a walk does not come upon, having been given as a root of its own, say.

    Raises:
        OSError: it cannot be told whether it is there.
    """
    try:
        status = os.stat(item.state.path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return Job(state_of(item.state.path, status), item.kind)


def _folders_above(files: Iterable[str]) -> set[str]:
    """Every folder in which, or below which, one of the files stands."""
    live: set[str] = set()
    for path in files:
        folder = os.path.dirname(path)
        while folder not in live:
            live.add(folder)
            folder = os.path.dirname(folder)
    return live


def _outermost(path: str, root: str, live: set[str]) -> str:
    """The outermost folder above ``path``, from ``root`` on, that holds nothing."""
    found = root
    folder = os.path.dirname(path)
    while is_under(folder, root) and folder not in live:
        found = folder
        folder = os.path.dirname(folder)
    return found
