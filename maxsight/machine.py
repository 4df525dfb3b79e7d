"""What this process may use of the machine, control groups (containers) included."""

from __future__ import annotations

import os
from pathlib import Path


def usable_cores() -> float:
    """Cores this process may use at once: its affinity, capped by its control group's quota."""
    cores = float(len(os.sched_getaffinity(0)))
    for folder in _control_groups("cpu"):
        quota = first_line(folder / "cpu.max").split()  # version 2: "200000 100000", "max 100000"
        if not quota:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            quota = [line for line in (first_line(folder / name) for name in names) if line]
        if len(quota) == 2 and quota[0].isdecimal() and int(quota[1]):
            cores = min(cores, int(quota[0]) / int(quota[1]))
    return cores


def threads() -> int:
    """Threads for arithmetic: the cores this process is let on, or fewer by ``OMP_NUM_THREADS``."""
    cores, asked = len(os.sched_getaffinity(0)), os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(asked)) if asked.isdecimal() and int(asked) else cores


def available_memory() -> tuple[int, int]:
    """Bytes of memory available and the most this process may use, control groups included."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if " kB" in line}
    available, limit = sizes["MemAvailable"], sizes["MemTotal"]
    names = (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    )
    for folder in _control_groups("memory"):
        for maximum, used in names:
            ceiling, current = first_line(folder / maximum), first_line(folder / used)
            if ceiling.isdecimal() and current.isdecimal() and int(ceiling) < sizes["MemTotal"]:
                limit = min(limit, int(ceiling))
                taken = max(0, int(current) - file_cache(folder))
                available = min(available, int(ceiling) - taken)
    return available, limit


def file_cache(control_group: Path) -> int:
    """Bytes of a control group's memory that hold files, which the kernel gives back on demand.

    Without them a container that has read many files would seem to have nothing left.
    """
    try:
        lines = (control_group / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    sizes = dict(line.split(maxsplit=1) for line in lines if len(line.split()) == 2)
    return int(sizes.get("total_inactive_file", sizes.get("inactive_file", "0")))


def resident_memory() -> int:
    """Bytes of memory this process holds that are its own, not those of mapped files."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def first_line(path: str | Path) -> str:
    """A file of the kernel's; nothing if it is not there or not to be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
    except OSError:
        return ""


def _control_groups(controller: str) -> list[Path]:
    """The folders whose limits bind this process, its own and every one above, both versions."""
    root = Path("/sys/fs/cgroup")
    folders = [root, root / controller]
    try:
        memberships = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return folders
    for line in memberships:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / controller if controllers else root
        own = top / path.lstrip("/")
        folders += [own, *(parent for parent in own.parents if parent.is_relative_to(top))]
    return folders
