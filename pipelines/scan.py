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

from maxsight.index.records import Failure, KnownItem
from maxsight.pipelines.content import state_of
from maxsight.pipelines.ignore_rules import FILE_NAME
from maxsight.pipelines.messages import Job
from maxsight.pipelines.walk import Walk, absolute, is_under


@dataclass(frozen=True)
class ScanResult:
    """What a scan found; files are in the order of the walk.

    Attributes:
        new: files the library does not hold.
        changed: items whose file has another size or time.
        unchanged: how many items' files are as they were.
        gone: items whose file stood under a root and is no more.
        absent: items under a root that now holds no picture or film at all, as an unmounted disk
            does: they may turn out to be moved, but must not be removed.
        failing: files that could not be read before and have not changed since.
        unreadable: paths that cannot be opened at all.
        forgotten: paths whose recorded failure is void.
        passed_over: (suffix, count) of files that are neither pictures nor films, most first.
        left_out: (folder's name or source of a rule, count) of entries that do not count.
        warnings: what the person should know.
    """

    new: tuple[Job, ...]
    changed: tuple[tuple[KnownItem, Job], ...]
    unchanged: int
    gone: tuple[KnownItem, ...]
    absent: tuple[KnownItem, ...]
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
    on_files: Callable[[int], None] = lambda count: None,
) -> ScanResult:
    """List the pictures and films under ``roots`` and compare them with what a library knows.

    Args:
        roots: folders (walked as ``Walk`` says) and single files, whatever their names.
        known: the items of the library, by path.
        failures: what it could not read before, by path.
        exclude: patterns of what to leave out below the roots (``ignore_rules``).
        on_files: called with the number of files found so far, now and then.

    Raises:
        UsageError: a root does not exist or cannot be read; a pattern says nothing.
    """
    places = list(dict.fromkeys(absolute(root) for root in roots))
    walk = Walk(
        places,
        on_files,
        is_known=lambda path: path in known or path in failures,
        exclude=exclude,
    )
    empty = [place for place in places if not any(is_under(path, place) for path in walk.files)]

    gone: list[KnownItem] = []
    absent: list[KnownItem] = []
    missing = dict.fromkeys(empty, 0)
    ruled_out = 0
    for path, item in known.items():
        if path in walk.files or (place := _place_of(path, places)) is None:
            continue
        if walk.is_out_of_sight(path):
            continue
        if walk.is_ruled_out(path):
            ruled_out += 1
            gone.append(item)
        elif (job := _standing(item)) is not None:
            walk.files[path] = job
        elif place in missing:
            missing[place] += 1
            absent.append(item)
        else:
            gone.append(item)

    new: list[Job] = []
    changed: list[tuple[KnownItem, Job]] = []
    failing: list[Failure] = []
    unchanged = 0
    for path, job in walk.files.items():
        failure, former = failures.get(path), known.get(path)
        if failure is not None and failure.state == job.state:
            failing.append(failure)
        elif former is None:
            new.append(job)
        elif former.state == job.state:
            unchanged += 1
        else:
            changed.append((former, job))

    warnings = [*walk.warnings]
    warnings += [_warning(place, count) for place, count in missing.items() if count]
    if ruled_out:
        warnings.append(
            f"{ruled_out:,} files were taken out of the library, because {FILE_NAME} or --exclude "
            "names them now"
        )
    # A failure of a file that is tried again now is struck when the file has been read.
    unreadable = {failure.state.path for failure in walk.unreadable}
    forgotten = [
        path
        for path in failures
        if path not in walk.files
        and path not in unreadable
        and _place_of(path, places) is not None
        and not walk.is_out_of_sight(path)
    ]
    return ScanResult(
        new=tuple(new),
        changed=tuple(changed),
        unchanged=unchanged,
        gone=tuple(gone),
        absent=tuple(absent),
        failing=tuple(failing),
        unreadable=tuple(walk.unreadable),
        forgotten=tuple(forgotten),
        passed_over=tuple(walk.passed_over.most_common()),
        left_out=tuple(walk.left_out.most_common()),
        warnings=tuple(warnings),
    )


def _place_of(path: str, places: list[str]) -> str | None:
    """The innermost root a path stands under."""
    return max((place for place in places if is_under(path, place)), key=len, default=None)


def _standing(item: KnownItem) -> Job | None:
    """A known file that a walk does not come upon, having been given as a root of its own, say."""
    try:
        status = os.stat(item.state.path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return Job(state_of(item.state.path, status), item.kind)


def _warning(place: str, count: int) -> str:
    return (
        f"{place} holds no picture or film, but the library knows {count:,} from there. Nothing "
        "was removed, in case a disk is not mounted. If they are gone for good: "
        f"maxsight remove LIBRARY {place}"
    )
