"""Which processes run, and which of them a process started. Linux only: it reads ``/proc``."""

from __future__ import annotations

from pathlib import Path

# A process by number and start time: numbers are used again.
Process = tuple[int, str]


def descendants(parent: int) -> set[Process]:
    """The children of a process, theirs, and so on."""
    alive = running()
    found: set[Process] = set()
    parents = {parent}
    while parents:
        children = {process for process, above in alive.items() if above in parents} - found
        found |= children
        parents = {pid for pid, _ in children}
    return found


def running() -> dict[Process, int]:
    """Every process that is no zombie -> the number of its parent."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            # After the command's name, which may hold anything: state, parent, ..., start time.
            fields = status.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] != "Z":
            found[int(status.parent.name), fields[19]] = int(fields[1])
    return found
