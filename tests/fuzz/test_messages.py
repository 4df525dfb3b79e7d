"""What a subverted decoder may send to the process that indexes."""

from __future__ import annotations

import io
import struct
from datetime import datetime
from typing import Any

import numpy as np
from fuzzed import VALUES, as_json, edited, wrong_fields
from hypothesis import given
from hypothesis import strategies as st

from maxsight.pipelines.decoding import messages
from maxsight.pipelines.decoding.messages import Alive, Finished, Frames, Opened, Refused, Viewed

FIELDS: dict[str, dict[str, Any]] = {
    "Alive": {"type": "Alive"},
    "Opened": {"type": "Opened", "seconds": 1.0, "content_hash": "a", "bytes": 3, "units": 0},
    "Frames": {
        "type": "Frames",
        "seconds": 1.0,
        "spans": [[0.0, 1.0]],
        "mark": None,
        "shape": [2, 2],
    },
    "Viewed": {"type": "Viewed", "shape": [2, 2]},
    "Refused": {"type": "Refused", "seconds": 0.5, "reason": "no picture", "again": True},
    "Finished": {
        "type": "Finished",
        "seconds": 1.0,
        "kind": "image",
        "bytes": 10,
        "mtime_ns": 1,
        "content_hash": "a",
        "width": 2,
        "height": 2,
        "captured_at": "2026-01-01T00:00:00",
        "shape": [2, 2],
        "remark": None,
    },
}
ALL = Alive | Opened | Frames | Viewed | Refused | Finished


def received(content: bytes) -> tuple[dict[str, object], np.ndarray] | None:
    stream = io.BytesIO(content)

    def read_exactly(buffer: memoryview) -> bool:
        return stream.readinto(buffer) == len(buffer)

    return messages.read(read_exactly)


@given(data=st.data())
def test_messages(data: st.DataObject) -> None:
    fields = FIELDS[data.draw(st.sampled_from(sorted(FIELDS)))]
    header = as_json(data.draw(wrong_fields(fields) | VALUES))
    pixels = data.draw(st.binary(min_size=12, max_size=12) | st.binary(max_size=30))
    promised = data.draw(st.sampled_from([len(pixels), 0, 12, 2**31]))
    content = struct.pack("<II", len(header), promised) + header + pixels
    content = data.draw(st.just(content) | edited(content))
    try:
        found = received(content)
        if found is None:
            return
        assert isinstance(found[0], dict)
        message = messages.unpack(*found, lambda width, height: (width, height) == (2, 2))
    except (ValueError, KeyError, TypeError):
        return  # as both say; the decoder is then stopped
    assert isinstance(message, ALL)
    if isinstance(message, Frames | Finished | Viewed) and len(message.pixels):
        assert message.pixels.shape[1:] == (2, 2, 3)
    # What goes into the library is of the type that its column has.
    said = vars(message)
    assert isinstance(said.get("content_hash", ""), str)
    assert isinstance(said.get("remark"), str | None)
    assert all(type(said.get(name, 0)) is int for name in ("bytes", "width", "height", "units"))
    assert np.isfinite(np.array(said.get("spans", ()), float)).all()
    assert isinstance(said.get("captured_at"), datetime | None)
