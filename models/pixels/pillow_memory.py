"""The memory of a Pillow picture as an array, without a copy.

``numpy.asarray(image)`` packs four bytes a pixel into three and copies twice, which takes as long
as a third of scaling the picture. Pillow shows its memory by the Arrow C data interface.
"""

from __future__ import annotations

import ctypes

import numpy as np
from PIL import Image


def pixels(image: Image.Image) -> np.ndarray:
    """The pixels of an RGB picture.

    Returns:
        (H, W, 4) uint8 in Pillow's own memory, not to be written to, the fourth byte without
        meaning; or a copy (H, W, 3) where Pillow holds the picture in more than one piece (from 16
        MiB on).
    """
    try:
        _, capsule = image.__arrow_c_array__()
    except ValueError:
        return np.asarray(image)
    array = _ArrowArray.from_address(_pointer(capsule, b"arrow_array"))
    address = array.children[0].contents.buffers[1]
    memory = (_Memory * (image.width * image.height)).from_address(address)
    memory.__dict__["capsule"] = capsule  # lives as long as what is made of the memory
    return np.ctypeslib.as_array(memory).reshape(image.height, image.width, 4)


_Memory = ctypes.c_uint8 * 4


class _ArrowArray(ctypes.Structure):
    """https://arrow.apache.org/docs/format/CDataInterface.html#the-arrowarray-structure"""


_ArrowArray._fields_ = (
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_ArrowArray))),
    ("dictionary", ctypes.c_void_p),
    ("release", ctypes.c_void_p),
    ("private_data", ctypes.c_void_p),
)

_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype = ctypes.c_void_p
_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
