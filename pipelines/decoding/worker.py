"""A process that decodes files, one after the other, until its parent has no more.

Started by ``maxsight.pipelines.decoding.pool``, not by hand. It never imports torch: it must start
fast, and there is one for every core.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image

from maxsight.errors import BackendError, MediaError
from maxsight.models.pixels.preprocess import Preprocess, resize
from maxsight.pipelines.decoding import messages
from maxsight.pipelines.decoding.messages import (
    Alive,
    Finished,
    Frames,
    Message,
    Opened,
    Refused,
    Viewed,
)
from maxsight.pipelines.decoding.orders import Job, Kept, Order, View
from maxsight.pipelines.media.files import (
    CHANGED_MEANWHILE,
    AboveLimit,
    NotNow,
    TooHungry,
    digest,
    hash_file,
    most_bytes,
    open_regular,
    read_whole,
)
from maxsight.pipelines.media.formats import HEAD_BYTES, content_kind, picture_format
from maxsight.pipelines.media.pictures import decode_picture, read_picture

if TYPE_CHECKING:
    from maxsight.pipelines.media.video.frame import Frame, Mark

# Frames of a film go out in groups this large.
_FRAMES = 8
# Without a message for so long a sign of life is sent.
_SIGN_OF_LIFE_S = 2.0

_HUNGRY = "takes more memory to read than is allowed; raise MAXSIGHT_MEMORY and run again"

_PR_SET_PDEATHSIG = 1


class Decoder:
    """Decodes files and tells the parent about it."""

    def __init__(self, order: Order, out: BinaryIO) -> None:
        self._order = order
        self._out = out
        self._since = time.monotonic()
        self._unsaid = 0.0

    def run(self, job: Job | View) -> None:
        """Decode one file; the last message is ``Finished``, ``Viewed`` or ``Refused``."""
        self._since, self._unsaid = time.monotonic(), 0.0
        try:
            if isinstance(job, View):
                self._view(job)
            elif self._is_film(job):
                self._film(job)
            else:
                self._picture(job)
        except BackendError as error:
            self._send(Refused(self._lap(), str(error), again=True))
        except MediaError as error:
            again, hungry = isinstance(error, NotNow), isinstance(error, TooHungry)
            limit = error.limit if isinstance(error, AboveLimit) else None
            self._send(Refused(self._lap(), str(error), again, hungry, limit=limit))
        except MemoryError:
            self._send(Refused(self._lap(), _HUNGRY, again=True, hungry=True, limit="memory"))

    def _view(self, job: View) -> None:
        if job.time is None:
            limit = self._order.max_pixels
            data, _ = read_whole(job.path, max_bytes=most_bytes(limit))
            image = read_picture(data, side=job.side, max_pixels=limit).image
        else:
            from maxsight.pipelines.media import video

            image = video.frame_at(job.path, job.time, size=job.side, on_step=self._show_life)
        image.thumbnail((job.side, job.side), Image.Resampling.LANCZOS)
        self._send(Viewed(self._lap(), np.asarray(image)[None]))

    def _is_film(self, job: Job) -> bool:
        """What the content says; where it could be anything, what the name promises."""
        try:
            with open_regular(job.path) as file:
                head = os.read(file, HEAD_BYTES)
        except NotNow:
            return job.kind == "video"  # reading it will say why
        kind = content_kind(head) or job.kind
        return picture_format(head) is None if kind is None else kind == "video"

    def _picture(self, job: Job) -> None:
        data, state = read_whole(job.path, max_bytes=most_bytes(self._order.max_pixels))
        content_hash = digest(data)
        pixels, upright = decode_picture(data, self._preprocess, max_pixels=self._order.max_pixels)
        self._send(
            Finished(
                seconds=self._lap(),
                kind="image",
                bytes=state.bytes,
                mtime_ns=state.mtime_ns,
                content_hash=content_hash,
                width=upright.width,
                height=upright.height,
                captured_at=upright.captured_at,
                remark=upright.remark,
                pixels=np.ascontiguousarray(pixels),
            )
        )

    def _film(self, job: Job) -> None:
        from maxsight.pipelines.media import video
        from maxsight.pipelines.media.video.frame import clock_time

        content_hash, before = hash_file(job.path, self._show_life)
        if not before.bytes:
            raise MediaError("empty (0 bytes)")
        info = video.probe(job.path, on_step=self._show_life)
        remarks: list[str] = []
        kept = next((kept for kept in job.kept if kept.content_hash == content_hash), None)
        units, frames = self._frames(job.path, kept, remarks)
        self._send(Opened(self._seconds(), content_hash, before.bytes, units))
        ready: list[np.ndarray] = []
        spans: list[tuple[float, float]] = []
        mark: Mark | None = None
        is_cut = False
        for frame in frames:
            if units == self._order.film_frames:
                is_cut = True
                remarks.append(
                    f"read up to {clock_time(frame.time)}: it has more than the {units:,} frames "
                    "that are stored of a film (MAXSIGHT_FILM_FRAMES)"
                )
                break
            pixels = resize(frame.image, self._preprocess)
            # The shape changes in the mode "fit", of a film that changes its size.
            if ready and (len(ready) == _FRAMES or pixels.shape != ready[0].shape):
                packed = None if mark is None else mark.with_picture(frame.image).packed()
                self._send(Frames(self._seconds(), tuple(spans), np.stack(ready), packed))
                ready, spans = [], []
            ready.append(pixels)
            spans.append((frame.time, frame.end))
            mark = frame.next
            units += 1
        after = os.stat(job.path)
        if (after.st_size, after.st_mtime_ns) != (before.bytes, before.mtime_ns):
            raise NotNow(CHANGED_MEANWHILE)
        self._send(
            Finished(
                seconds=self._seconds(),
                kind="video",
                bytes=before.bytes,
                mtime_ns=before.mtime_ns,
                content_hash=content_hash,
                width=info.width,
                height=info.height,
                captured_at=info.captured_at,
                remark="; ".join(remarks) or None,
                is_cut=is_cut,
                spans=tuple(spans),
                pixels=np.stack(ready),
            )
        )

    def _frames(
        self, path: str, kept: Kept | None, remarks: list[str]
    ) -> tuple[int, Iterator[Frame]]:
        """How many frames need not be read again, and the others, of which there is one."""
        from maxsight.pipelines.media import video
        from maxsight.pipelines.media.video.frame import CannotResume, Mark
        from maxsight.pipelines.media.video.stills import without_stills

        def sampled(start: Mark | None) -> Iterator[Frame]:
            return without_stills(
                video.sample_frames(
                    path,
                    fps=self._order.fps,
                    size=self._preprocess.size,
                    start=start,
                    on_step=self._show_life,
                    on_remark=remarks.append,
                )
            )

        if kept is not None and kept.units < self._order.film_frames:
            try:
                frames = sampled(Mark.unpacked(kept.mark))
                return kept.units, chain([next(frames)], frames)
            except (CannotResume, ValueError):
                remarks.clear()
        frames = sampled(None)
        return 0, chain([next(frames)], frames)

    @property
    def _preprocess(self) -> Preprocess:
        if self._order.preprocess is None:
            raise ValueError("there is no encoder to decode for")
        return self._order.preprocess

    def _show_life(self) -> None:
        if (lap := self._lap()) > _SIGN_OF_LIFE_S:
            self._send(Alive())
            self._unsaid += lap

    def _seconds(self) -> float:
        """Worked since the last message that said how long."""
        seconds, self._unsaid = self._unsaid + self._lap(), 0.0
        return seconds

    def _lap(self) -> float:
        return time.monotonic() - self._since

    def _send(self, message: Message) -> None:
        messages.send(self._out, message)
        # Time spent waiting for the parent to take the message is not work.
        self._since = time.monotonic()


def main() -> None:
    """Take an ``Order``, then decode one ``Job`` after the other from standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    # Codecs print to standard output; messages go out on a descriptor of their own.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    first = messages.read(_read_exactly)
    if first is None:
        return
    order = messages.unpack_order(first[0])
    _die_with(order.parent)
    resource.setrlimit(resource.RLIMIT_DATA, (order.max_memory, order.max_memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Pictures in one piece of memory each, which can be scaled where they lie.
    Image.core.set_use_block_allocator(1)  # type: ignore[attr-defined]
    Image.MAX_IMAGE_PIXELS = None  # sizes are checked by pictures.py, after JPEG draft scaling
    decoder = Decoder(order, out)
    messages.send(out, Alive())
    while (message := messages.read(_read_exactly)) is not None:
        decoder.run(messages.unpack_job(message[0]))


def _die_with(parent: int) -> None:
    """Have the kernel end this process with its parent, even in the middle of a picture."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call
        sys.exit()


def _read_exactly(buffer: memoryview) -> bool:
    while buffer:
        count = os.readv(0, [buffer])
        if not count:
            return False
        buffer = buffer[count:]
    return True


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        # The parent is gone and waits for nothing any more.
        os._exit(0)
