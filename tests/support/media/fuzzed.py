"""Strategies for what a stranger, or a failing disk, makes of a file."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["", "\x1b[2J", "\u202e", "\udce9", "../..", "NaN", "1e999", "0x10"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


@st.composite
def edited(draw: st.DrawFn, content: bytes) -> bytes:
    """Some bytes changed, cut out, doubled or put in."""
    found = bytearray(content)
    for _ in range(draw(st.integers(0, 4))):
        position = draw(st.integers(0, len(found)))
        other = draw(st.integers(0, len(found)))
        match draw(st.sampled_from(["flip", "cut", "put", "double", "end"])):
            case "flip" if position < len(found):
                found[position] ^= draw(st.integers(1, 255))
            case "cut":
                del found[min(position, other) : min(position, other) + draw(st.integers(0, 64))]
            case "put":
                found[position:position] = draw(st.binary(max_size=16))
            case "double":
                found[position:position] = found[min(position, other) : min(position, other) + 64]
            case "end":
                del found[position:]
    return bytes(found)


@st.composite
def wrong_fields(draw: st.DrawFn, fields: dict[str, Any]) -> dict[str, Any]:
    """Some fields, at any depth, of another value, another name, or missing."""
    found: dict[str, Any] = json.loads(json.dumps(fields))
    for _ in range(draw(st.integers(0, 3))):
        held = found
        while True:
            name = draw(st.sampled_from(sorted(held))) if held else ""
            if held and isinstance(held[name], dict) and held[name] and draw(st.booleans()):
                held = held[name]
                continue
            break
        match draw(st.sampled_from(["other", "other", "gone", "more"])):
            case "other" if held:
                held[name] = draw(VALUES)
            case "gone" if held:
                del held[name]
            case _:
                held[draw(st.text(max_size=8))] = draw(VALUES)
    return found


def as_json(value: Any) -> bytes:
    """JSON as Python writes it, with NaN and halves of surrogate pairs where there are any."""
    return json.dumps(value).encode()
