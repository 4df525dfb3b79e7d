"""What this machine has, what it lacks, and how to put it right.

Nothing here may depend on a package being there: every check imports what it looks at itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from maxsight.doctor import codecs, encoders, hardware, packages, storage, surroundings
from maxsight.doctor.finding import Finding

__all__ = ["Finding", "diagnose"]

_CHECKS: tuple[Callable[[], Iterable[Finding]], ...] = (
    packages.python,
    packages.requirements,
    packages.imports,
    packages.faiss,
    hardware.cpu,
    hardware.gpu,
    hardware.memory,
    codecs.pictures,
    codecs.films,
    encoders.builtin,
    encoders.cached,
    storage.cache,
    storage.disks,
    surroundings.threads,
    surroundings.text,
    surroundings.settings,
)


def diagnose() -> list[Finding]:
    """Look at everything maxsight needs. Takes about as long as importing torch."""
    findings: list[Finding] = []
    for check in _CHECKS:
        try:
            findings.extend(check())
        # A broken installation breaks in ways nobody foresaw, and must still be reported.
        except Exception as error:
            findings.append(
                Finding(
                    "doctor",
                    "problem",
                    f"the check {check.__module__}.{check.__name__} failed: "
                    f"{type(error).__name__}: {error}",
                    "reinstall maxsight into a fresh environment; if it stays, report this line",
                )
            )
    return findings
