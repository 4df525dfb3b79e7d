"""Films through decord, for those who choose it and only where it is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from PIL import Image

from maxsight.errors import BackendError, MediaError
from maxsight.pipelines.media.video import pyav
from maxsight.pipelines.media.video.frame import GRACE_S, LONG, CannotResume, Frame, Mark, VideoInfo
from maxsight.pipelines.media.video.picture import reduced

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

# Frames decoded between two signs of life.
_STRIDE = 32


class DecordReader:
    """An open film.

    Args:
        path: of the file.
        info: of the same film.
        size: the shorter side of the pictures is reduced to this many pixels.
        threads: that decode.
        on_step: called every few frames that are decoded, as a sign of life.

    Raises:
        MediaError: decord cannot open it.
    """

    def __init__(
        self,
        path: str,
        info: VideoInfo,
        *,
        size: int | None,
        threads: int,
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_step = on_step
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

    def sample(self, fps: float, start: Mark | None = None) -> Iterator[Frame]:
        """See ``maxsight.pipelines.media.video.sample_frames``.

        Raises:
            MediaError: decoding fails on the way; decord does not step over damage.
        """
        times = self._shown[:, 0] - self._shown[0, 0]
        end = float(self._shown[-1, 1] - self._shown[0, 0])
        # The tick of each frame; the first of each is due. One long still has many ticks.
        ticks = np.floor((times + GRACE_S) * fps)
        is_due = np.diff(ticks, prepend=-1.0) > 0
        is_long = np.diff(times, append=end) * fps >= LONG
        taken = np.flatnonzero(is_due | is_long).tolist()
        first = 0 if start is None else start.keyframe
        if first not in taken or (start is not None and start.clock):
            raise CannotResume
        taken = [index for index in taken if index >= first]
        ends = [*times[taken[1:]].tolist(), end]
        before: Frame | None = None
        keyframes = np.array(self._film.get_key_indices())
        for number, index in enumerate(taken):
            self._walk_to(index, taken[number - 1] if number else 0, keyframes)
            image = Image.fromarray(self._frame(index))
            if before is None and start is not None and not start.shows(image):
                raise CannotResume
            mark = Mark(index, index, index, None, (), 0.0, sparse=False)
            if before is not None:
                yield replace(before, next=mark)
            before = Frame(float(times[index]), ends[number], image)
        assert before is not None
        yield before

    def _walk_to(self, index: int, since: int, keyframes: np.ndarray) -> None:
        """Decode what lies before a frame, in steps."""
        earlier = keyframes[keyframes <= index]
        nearest = max(since, int(earlier[-1]) if len(earlier) else 0)
        for between in range(nearest + _STRIDE, index, _STRIDE):
            self._frame(between)

    def _frame(self, index: int) -> np.ndarray:
        self._on_step()
        try:
            pixels: np.ndarray = self._film[index].asnumpy()
        except (decord.DECORDError, RuntimeError) as error:
            raise _failed(error) from error
        return pixels


def is_right_for(film: pyav.PyAVReader) -> bool:
    """Whether decord returns the frames that are asked for; reads the film to its end."""
    return (
        film.codec in _CODECS
        and not _CONTAINERS.isdisjoint(film.container.split(","))
        and not film.is_transparent
        and not film.is_converted
        and not film.has_open_gops()
    )


def _failed(error: Exception) -> MediaError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return MediaError(f"decord cannot decode it (PyAV, the default, may): {reason}")
