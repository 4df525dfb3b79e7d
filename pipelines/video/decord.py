"""Films through decord, for those who choose it and only where it is right."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from maxsight.errors import BackendError, MediaError
from maxsight.pipelines.video import pyav
from maxsight.pipelines.video.frame import GRACE_S, Frame, VideoInfo
from maxsight.pipelines.video.picture import reduced

try:
    import decord
except ImportError as error:
    raise BackendError(
        f"MAXSIGHT_VIDEO_BACKEND=decord, but decord does not import here ({error}): "
        "pip install 'maxsight[video]', or unset the variable to use PyAV"
    ) from error

# Measured against films whose frames carry their number: decord 0.6 returns other frames than asked
# for from HEVC, MPEG-TS and films with open GOPs, and cannot open AV1.
_CODECS = {"h264", "vp8", "vp9"}
_CONTAINERS = {"mov", "matroska"}


class Film:
    """An open film.

    Args:
        path: of the file.
        info: of the same film.
        size: the shorter side of the pictures is reduced to this many pixels.
        threads: that decode.

    Raises:
        MediaError: decord cannot open it.
    """

    def __init__(self, path: str, info: VideoInfo, *, size: int | None, threads: int) -> None:
        width, height = reduced(info.width, info.height, size)
        try:
            self._film = decord.VideoReader(path, width=width, height=height, num_threads=threads)
            self._shown = np.asarray(
                self._film.get_frame_timestamp(np.arange(len(self._film))), dtype=np.float64
            )
        except (decord.DECORDError, RuntimeError) as error:
            raise _failed(error) from error

    @property
    def is_trimmed(self) -> bool:
        """Whether an edit list hides frames, which decord counts all the same."""
        return bool(self._shown[0, 0] < 0)

    def sample(self, fps: float) -> Iterator[Frame]:
        """See ``maxsight.pipelines.video.sample_frames``.

        Raises:
            MediaError: decoding fails on the way; decord does not step over damage.
        """
        times = self._shown[:, 0] - self._shown[0, 0]
        ticks = np.arange(int((times[-1] + GRACE_S) * fps) + 1) / fps
        # Several ticks within one long still give one frame.
        taken = np.unique(np.searchsorted(times, ticks - GRACE_S))
        ends = [*times[taken[1:]].tolist(), float(self._shown[-1, 1] - self._shown[0, 0])]
        for index, time, end in zip(taken.tolist(), times[taken].tolist(), ends, strict=True):
            try:
                pixels = self._film[index].asnumpy()
            except (decord.DECORDError, RuntimeError) as error:
                raise _failed(error) from error
            yield Frame(time, end, Image.fromarray(pixels))


def is_right_for(film: pyav.Film) -> bool:
    """Whether decord returns the frames that are asked for; reads the film to its end."""
    return (
        film.codec in _CODECS
        and not _CONTAINERS.isdisjoint(film.container.split(","))
        and not film.has_open_gops()
    )


def _failed(error: Exception) -> MediaError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return MediaError(f"decord cannot decode it (PyAV, the default, may): {reason}")
