"""One name for a file that can be reached by several.

A root may be a link to a folder of another root, a disk may be mounted at two places, a link may
lead to a file that is known by its own place. The name a library knows a file by stays.
"""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Mapping

from maxsight.index.records import KnownItem
from maxsight.pipelines.decoding.orders import Job
from maxsight.pipelines.ingestion.walk import Walk


def known_names(walk: Walk, known: Mapping[str, KnownItem]) -> list[str]:
    """Give files of a walk the names by which a library knows them.

    Nothing is asked of the disk unless a new file is named, or looks (size and time), like a known
    one that the walk did not come upon.

    Returns:
        Folders, and files, that were walked under another name than this.
    """
    new = [path for path in walk.files if path not in known]
    if not new:
        return []
    others = [item for path, item in known.items() if path not in walk.files]
    folders = _known_folders(walk, known, new, others)
    for path in new:
        if (name := _renamed(path, folders)) is not None:
            _rename(walk, path, name)
    return [*folders.values(), *_known_files(walk, known, new, others)]


def _known_folders(
    walk: Walk, known: Mapping[str, KnownItem], new: list[str], others: list[KnownItem]
) -> dict[str, str]:
    """Walked folder -> the name by which its files are known."""
    names = {os.path.basename(path) for path in new}
    candidates = {
        os.path.dirname(item.state.path)
        for item in others
        if os.path.basename(item.state.path) in names
    }
    own = {os.path.dirname(path) for path in walk.files if path in known}
    found: dict[str, str] = {}
    for folder in sorted(candidates):
        walked = walk.listed_as(folder)
        if walked is not None and walked != folder and walked not in own:
            found.setdefault(walked, folder)
    return found


def _renamed(path: str, folders: Mapping[str, str]) -> str | None:
    folder = os.path.dirname(path)
    while folders and folder not in folders:
        if (above := os.path.dirname(folder)) == folder:
            return None
        folder = above
    return folders[folder] + path[len(folder) :] if folders else None


def _known_files(
    walk: Walk, known: Mapping[str, KnownItem], new: list[str], others: list[KnownItem]
) -> list[str]:
    """Rename single files that are known by the name of a link to them, or the reverse."""
    alike: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    for item in others:
        alike[item.state.bytes, item.state.mtime_ns].append(item.state.path)
    renamed = []
    for path in new:
        if (job := walk.files.get(path)) is None:
            continue
        for name in alike.get((job.state.bytes, job.state.mtime_ns), ()):
            if name not in walk.files and _is_same(path, name):
                _rename(walk, path, name)
                renamed.append(name)
                break
    return renamed


def _is_same(path: str, name: str) -> bool:
    """Whether both lead to one file; two hard links are two files with one content.

    A name that only differs in what a file system does not tell apart is an old name.
    """
    try:
        one, other = os.stat(path), os.stat(name)
    except OSError:
        return False
    if not os.path.samestat(one, other) or _is_old_name(path, name):
        return False
    return one.st_nlink == 1 or os.path.realpath(path) == os.path.realpath(name)


def _is_old_name(path: str, name: str) -> bool:
    """Whether the folder shows the file as ``path`` alone: ``name`` was its name, in other case."""
    return os.path.dirname(path) == os.path.dirname(name) and not os.path.islink(name)


def _rename(walk: Walk, path: str, name: str) -> None:
    job = walk.files.pop(path)
    walk.files[name] = Job(dataclasses.replace(job.state, path=name), job.kind)
