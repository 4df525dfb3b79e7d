"""Which new and changed files are old acquaintances: moved, copied, or touched without a change.

Their content is hashed and nothing decoded, so neither encoder nor decoders need to start for them.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from maxsight.errors import MediaError
from maxsight.index.records import FileState, Kind, KnownItem
from maxsight.pipelines.content import hash_file
from maxsight.pipelines.messages import Job
from maxsight.pipelines.scan import ScanResult


@dataclass(frozen=True)
class Confirmed:
    """What has to be done about a scan's findings.

    Attributes:
        moved, touched: items whose content is as it was, with their file's new state.
        copied: items that hold what a new file holds, with that file.
        alike: new files that hold what a file of ``to_read`` with a name of that kind holds, with
            the hash of it.
        removed: ids of items whose file is gone.
        to_read: files to decode and encode.
    """

    moved: tuple[tuple[int, FileState], ...]
    touched: tuple[tuple[int, FileState], ...]
    copied: tuple[tuple[int, Job], ...]
    alike: tuple[tuple[str, Job], ...]
    removed: tuple[int, ...]
    to_read: tuple[Job, ...]


def confirm(
    scanned: ScanResult,
    *,
    held: Sequence[KnownItem] = (),
    threads: int = 2,
    on_hashed: Callable[[int, int], None] = lambda done, total: None,
) -> Confirmed:
    """Compare contents where sizes agree.

    A changed file that holds what it held is touched. A new file that holds what a gone one held is
    that one, moved; of several gone ones with that content, one of the same name is preferred. If
    there is none, a new file that holds what another item holds is a copy. Of new files that hold
    the same, one is read.

    Args:
        held: items whose vectors a copy can take over.
        threads: that read and hash.
        on_hashed: called with the number of files hashed and to be hashed.
    """
    lost: dict[int, list[KnownItem]] = defaultdict(list)
    for item in (*scanned.gone, *scanned.absent):
        lost[item.state.bytes].append(item)
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
    to_read: list[Job] = []
    firsts: set[tuple[str, Kind | None]] = set()
    for item, job in scanned.changed:
        content_hash, state = hashes.get(job.path, (None, job.state))
        if content_hash == item.content_hash:
            touched.append((item.item_id, state))
        else:
            to_read.append(job)
    for job in scanned.new:
        content_hash, state = hashes.get(job.path, (None, job.state))
        twins = [item for item in lost[state.bytes] if item.content_hash == content_hash]
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
        twin = min(twins, key=lambda item: not _same_name(item.state.path, job.path))
        lost[state.bytes].remove(twin)
        moved.append((twin.item_id, state))

    found_again = {item_id for item_id, _ in moved}
    return Confirmed(
        moved=tuple(moved),
        touched=tuple(touched),
        copied=tuple(copied),
        alike=tuple(alike),
        removed=tuple(item.item_id for item in scanned.gone if item.item_id not in found_again),
        to_read=tuple(to_read),
    )


def _hash(job: Job) -> tuple[str, FileState] | None:
    try:
        return hash_file(job.path)
    except MediaError:
        return None  # the decoder will meet the same obstacle, and records it


def _same_name(path: str, other: str) -> bool:
    return os.path.basename(path) == os.path.basename(other)
