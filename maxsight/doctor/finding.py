"""One line of a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing the doctor looked at.

    Attributes:
        area: what it belongs to, one word.
        status: ``ok``; ``warning``, something is slower or missing but maxsight works;
            ``problem``, something does not work.
        what: what was found.
        remedy: what to do about it; None where nothing is to be done.
    """

    area: str
    status: Literal["ok", "warning", "problem"]
    what: str
    remedy: str | None = None
