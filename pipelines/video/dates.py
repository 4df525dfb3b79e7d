"""When a film was taken, as cameras and programs write it into containers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

# Tags in the order of trust: the camera's own clock first, then times in UTC, which are all that
# most films know, then dates that programs put there. FFmpeg's names, in lower case.
_TAGS = (
    "com.apple.quicktime.creationdate",
    "datetimeoriginal",
    "date_recorded",
    "date_digitized",
    "creation_time",
    "idit",
    "icrd",
    "date",
)

# Where containers count from. A clock that never ran shows these, or a time soon after.
_NEVER = {(1904, 1, 1), (1970, 1, 1), (1601, 1, 1)}

_NUMBERS = re.compile(
    r"\s*(\d{4})[-:./](\d{1,2})[-:./ ]\s?(\d{1,2})"
    r"(?:[T ]+(\d{1,2})[:.](\d{2})(?:[:.](\d{2}))?)?"
)
# As C's asctime() writes it, which AVI has: "Mon Feb 19 11:22:33 2007"
_WORDS = re.compile(r"\s*[A-Za-z]{3} ([A-Za-z]{3}) +(\d{1,2}) (\d{2}):(\d{2}):(\d{2}) (\d{4})")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def captured_at(notes: Sequence[Mapping[str, str]]) -> datetime | None:
    """The time in the tags of a film and of its streams; a zone that is named is left away.

    Args:
        notes: tags of the container, then of the stream.
    """
    lowered = [{name.lower(): value for name, value in tags.items()} for tags in notes]
    for name in _TAGS:
        for tags in lowered:
            if name in tags and (found := time_of(tags[name])) is not None:
                return found
    return None


def time_of(text: str) -> datetime | None:
    """The time that a tag names; None if it names none, or less than a day."""
    if match := _NUMBERS.match(text):
        year, month, day, hour, minute, second = (int(part or 0) for part in match.groups())
    elif (match := _WORDS.match(text)) and match[1].lower() in _MONTHS:
        month = _MONTHS.index(match[1].lower()) + 1
        day, hour, minute, second, year = (int(part) for part in match.groups()[1:])
    else:
        return None
    if (year, month, day) in _NEVER:
        return None
    try:
        return datetime(year, month, day, hour, minute, min(second, 59))
    except ValueError:
        return None
