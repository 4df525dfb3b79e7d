"""ICC profiles from primaries and a gamma, and the numbers that colours have under them.

Written from the ICC's specification, apart from the product's own writer.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

_D50 = np.array([0.9642, 1.0, 0.8249])
_CONES = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D65_XY = (0.3127, 0.3290)


@dataclass(frozen=True)
class Space:
    """A colour space of three primaries.

    Attributes:
        primaries, white: chromaticities x, y.
        gamma: light is a number to this power; None: sRGB's curve.
    """

    primaries: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    white: tuple[float, float] = _D65_XY
    gamma: float | None = None

    def matrix(self) -> np.ndarray:
        """Linear RGB to XYZ under D50."""
        columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in self.primaries]).T
        white = np.array([self.white[0] / self.white[1], 1, (1 - sum(self.white)) / self.white[1]])
        adapt = np.linalg.inv(_CONES) @ np.diag((_CONES @ _D50) / (_CONES @ white)) @ _CONES
        matrix: np.ndarray = adapt @ (columns * np.linalg.solve(columns, white))
        return matrix

    def light(self, numbers: np.ndarray) -> np.ndarray:
        if self.gamma is not None:
            return numbers**self.gamma
        return np.where(numbers <= 0.04045, numbers / 12.92, ((numbers + 0.055) / 1.055) ** 2.4)

    def numbers(self, light: np.ndarray) -> np.ndarray:
        light = np.clip(light, 0, 1)
        if self.gamma is not None:
            return light ** (1 / self.gamma)
        return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)

    def of_srgb(self, rgb: np.ndarray) -> np.ndarray:
        """The numbers in this space, uint8, of colours that have ``rgb`` (uint8) in sRGB."""
        xyz = SRGB.light(rgb / 255) @ SRGB.matrix().T
        shown = self.numbers(xyz @ np.linalg.inv(self.matrix()).T)
        numbers: np.ndarray = np.rint(shown * 255).astype(np.uint8)
        return numbers

    def profile(self, name: str = "test") -> bytes:
        if self.gamma is not None:
            tone = b"curv" + bytes(4) + struct.pack(">IH", 1, round(self.gamma * 256)) + bytes(2)
        else:
            steps = np.rint(self.light(np.linspace(0, 1, 4096)) * 65535).astype(">u2")
            tone = b"curv" + bytes(4) + struct.pack(">I", 4096) + steps.tobytes()
        return written(
            b"RGB ",
            name,
            {
                **{
                    tag: _xyz(self.matrix()[:, i])
                    for i, tag in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))
                },
                **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), tone),
            },
        )


def grey_profile(gamma: float) -> bytes:
    tone = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    return written(b"GRAY", "grey", {b"kTRC": tone})


def written(space: bytes, name: str, tags: dict[bytes, bytes]) -> bytes:
    """A profile of a monitor, version 2, with a description and D50 as its white."""
    text = name.encode() + b"\x00"
    described = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78)
    tags = {b"desc": described, b"wtpt": _xyz(_D50), **tags}
    offset, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for tag, content in tags.items():
        padded = content + bytes(-len(content) % 4)
        table += tag + struct.pack(">II", offset + len(body), len(content))
        body += padded
    head = struct.pack(
        ">I4sI4s4s4s", offset + len(body), bytes(4), 0x02100000, b"mntr", space, b"XYZ "
    )
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    return (head + _fixed(_D50)).ljust(128, b"\x00") + table + body


def _fixed(values: np.ndarray) -> bytes:
    return bytes(np.rint(np.asarray(values) * 65536).astype(">i4").tobytes())


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(values)


_D50_XY = (0.3457, 0.3585)
SRGB = Space(((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)))
P3 = Space(((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)))
ADOBE_RGB = Space(((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), gamma=2.2)
PROPHOTO = Space(((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)), _D50_XY, 1.8)
BT2020 = Space(((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)))
SWAPPED = Space(((0.15, 0.06), (0.30, 0.60), (0.64, 0.33)), gamma=2.2)
