"""Python, the packages maxsight depends on, and the FAISS among them."""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from types import ModuleType

from maxsight.doctor.finding import Finding
from maxsight.index import faiss_build

_COMPILED = {"torch": "torch", "lance": "pylance", "pyarrow": "pyarrow", "numpy": "numpy"}
_INSTALL = {
    "faiss-cpu": "pip install 'maxsight[cpu]'",
    "faiss-gpu": "pip install 'maxsight[gpu]'",
    "faiss-gpu-cuvs": "pip install 'maxsight[cuvs]'",
}


def try_import(name: str) -> ModuleType | str:
    """The module, or why it cannot be imported."""
    try:
        return importlib.import_module(name)
    # A compiled package that does not fit its surroundings raises whatever it likes.
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def installed(distribution: str) -> str | None:
    """A distribution's version, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def python() -> Iterator[Finding]:
    """The interpreter."""
    where = "virtual environment" if sys.prefix != sys.base_prefix else "no virtual environment"
    yield Finding(
        "python",
        "ok",
        f"{platform.python_implementation()} {platform.python_version()} on "
        f"{platform.system()} {platform.machine()}, {where}: {sys.prefix}",
    )
    if sys.maxsize <= 2**32:
        yield Finding(
            "python", "problem", "a 32-bit interpreter", "install a 64-bit Python 3.11 or newer"
        )


def requirements() -> Iterator[Finding]:
    """What the installed maxsight declares that it needs, against what is there."""
    from packaging.requirements import Requirement

    if installed("maxsight") is None:
        yield Finding(
            "packages",
            "warning",
            "maxsight runs from a folder but is not installed, so its requirements are unknown",
            "pip install -e '.[cpu,video]' in that folder",
        )
        return
    fine = []
    for text in metadata.requires("maxsight") or ():
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = installed(requirement.name)
        wanted = f"{requirement.name}{requirement.specifier}"
        if version is None:
            yield Finding(
                "packages", "problem", f"{wanted} is not installed", f"pip install '{wanted}'"
            )
        elif not requirement.specifier.contains(version, prereleases=True):
            yield Finding(
                "packages",
                "problem",
                f"{requirement.name} {version} is installed, {wanted} is needed",
                f"pip install '{wanted}'",
            )
        else:
            fine.append(f"{requirement.name} {version}")
    for name in ("triton",):
        if version := installed(name):
            fine.append(f"{name} {version}")
    yield Finding("packages", "ok", ", ".join(fine))
    yield from _torchvision()


def _torchvision() -> Iterator[Finding]:
    """torchvision is built for one version of torch and fails to import beside another."""
    from packaging.requirements import Requirement

    torch = installed("torch")
    if torch is None or installed("torchvision") is None:
        return
    for text in metadata.requires("torchvision") or ():
        requirement = Requirement(text)
        if requirement.name == "torch" and not requirement.specifier.contains(
            torch, prereleases=True
        ):
            yield Finding(
                "packages",
                "problem",
                f"torchvision {installed('torchvision')} is built for torch"
                f"{requirement.specifier}, but torch {torch} is installed",
                f"pip install 'torch{requirement.specifier}'",
            )


def imports() -> Iterator[Finding]:
    """Compiled packages that everything rests on: do they load?"""
    for name, distribution in _COMPILED.items():
        if installed(distribution) is None:
            continue  # `requirements` has said so
        module = try_import(name)
        if isinstance(module, str):
            yield Finding(
                "packages",
                "problem",
                f"{distribution} {installed(distribution)} does not load: {module}",
                f"pip install --force-reinstall {distribution}=={installed(distribution)}",
            )


def faiss() -> Iterator[Finding]:
    """Which FAISS it is. Its distributions write the same folder, and pip sees no conflict."""
    found = list(faiss_build.installed())
    module = try_import("faiss")
    if len(found) > 1:
        keep = found[-1]
        yield Finding(
            "faiss",
            "problem",
            f"{' and '.join(found)} are both installed and overwrite each other's files",
            f"pip uninstall -y {' '.join(found)} && {_INSTALL.get(keep, _INSTALL['faiss-gpu'])}",
        )
    if isinstance(module, str):
        what = f"{found[0]} does not load" if found else "no FAISS is installed"
        name = found[0] if len(found) == 1 else "faiss-cpu"
        again = f"pip install --force-reinstall {name}" if found else _INSTALL[name]
        gpu = "" if found else " (or 'maxsight[gpu]' on a machine with an NVIDIA GPU)"
        yield Finding("faiss", "problem", f"{what}: {module}", again + gpu)
        return
    if not found:
        found = ["a FAISS of unknown origin"]  # conda packages carry no pip metadata
    has_gpu_code = hasattr(module, "StandardGpuResources")
    options = " ".join(module.get_compile_options().split())
    devices = module.get_num_gpus() if has_gpu_code else 0
    kind = f"with GPU code, sees {devices} GPUs" if has_gpu_code else "CPU only"
    yield Finding("faiss", "ok", f"{found[0]} {module.__version__}, {kind}; built with {options}")
    torch = try_import("torch")
    torch_devices = 0 if isinstance(torch, str) else torch.cuda.device_count()
    if torch_devices and not has_gpu_code:
        yield Finding(
            "faiss",
            "warning",
            f"torch sees {torch_devices} GPUs, but this FAISS searches on the CPU only",
            f"pip uninstall -y {found[0]} && {_INSTALL['faiss-gpu']}"
            if found[0] in faiss_build.DISTRIBUTIONS
            else "install faiss-gpu from the channel that this FAISS came from",
        )
    elif has_gpu_code and torch_devices and not devices:
        yield Finding(
            "faiss",
            "warning",
            f"torch sees {torch_devices} GPUs, FAISS none: it is built for another CUDA",
            "install the faiss-gpu that fits your driver (`nvidia-smi` names its CUDA version)",
        )
