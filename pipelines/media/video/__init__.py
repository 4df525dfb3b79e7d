"""Pictures out of films: one interface, PyAV and decord behind it.

PyAV (FFmpeg) streams any film in bounded memory and is what everything runs on by default.
``MAXSIGHT_VIDEO_BACKEND=decord`` has decord sample what it samples rightly (H.264, VP8 and VP9 in
MP4 and Matroska, with closed GOPs and without an edit list; this costs reading the file twice). It
gives wrong frames of other films and cannot open some, so these go to PyAV all the same.

Needs the extra ``video``. Nothing of it is imported before the first call.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from maxsight.errors import BackendError, MaxsightError, MediaError, UsageError
from maxsight.pipelines.media.video.frame import Frame, Mark, VideoInfo
from maxsight.settings import video_backend

if TYPE_CHECKING:
    from PIL.Image import Image

    from maxsight.pipelines.media.video.pyav import PyAVReader

__all__ = ["Frame", "VideoInfo", "frame_at", "probe", "sample_frames"]

_OnStep = Callable[[], None]


def _nothing() -> None:
    pass


def probe(path: str | os.PathLike[str], *, on_step: _OnStep = _nothing) -> VideoInfo:
    """Read a film's header and its first frame.

    Args:
        on_step: called for each part that is read or decoded, as a sign of life.

    Raises:
        MediaError: the file is not a film that can be decoded; the message says why.
        BackendError: the extra ``video`` is not installed.
    """
    with _damage_named(), _open(path, on_step=on_step) as film:
        return film.info()


def sample_frames(
    path: str | os.PathLike[str],
    *,
    fps: float = 1.0,
    size: int | None = None,
    threads: int = 1,
    start: Mark | None = None,
    on_step: _OnStep = _nothing,
    on_remark: Callable[[str], None] = lambda text: None,
) -> Iterator[Frame]:
    """Frames at 0, 1/fps, 2/fps, ... seconds, decoded as a stream.

    Each is the first decoded frame at or after its time; a still that stands longer than 1/fps is
    one frame with one long span. A frame between these times is one of them, too, if it stands for
    2/fps or longer. The spans cover the film from its first shown frame to its end
    without a gap. Memory is bounded by a few decoded frames and one 1/fps of compressed data,
    whatever the length of the film.

    Damage: frames that cannot be decoded are left out, and the film goes on with the next that can;
    a film that breaks off ends with its last frame. Both are remarked upon.

    Args:
        fps: samples a second.
        size: the shorter side of the pictures is reduced to this many pixels, never enlarged.
        threads: that decode. More than one gains little where several films are read side by side.
        start: begin with the frame of an earlier reading's mark, of the same file by the same
            arguments; what follows is what followed then. Only what is needed is decoded.
        on_step: called for each part that is read or decoded, as a sign of life.
        on_remark: called with what a person should know of the film, before its last frame.

    Raises:
        UsageError: ``fps`` or ``size`` is not positive.
        MediaError: the file is not a film, or not one frame of it can be decoded.
        CannotResume: ``start`` is not found again; before any frame.
        BackendError: the extra ``video`` is not installed.
    """
    if not 0 < fps < float("inf"):
        raise UsageError(f"fps={fps} must be above 0")
    if size is not None and size < 1:
        raise UsageError(f"size={size} must be at least 1 pixel")
    with _damage_named():
        if video_backend() == "decord":
            with _open(path, threads=threads, on_step=on_step) as film:
                from maxsight.pipelines.media.video import decord

                if decord.is_right_for(film):
                    info = probe(path, on_step=on_step)
                    by_decord = decord.DecordReader(
                        os.fspath(path), info, size=size, threads=threads, on_step=on_step
                    )
                    if not by_decord.is_trimmed:
                        yield from by_decord.sample(fps, start)
                        return
        with _open(path, threads=threads, on_step=on_step) as film:
            for frame in film.sample(fps, size, start):
                if frame.next is None:
                    for text in film.remarks:
                        on_remark(text)
                yield frame


def frame_at(
    path: str | os.PathLike[str],
    time: float,
    *,
    size: int | None = None,
    on_step: _OnStep = _nothing,
) -> Image:
    """The picture on show ``time`` seconds after the film's first frame.

    Exact: reading starts at a keyframe before it. Before the start it is the first frame, past the
    end the last.

    Args:
        size, on_step: as for ``sample_frames``.

    Returns:
        Mode RGB, upright, square pixels.

    Raises:
        MediaError: the file is not a film, or not one frame of it can be decoded.
        BackendError: the extra ``video`` is not installed.
    """
    with _damage_named(), _open(path, on_step=on_step) as film:
        return film.at(time, size)


@contextmanager
def _damage_named() -> Iterator[None]:
    """Numbers that make no sense, wherever they come to light, are damage of the film."""
    try:
        yield
    except MaxsightError:
        raise
    except MemoryError as error:
        from maxsight.pipelines.media.files import TooHungry

        raise TooHungry(
            "takes more memory to read than is allowed; raise MAXSIGHT_MEMORY and run again"
        ) from error
    except (ValueError, ArithmeticError, LookupError) as error:
        raise MediaError(f"damaged: {type(error).__name__} ({error})") from error


def _open(
    path: str | os.PathLike[str], *, threads: int = 1, on_step: _OnStep = _nothing
) -> PyAVReader:
    try:
        from maxsight.pipelines.media.video.pyav import PyAVReader
    except ImportError as error:
        raise BackendError(
            f"films need PyAV, which does not import here ({error}): pip install 'maxsight[video]'"
        ) from error
    return PyAVReader(os.fspath(path), threads=threads, on_step=on_step)
