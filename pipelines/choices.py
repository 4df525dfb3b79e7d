"""How a run reads files, as far as it decides what is stored of them."""

from __future__ import annotations

from dataclasses import dataclass

from maxsight.index.records import Kind


@dataclass(frozen=True)
class Choices:
    """What a person may choose; a file that was read by other choices is read again.

    Attributes:
        fps: frames a second taken from films.
    """

    fps: float = 1.0

    def of(self, kind: Kind) -> str:
        """What is stored as ``settings`` beside a file of that kind: ``name=value``, a space
        between; empty where nothing can be chosen.
        """
        return f"fps={self.fps:.15g}" if kind == "video" else ""
