"""ICC profiles written from primaries and a curve, for files that name their colours by number."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

# x, y of red, green, blue and white.
Primaries = tuple[
    tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]
]

D65 = (0.3127, 0.3290)
SRGB: Primaries = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), D65)
ADOBE_RGB: Primaries = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), D65)
DISPLAY_P3: Primaries = ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), D65)
DCI_P3: Primaries = ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), (0.314, 0.351))
BT2020: Primaries = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), D65)

ADOBE_GAMMA = 563 / 256

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_STEPS = 1024  # of a curve


def linear_srgb(values: np.ndarray) -> np.ndarray:
    """Light from sRGB's numbers, both in [0, 1]."""
    low = values / 12.92
    return np.where(values <= 0.04045, low, ((values + 0.055) / 1.055) ** 2.4)


def to_xyz(primaries: Primaries) -> np.ndarray:
    """The matrix (3, 3) from linear RGB to XYZ under the primaries' own white.

    Raises:
        ValueError: they span no colours.
    """
    columns = []
    for x, y in primaries:
        if y <= 0:
            raise ValueError(f"a primary at y={y}")
        columns.append([x / y, 1.0, (1 - x - y) / y])
    matrix, white = np.array(columns[:3]).T, np.array(columns[3])
    if abs(np.linalg.det(matrix)) < 1e-3:
        raise ValueError("primaries that lie on one line")
    result: np.ndarray = matrix * np.linalg.solve(matrix, white)
    return result


def matrix_profile(
    primaries: Primaries, curve: Callable[[np.ndarray], np.ndarray] | float
) -> bytes:
    """An ICC profile (version 2) of a colour space with three primaries.

    Args:
        primaries: chromaticities; the white is adapted to D50 by Bradford's matrix.
        curve: light in [0, 1] from numbers in [0, 1], or an exponent.

    Raises:
        ValueError: the primaries span no colours.
    """
    matrix = to_xyz(primaries)
    white = matrix.sum(1)
    cones = np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white))
    matrix = np.linalg.inv(_BRADFORD) @ cones @ _BRADFORD @ matrix
    if callable(curve):
        levels = np.rint(np.clip(curve(np.linspace(0, 1, _STEPS)), 0, 1) * 65535)
        tone = b"curv" + bytes(4) + struct.pack(">I", _STEPS) + levels.astype(">u2").tobytes()
    else:
        tone = b"curv" + bytes(4) + struct.pack(">IH", 1, round(curve * 256)) + bytes(2)
    name = b"desc" + bytes(4) + struct.pack(">I", 1) + bytes(1 + 4 + 4 + 2 + 1 + 67)
    tags = {
        b"desc": name + bytes(-len(name) % 4),
        b"wtpt": _xyz(_D50),
        **{tag: _xyz(matrix[:, i]) for i, tag in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), tone),
    }
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for tag, content in tags.items():
        table += tag + struct.pack(">II", start + len(body), len(content))
        body += content
    head = struct.pack(
        ">I4sI4s4s4s12s4s24sI12s", start + len(body), b"", 0x02100000, b"mntr", b"RGB ", b"XYZ ",
        struct.pack(">6H", 2026, 1, 1, 0, 0, 0), b"acsp", b"", 0, _fixed(_D50),
    )  # fmt: skip
    return head.ljust(128, b"\0") + table + body


def _fixed(values: np.ndarray) -> bytes:
    return bytes(np.rint(values * 65536).astype(">i4").tobytes())


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(values)
