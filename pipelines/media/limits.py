"""Limits under which files may fail, and when it is worth trying again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Limit = Literal["timeout", "pixels", "memory"]

# The default of the memory is half of what is free: it differs from run to run.
_MORE_MEMORY = 1.5


@dataclass(frozen=True)
class Limits:
    """What a run allows.

    Attributes:
        timeout: seconds in which a decoder gives a sign of life.
        pixels: of a picture or frame.
        memory: bytes that decoders may take.
        version: of maxsight, whose decoders may read what others did not.
    """

    timeout: int
    pixels: int
    memory: int
    version: str

    def of(self, limit: Limit | None) -> str:
        """What is stored as ``settings`` beside a file that failed, because of a limit or not."""
        names = [] if limit is None else ["memory", "pixels"] if limit == "memory" else [limit]
        limits = [f"{name}={getattr(self, name)}" for name in names]
        return " ".join([*limits, f"maxsight={self.version}"])

    def would_fail(self, settings: str | None) -> bool:
        """Whether a file that failed under those settings, and did not change, would fail again.

        None, by a maxsight that did not say, may not.
        """
        if settings is None:
            return False
        was = dict(part.partition("=")[::2] for part in settings.split())
        if was.pop("maxsight", None) != self.version:
            return False
        return not any(self._is_higher(name, value) for name, value in was.items())

    def _is_higher(self, name: str, value: str) -> bool:
        if name not in get_args(Limit) or not value.isdigit():
            return True  # nothing this maxsight knows
        factor = _MORE_MEMORY if name == "memory" else 1
        return bool(getattr(self, name) > int(value) * factor)
