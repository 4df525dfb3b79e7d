"""How a run reads files, as far as it decides what is stored of them."""

from __future__ import annotations

from dataclasses import dataclass

from maxsight.index.records import Kind


@dataclass(frozen=True)
class Choices:
    """What a person may choose; a file that was read by other choices is read again.

    Attributes:
        fps: frames a second taken from films.
        film_frames: frames that are stored of one film at most.
    """

    fps: float = 1.0
    film_frames: int = 100_000

    def of(self, kind: Kind, *, is_cut: bool = False) -> str:
        """What is stored as ``settings`` beside a file of that kind: ``name=value``, a space
        between; empty where nothing can be chosen.

        Args:
            is_cut: it is a film that has more frames than are stored of one.
        """
        if kind != "video":
            return ""
        return f"fps={self.fps:.15g}" + (f" film_frames={self.film_frames}" if is_cut else "")

    def fits(self, kind: Kind, settings: str | None) -> bool:
        """Whether a file that was read with those settings would be read the same way now."""
        return settings is None or settings in (self.of(kind), self.of(kind, is_cut=True))
