"""How far the making of an index is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Stage = Literal["tokens", "train", "fill", "truth", "measure"]
# Called with what is being done, how far it is, and how far it goes; ``truth`` is searching
# exactly, to compare with.
OnProgress = Callable[[Stage, int, int], None]


def silent(stage: Stage, done: int, total: int) -> None:
    """Where nobody asks how far it is."""
