"""JSON that may come from a stranger or a failing disk: bounded, and wrong in one way only."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from maxsight import plain_files

MOST_BYTES = 16 << 20
# Objects and arrays inside one another. A file of ours has 3 levels, a model's configuration 6.
_MOST_LEVELS = 64
# Of an integer. Nanoseconds of a file system's dates have up to 28.
_MOST_DIGITS = 32


def parse(text: bytes | bytearray | str, *, most_bytes: int = MOST_BYTES) -> Any:
    """The value that ``text`` holds in JSON, UTF-8 with or without its mark at the beginning.

    Raises:
        ValueError: it is not JSON; or it is longer than ``most_bytes``, nested more than 64 deep,
            names a field twice, or has a number that is not finite or an integer of more than 32
            digits. No other error leaves this function.
    """
    if len(text) > most_bytes:
        raise ValueError(f"it is longer than {most_bytes} bytes")
    try:
        value = json.loads(
            text if isinstance(text, str) else text.decode("utf-8-sig"),
            object_pairs_hook=_object,
            parse_constant=_not_finite,
            parse_float=_float,
            parse_int=_int,
        )
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if _is_deeper(value, _MOST_LEVELS):
        raise ValueError(f"it is nested more than {_MOST_LEVELS} deep")
    return value


def read(file: Path, *, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """The object that a file holds.

    Raises:
        OSError: it cannot be read, is longer than ``most_bytes``, or is a pipe, a device, a folder.
        ValueError: as :func:`parse`, or it holds something else than an object.
    """
    value = parse(plain_files.read_bytes(file, most=most_bytes), most_bytes=most_bytes)
    if not isinstance(value, dict):
        raise ValueError("it must hold an object, {...}")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in fields if names.count(name) > 1)
        raise ValueError(f"it names {twice!r} twice")
    return fields


def _not_finite(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:32]} is too large a number")
    return number


def _int(digits: str) -> int:
    if len(digits.lstrip("-")) > _MOST_DIGITS:
        raise ValueError(f"{digits[:_MOST_DIGITS]}... is too large a number")
    return int(digits)


def _is_deeper(value: Any, levels: int) -> bool:
    layer = _containers([value])
    for _ in range(levels):
        layer = [inner for held in layer for inner in _containers(_values(held))]
        if not layer:
            return False
    return True


def _values(container: Any) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container


def _containers(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if isinstance(value, dict | list)]
