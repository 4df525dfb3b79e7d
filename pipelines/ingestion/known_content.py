"""Which new and changed files are old acquaintances: moved, copied, or touched without a change.

Their content is hashed and nothing decoded, so neither encoder nor decoders need to start for them.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from maxsight.errors import MediaError
from maxsight.index.records import FileState, Kind, KnownItem
from maxsight.pipelines.decoding.orders import Job
from maxsight.pipelines.ingestion.scan import Absent, ScanResult, absence
from maxsight.pipelines.media.files import hash_file

# Folders that warnings name, one by one.
_NAMED = 10


@dataclass(frozen=True)
class Confirmed:
    """What has to be done about a scan's findings.

    Attributes:
        moved, touched: items whose content is as it was, with their file's new state.
        copied: items that hold what a new or changed file holds, with that file.
        alike: new files that hold what a file of ``to_read`` with a name of that kind holds, with
            the hash of it.
        removed: ids of items whose file is gone, or overwritten by another known one.
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
    removed: Sequence[KnownItem] = (),
    annotated: Container[int] = frozenset(),
    is_current: Callable[[KnownItem], bool] = lambda item: True,
    threads: int = 2,
    on_hashed: Callable[[int, int], None] = lambda done, total: None,
) -> Confirmed:
    """Compare contents where sizes agree.

    A changed file that holds what it held is touched. A new file that holds what a gone one held is
    that one, moved, whatever root it stood under; of several gone ones with that content, the one
    whose path ends most alike is preferred. If there is none, a new file that holds what another
    item holds is a copy. Of new files that hold the same, one is read. Known files that exchanged
    their names, or were renamed over one another, have moved (``_exchanged``); else a changed file
    stays the item that it is, and takes over what another item holds if it holds the same now.

    Args:
        held: the items of the library.
        removed: items that left it, whose vectors a copy can take over, too.
        annotated: ids of items of which a person has noted something.
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
    sources = [item for item in (*removed, *held) if is_current(item)]
    models = {(item.content_hash, item.kind): item.item_id for item in sources}
    sizes = {item.state.bytes for item in (*removed, *held)} | lost.keys()
    suspects = [
        job
        for item, job in scanned.changed
        if item.state.bytes == job.state.bytes or job.state.bytes in sizes
    ]
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
    displaced: list[tuple[KnownItem, Job]] = []
    for item, job in scanned.changed:
        content_hash, state = hashes.get(job.path, (None, job.state))
        if content_hash != item.content_hash:
            displaced.append((item, job))
        elif is_current(item):
            touched.append((item.item_id, state))
        else:
            to_read.append(job)
    spots: defaultdict[str, list[str]] = defaultdict(list)
    for job in (*(job for _, job in displaced), *scanned.new):
        if job.path in hashes:
            spots[hashes[job.path][0]].append(job.path)
    movers = _exchanged(
        {job.path: item for item, job in displaced},
        scanned.gone,
        spots,
        before=Counter(item.content_hash for item in held),
        annotated=annotated,
    )
    away = {item.item_id for item in movers.values()}
    for item in movers.values():
        if item in lost[item.state.bytes]:
            lost[item.state.bytes].remove(item)
    given_up: list[int] = []
    fresh: list[Job] = []
    for owner, job in displaced:
        if owner.item_id not in away and job.path in movers:
            given_up.append(owner.item_id)
        if owner.item_id in away or job.path in movers:
            fresh.append(job)
            continue
        content_hash, state = hashes.get(job.path, (None, job.state))
        if (source := _source(models, content_hash, job.kind)) is not None:
            copied.append((source, dataclasses.replace(job, state=state)))
        else:
            to_read.append(job)
    for job in (*fresh, *scanned.new):
        content_hash, state = hashes.get(job.path, (None, job.state))
        if (mover := movers.get(job.path)) is not None:
            moved.append((mover.item_id, state))
            if not is_current(mover):
                to_read.append(dataclasses.replace(job, state=state))
            continue
        twins = [item for item in lost[state.bytes] if item.content_hash == content_hash]
        if not twins and content_hash is not None:
            twins = [item for item in elsewhere[content_hash] if _is_gone(item.state.path)]
        if not twins and content_hash is not None:
            job = dataclasses.replace(job, state=state)
            if (source := _source(models, content_hash, job.kind)) is not None:
                copied.append((source, job))
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
        removed=(
            *(item.item_id for item in scanned.gone if item.item_id not in found_again),
            *given_up,
        ),
        to_read=tuple(to_read),
        warnings=_warnings([one for one in scanned.absent if one.item.item_id not in found_again]),
    )


def _exchanged(
    displaced: Mapping[str, KnownItem],
    gone: Sequence[KnownItem],
    spots: Mapping[str, Sequence[str]],
    *,
    before: Mapping[str, int],
    annotated: Container[int],
) -> dict[str, KnownItem]:
    """Which known items stand under the name of another one now: path -> item.

    Only contents that one item held, and one path holds now, tell where an item went. An item
    leaves its path only where that is certain to hold another picture: one that was known before,
    or any if the item whose name it took moved on, too. (A program that edits a picture may keep
    the original under another name; what is noted stays with the picture that is in use.) What a
    person noted of an item that is overwritten goes only if its content is gone, and if the item
    that takes its place has notes of its own.

    Args:
        displaced: items whose path holds something else now, by path.
        gone: items whose path is no more.
        spots: content hash -> paths that hold it since now.
        before: content hash -> how many items held it.
    """

    def candidates(item: KnownItem) -> Sequence[str]:
        paths = spots.get(item.content_hash, ())
        return paths if before.get(item.content_hash) == len(paths) == 1 else ()

    movers = {path: item for item in displaced.values() for path in candidates(item)}
    movers |= {path: item for item in gone for path in candidates(item) if path in displaced}
    while True:
        away = {item.item_id for item in movers.values()}

        def may_move(path: str, item: KnownItem, away: set[int] = away) -> bool:
            owner = displaced.get(path)
            moves_on = owner is not None and owner.item_id in away
            if item.state.path in displaced and item.state.path not in movers and not moves_on:
                return False
            if owner is None or moves_on or owner.item_id not in annotated:
                return True
            is_lost = before[owner.content_hash] == 1 and not spots.get(owner.content_hash)
            return is_lost and item.item_id in annotated

        refused = [path for path, item in movers.items() if not may_move(path, item)]
        if not refused:
            return movers
        for path in refused:
            del movers[path]


def _source(
    models: Mapping[tuple[str, Kind], int], content_hash: str | None, kind: Kind | None
) -> int | None:
    """The id of an item that holds this content, of a kind that the file may be of."""
    if content_hash is None:
        return None
    kinds: list[Kind] = [kind] if kind else ["image", "video"]
    return next((models[content_hash, k] for k in kinds if (content_hash, k) in models), None)


def _warnings(absent: Sequence[Absent]) -> tuple[str, ...]:
    counts = Counter(one.folder for one in absent)
    told = [
        absence(folder, count, is_folder_there=os.path.isdir(folder))
        for folder, count in counts.most_common(_NAMED)
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
