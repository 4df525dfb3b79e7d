"""Processors and memory."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

from maxsight.doctor.finding import Finding
from maxsight.doctor.packages import try_import
from maxsight.machine import available_memory, first_line, usable_cores

_TELLING_FLAGS = (
    ("avx2", "AVX2"),
    ("avx512f", "AVX-512"),
    ("avx512_bf16", "AVX-512 bf16"),
    ("avx512_vnni", "AVX-512 VNNI"),
    ("amx_bf16", "AMX bf16"),
    ("amx_int8", "AMX int8"),
    ("asimd", "NEON"),
    ("sve", "SVE"),
    ("bf16", "bf16"),
    ("i8mm", "int8 matrices"),
)
_GIB = 2**30


def cpu() -> Iterator[Finding]:
    """The processor, as far as it decides about speed."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    facts: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    known = [label for flag, label in _TELLING_FLAGS if flag in flags]
    name = facts.get("model name", platform.machine())
    cores = usable_cores()
    yield Finding("cpu", "ok", f"{name}, {cores:g} usable cores, {', '.join(known) or 'plain'}")
    if platform.machine() == "x86_64" and "avx2" not in flags:
        yield Finding(
            "cpu",
            "warning",
            "no AVX2: encoding and search run several times slower than on a newer processor",
            "run on a newer machine, or let the hypervisor pass the host's CPU flags through",
        )


def gpu() -> Iterator[Finding]:
    """CUDA devices, or why there are none."""
    torch = try_import("torch")
    if isinstance(torch, str):
        yield Finding("gpu", "warning", "not looked at, because torch does not load")
        return
    count = torch.cuda.device_count()
    driver: str = first_line("/proc/driver/nvidia/version")
    for number in range(count):
        properties = torch.cuda.get_device_properties(number)
        yield Finding(
            "gpu",
            "ok",
            f"cuda:{number} {properties.name}, {properties.total_memory / _GIB:.0f} GiB, "
            f"compute capability {properties.major}.{properties.minor}; torch is built for CUDA "
            f"{torch.version.cuda}; driver {driver or 'unknown'}",
        )
    if count:
        return
    devices = _nvidia_devices()
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if torch.version.cuda is None:
        status, remedy = "this torch is built without CUDA", "pip install --force-reinstall torch"
    elif hidden is not None and driver:
        status = f"CUDA_VISIBLE_DEVICES={hidden!r} hides them"
        remedy = "unset CUDA_VISIBLE_DEVICES"
    elif not driver:
        status = "no NVIDIA driver is loaded"
        remedy = "install the NVIDIA driver; in a container, start it with --gpus all"
    else:
        status = f"driver {driver} does not serve torch's CUDA {torch.version.cuda}"
        remedy = f"update the NVIDIA driver to one that supports CUDA {torch.version.cuda}"
    if devices or driver:
        seen = f"{devices} NVIDIA devices" if devices else "an NVIDIA driver"
        yield Finding("gpu", "problem", f"{seen} in this machine, but {status}", remedy)
    else:
        yield Finding("gpu", "ok", f"none ({status}); everything runs on the CPU")


def memory() -> Iterator[Finding]:
    """Memory, with the limit of a container or a service counted in."""
    available, limit = available_memory()
    what = f"{available / _GIB:.1f} of {limit / _GIB:.1f} GiB available"
    if available < _GIB:
        yield Finding(
            "memory",
            "problem",
            f"{what}; torch and an encoder need about 1 GiB",
            "close other programs, or raise the container's memory limit",
        )
    elif available < 3 * _GIB:
        yield Finding(
            "memory",
            "warning",
            f"{what}; large pictures and many decoders may not fit",
            "close other programs, or set MAXSIGHT_WORKERS=1",
        )
    else:
        yield Finding("memory", "ok", what)


def _nvidia_devices() -> int:
    """Display controllers by NVIDIA on the PCI bus, driver or no driver."""
    devices = 0
    for device in Path("/sys/bus/pci/devices").glob("*"):
        if first_line(device / "vendor") == "0x10de":
            devices += first_line(device / "class").startswith("0x03")
    return devices
