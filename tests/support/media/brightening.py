"""A film that anyone can check by eye."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_film(path: Path, *, seconds: int, rate: int = 10) -> None:
    """A film whose frames grow brighter."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        count = seconds * rate
        for number in range(count):
            shade = round(20 + 200 * number / count)
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), shade, np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
