"""How a run reads files, as far as it decides what is stored of them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from maxsight.index.records import Kind


@dataclass(frozen=True)
class Choices:
    """What a person may choose; a file that was read by other choices is read again.

    Attributes:
        fps: frames a second taken from films.
        film_frames: frames that are stored of one film at most.
        fps_is_given: somebody asked for it; else films that are known may keep another.
    """

    fps: float = 1.0
    film_frames: int = 100_000
    fps_is_given: bool = field(default=True, kw_only=True)

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
        """Whether what was stored by these settings may stay; None: they are not known."""
        now = (self.of(kind), self.of(kind, is_cut=True))
        return settings is None or self._counting(settings) in map(self._counting, now)

    def _counting(self, settings: str) -> list[str]:
        """Of settings, those that count."""
        return [
            part for part in settings.split() if self.fps_is_given or not part.startswith("fps=")
        ]

    def fits_rate(self, rate: float) -> bool:
        """Whether a film whose settings are not known may have been read by these.

        Args:
            rate: frames stored of it, divided by its seconds.
        """
        # A last frame that stands shorter, films with fewer frames than were asked for here and
        # there: what differs by more was read otherwise.
        return not self.fps_is_given or abs(rate - self.fps) <= 0.2 * self.fps


def step_of(settings: str | None) -> float | None:
    """Seconds between two samples of a film that was read by these settings; None: not known."""
    found = re.search(r"(?:^| )fps=([0-9.e+-]+)(?: |$)", settings or "")
    try:
        fps = float(found[1]) if found else 0.0
    except ValueError:
        return None
    return 1 / fps if math.isfinite(fps) and fps > 0 else None
