"""Which new and changed files are old acquaintances: moved, copied, or touched without a change.

Their content is hashed and nothing decoded, so neither encoder nor decoders need to start for them.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from maxsight.errors import MediaError
from maxsight.index.records import FileState, Kind, KnownItem
from maxsight.pipelines.content import hash_file
from maxsight.pipelines.messages import Job
from maxsight.pipelines.scan import Absent, ScanResult, absence

# Folders that warnings name, one by one.
_NAMED = 10


@dataclass(frozen=True)
class Confirmed:
    """What has to be done about a scan's findings.

    Attributes:
        moved, touched: items whose content is as it was, with their file's new state.
        copied: items that hold what a new file holds, with that file.
        alike: new files that hold what a file of ``to_read`` with a name of that kind holds, with
            the hash of it.
        removed: ids of items whose file is gone.
        warnings: of what is absent.
        to_read: files to decode and encode.
    """

    moved: tuple[tuple[int, FileState], ...]
    touched: tuple[tuple[int, FileState], ...]
    copied: tuple[tuple[int, Job], ...]
    alike: tuple[tuple[str, Job], ...]
    removed: tuple[int, ...]
    to_read: tuple[Job, ...]
    warnings: tuple[str, ...] = ()


def confirm(
    scanned: ScanResult,
    *,
    held: Sequence[KnownItem] = (),
    is_current: Callable[[KnownItem], bool] = lambda item: True,
    threads: int = 2,
    on_hashed: Callable[[int, int], None] = lambda done, total: None,
) -> Confirmed:
    """Compare contents where sizes agree.

    A changed file that holds what it held is touched. A new file that holds what a gone one held is
    that one, moved, whatever root it stood under; of several gone ones with that content, the one
    whose path ends most alike is preferred. If there is none, a new file that holds what another
    item holds is a copy. Of new files that hold the same, one is read.

    Args:
        held: items whose vectors a copy can take over.
        is_current: whether an item was read as it would be now; if not, its file is read, moved
            or not, and no copy takes its vectors over.
        threads: that read and hash.
        on_hashed: called with the number of files hashed and to be hashed.
    """
    lost: dict[int, list[KnownItem]] = defaultdict(list)
    for item in (*scanned.gone, *(absent.item for absent in scanned.absent)):
        lost[item.state.bytes].append(item)
    elsewhere: dict[str, list[KnownItem]] = defaultdict(list)
    for item in scanned.elsewhere:
        elsewhere[item.content_hash].append(item)
    held = [item for item in held if is_current(item)]
    models = {(item.content_hash, item.kind): item.item_id for item in held}
    sizes = {item.state.bytes for item in held} | lost.keys()
    suspects = [job for item, job in scanned.changed if item.state.bytes == job.state.bytes]
    new = Counter(job.state.bytes for job in scanned.new)
    suspects += [job for job in scanned.new if job.state.bytes in sizes or new[job.state.bytes] > 1]
    hashes: dict[str, tuple[str, FileState]] = {}
    with ThreadPoolExecutor(threads, thread_name_prefix="hash") as pool:
        try:
            for done, (job, found) in enumerate(zip(suspects, pool.map(_hash, suspects)), 1):
                if found is not None:
                    hashes[job.path] = found
                on_hashed(done, len(suspects))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C waits for one file at most

    moved: list[tuple[int, FileState]] = []
    touched: list[tuple[int, FileState]] = []
    copied: list[tuple[int, Job]] = []
    alike: list[tuple[str, Job]] = []
    to_read = [job for _, job in scanned.outdated]
    firsts: set[tuple[str, Kind | None]] = set()
    for item, job in scanned.changed:
        content_hash, state = hashes.get(job.path, (None, job.state))
        if content_hash == item.content_hash and is_current(item):
            touched.append((item.item_id, state))
        else:
            to_read.append(job)
    for job in scanned.new:
        content_hash, state = hashes.get(job.path, (None, job.state))
        twins = [item for item in lost[state.bytes] if item.content_hash == content_hash]
        if not twins and content_hash is not None:
            twins = [item for item in elsewhere[content_hash] if _is_gone(item.state.path)]
        if not twins and content_hash is not None:
            job = dataclasses.replace(job, state=state)
            kinds: list[Kind] = [job.kind] if job.kind else ["image", "video"]
            held_by = [models[content_hash, k] for k in kinds if (content_hash, k) in models]
            if held_by:
                copied.append((held_by[0], job))
                continue
            if (content_hash, job.kind) in firsts:
                alike.append((content_hash, job))
                continue
            firsts.add((content_hash, job.kind))
        if not twins:
            to_read.append(job)
            continue
        twin = max(twins, key=lambda item: _kinship(item.state.path, job.path))
        home = lost[state.bytes] if twin in lost[state.bytes] else elsewhere[twin.content_hash]
        home.remove(twin)
        moved.append((twin.item_id, state))
        if not is_current(twin):
            to_read.append(dataclasses.replace(job, state=state))

    found_again = {item_id for item_id, _ in moved}
    return Confirmed(
        moved=tuple(moved),
        touched=tuple(touched),
        copied=tuple(copied),
        alike=tuple(alike),
        removed=tuple(item.item_id for item in scanned.gone if item.item_id not in found_again),
        to_read=tuple(to_read),
        warnings=_warnings([one for one in scanned.absent if one.item.item_id not in found_again]),
    )


def _warnings(absent: Sequence[Absent]) -> tuple[str, ...]:
    counts = Counter(one.place for one in absent)
    told = [
        absence(place, count, is_folder_there=os.path.isdir(place))
        for place, count in counts.most_common(_NAMED)
    ]
    if (more := len(counts) - _NAMED) > 0:
        rest = sum(count for _, count in counts.most_common()[_NAMED:])
        told.append(f"{more:,} more folders are like that, of which the library knows {rest:,}")
    return tuple(told)


def _hash(job: Job) -> tuple[str, FileState] | None:
    try:
        return hash_file(job.path)
    except MediaError:
        return None  # the decoder will meet the same obstacle, and records it


def _is_gone(path: str) -> bool:
    """Whether it is certain that nothing is there."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass
    return False


def _kinship(path: str, other: str) -> int:
    """How many names at the ends of two paths are the same."""
    pairs = zip(reversed(path.split("/")), reversed(other.split("/")))
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
