"""Names of the NumPy arrays that operations take and give."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
HalfArray = npt.NDArray[np.float16]
Int8Array = npt.NDArray[np.int8]
# Numbers of rows, of documents, of queries; also offsets into what is packed.
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
