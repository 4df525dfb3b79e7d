"""When a film was taken, as cameras and programs write it into containers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime

from maxsight.pipelines.media.notes import time_of

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

# Days from which containers count; a clock that starts there at every start names a time of them.
_FIRST_DAYS = {date(1904, 1, 1), date(1970, 1, 1)}


def captured_at(notes: Sequence[Mapping[str, str]]) -> datetime | None:
    """The time in the tags of a film and of its streams; a zone that is named is left away.

    Args:
        notes: tags of the container, then of the stream.
    """
    lowered = [{name.lower(): value for name, value in tags.items()} for tags in notes]
    for name in _TAGS:
        for tags in lowered:
            found = time_of(tags.get(name))
            if found is not None and found.date() not in _FIRST_DAYS:
                return found
    return None
