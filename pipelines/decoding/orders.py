"""What a decoder process is asked: how to work, and which file to decode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maxsight.index.records import FileState, Kind
    from maxsight.models.pixels.preprocess import Preprocess


@dataclass(frozen=True)
class Order:
    """How a decoder works; sent once.

    Attributes:
        preprocess: the encoder's wishes; None where pictures are only shown.
        fps: frames a second taken from films.
        film_frames: frames sent of one film at most.
        max_pixels: refuse larger pictures.
        max_memory: bytes of data the process may allocate.
        parent: process id without which the decoder has no reason to live.
    """

    preprocess: Preprocess | None
    fps: float
    film_frames: int
    max_pixels: int
    max_memory: int
    parent: int


@dataclass(frozen=True)
class Kept:
    """What is kept of a film that an earlier run did not finish.

    Attributes:
        content_hash: of the film.
        units: how many of its frames are kept.
        mark: where to go on, as the decoder said it then.
    """

    content_hash: str
    units: int
    mark: str


@dataclass(frozen=True)
class Job:
    """One file to decode for the encoder.

    Attributes:
        state: the file as the scan saw it.
        kind: what its name promises; None leaves it to its content.
        kept: of films that it may be, by their size.
    """

    state: FileState
    kind: Kind | None
    kept: tuple[Kept, ...] = ()

    @property
    def path(self) -> str:
        return self.state.path


@dataclass(frozen=True)
class View:
    """One picture to decode for a person's eyes.

    Attributes:
        path: of a picture, or of a film.
        side: pixels that its longer side may have; it is made smaller, never larger.
        time: of a film, seconds after its first frame; None for a picture.
    """

    path: str
    side: int
    time: float | None = None

    def gives(self, width: int, height: int) -> bool:
        """Whether that is a size it can have."""
        return min(width, height) > 0 and max(width, height) <= self.side
