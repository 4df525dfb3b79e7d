"""Films through FFmpeg's own libraries: streaming, in bounded memory, whatever the coding."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Self

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL.Image import Image

from maxsight.errors import MediaError
from maxsight.pipelines.media.files import AboveLimit
from maxsight.pipelines.media.video.dates import captured_at
from maxsight.pipelines.media.video.frame import (
    GRACE_S,
    CannotResume,
    Frame,
    Mark,
    VideoInfo,
    clock_time,
)
from maxsight.pipelines.media.video.picture import PictureMaker, Shape, is_foreign
from maxsight.pipelines.media.video.stated import stated
from maxsight.pipelines.media.video.timeline import Clock, Decoded, Schedule
from maxsight.settings import max_pixels

log = logging.getLogger(__name__)

# FFmpeg also opens play lists, image sequences ("%03d.jpg") and scripts that read other files or
# the network. A library holds files that strangers wrote: only formats that hold the film itself.
_CONTAINERS = (
    "3gp,asf,av1,avi,dirac,dv,evc,flv,gxf,h261,h263,h264,hevc,ivf,m4v,matroska,mjpeg,mov,mpeg,mpegts,"
    "mpegvideo,mxf,nsv,nut,obu,ogg,rm,swf,vc1,vvc,webm,wtv,yuv4mpegpipe"
)

# What FFmpeg and PyAV raise over damaged data: their own tree, and Python's errors from values that
# make no sense (a time base of 0, a frame of 0 rows, a codec that is not there).
# What memory does not suffice for is no damage: MemoryError, of both trees, is let through.
_DAMAGE = (av.FFmpegError, ValueError, ArithmeticError, RuntimeError, LookupError)

# Containers that keep the time of the whole film. In others (MPEG-TS and the like) times are those
# of a transmission, and a jump ahead is a splice.
_TIMED = {"mov", "matroska", "avi", "asf", "mxf", "nut"}

# Three years: what says that it is longer is damaged.
_MOST_STATED_S = 1e8

# FFmpeg's own decoders of these drop the transparency, which is a second picture beside the first.
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}

# A film's packets are parts of its file. Tables that point to the same bytes again and again would
# go on for days.
_MOST_REPEATED, _LEAST_BYTES = 4, 1 << 24

# What FFmpeg may add at the edges of a frame that is within the limit.
_EDGE_PIXELS = 1 << 20
# It takes no greater number.
_MOST_OF_FFMPEG = (1 << 31) - 1

# What a film's end may lack of what the container promises, in seconds and as a share; and in
# seconds where the file is known to be cut off.
_SHORT_S, _SHORT_SHARE = 2.0, 0.02
_SLIGHT_S = 0.1

# Containers of which FFmpeg calls a packet corrupt only if the file ends in the middle of it.
_TELL_CUT_PACKETS = {"mov", "avi", "flv", "ivf", "gxf", "swf"}

# How far before a wanted frame reading starts, in seconds, until one try lands before it: the
# keyframe a container points to may come with frames that cannot be decoded (open GOP), and
# containers without an index land anywhere.
_RUN_UPS = (0.0, 2.0, 20.0)


class PyAVReader:
    """An open film.

    Args:
        path: of the file.
        threads: that decode.
        on_step: called for each part that is read or decoded, as a sign of life.

    Attributes:
        remarks: what a person should know of what was read so far.

    Raises:
        MediaError: it cannot be opened, or holds no video that this build of FFmpeg decodes.
    """

    def __init__(
        self, path: str, *, threads: int = 1, on_step: Callable[[], None] = lambda: None
    ) -> None:
        self.remarks: list[str] = []
        self._path = path
        self._threads = threads
        self._on_step = on_step
        self._open()

    def _open(self) -> None:
        self._container, self._stream = _open(self._path)
        self._reached_s = 0.0
        self._is_broken_off = False
        self._ends_in_a_packet = False  # and so in the middle of it
        try:
            self._decoder = self._chosen_decoder()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._container.close()

    @property
    def codec(self) -> str:
        """FFmpeg's name of the coding; ``av1`` whichever library decodes it."""
        return self._stream.codec_context.codec.canonical_name

    @property
    def container(self) -> str:
        """FFmpeg's name of the file format."""
        return self._container.format.name

    @property
    def is_transparent(self) -> bool:
        """Whether a second picture says where the first one is transparent."""
        return self._decoder is not self._stream.codec_context

    @property
    def is_converted(self) -> bool:
        """Whether its colours are not those of a screen."""
        context = self._stream.codec_context
        return is_foreign(context.color_primaries, context.color_trc)

    def info(self) -> VideoInfo:
        """The header's word and, from the first frame, how the film is turned."""
        stream = self._stream
        first = next(self._decoded(self._packets()), None)
        if first is None:
            raise self._no_frames()
        shape = Shape.of(first, stream.sample_aspect_ratio)
        width, height = shape.square(first.width, first.height)
        if shape.is_turned:
            width, height = height, width
        rate = stream.average_rate
        return VideoInfo(
            width=width,
            height=height,
            duration_s=self._stated_s(),
            frame_rate=float(rate) if rate else None,
            codec=self.codec,
            container=self.container,
            captured_at=captured_at([self._container.metadata, stream.metadata]),
        )

    def has_open_gops(self) -> bool:
        """Whether frames shown before a keyframe are stored after it; reads the film to its end."""
        keyframe: int | None = None
        for packet in self._packets():
            if packet.is_keyframe:
                keyframe = packet.pts
            elif keyframe is not None and packet.pts is not None and packet.pts < keyframe:
                return True
        return False

    def sample(self, fps: float, size: int | None, start: Mark | None = None) -> Iterator[Frame]:
        """See ``maxsight.pipelines.media.video.sample_frames``."""
        schedule = Schedule(self._clock(), self._decoder, fps, start)
        maker: PictureMaker | None = None
        held: tuple[float, Image] | None = None
        for taken in self._taken(schedule, start):
            if maker is None:
                maker = self._maker(taken.frame, size)
            image = self._picture(maker, taken.frame)
            if start is not None and (image is None or not start.shows(image)):
                break
            if image is None:
                continue
            start = None
            # Of frames with one and the same time the last stays on show.
            if held is not None and held[0] < taken.time:
                yield Frame(held[0], taken.time, held[1], next=schedule.mark(taken))
            held = taken.time, image
            schedule.advance(taken.time)
        if start is not None:
            raise CannotResume
        if held is None:
            raise self._no_frames()
        end = max(self._end(schedule.clock, held[0]), held[0] + GRACE_S)
        self._note_where_it_breaks_off(end)
        yield Frame(held[0], end, held[1])

    def _end(self, clock: Clock, last: float) -> float:
        """When the film ends, whose last frame is shown at ``last`` seconds."""
        stated = self._stated_s() or 0.0
        # A frame of MP4 says how long it is to be decoded, which is another time with B-frames.
        if "mov" in self.container and last < stated < clock.end - _SHORT_S:
            return stated
        return clock.end

    def _taken(self, schedule: Schedule, start: Mark | None) -> Iterator[Decoded]:
        """The frames that are due, and between them those that stand for long."""
        passed: Decoded | None = None  # the last one that was not due
        for frame in self._decoded(schedule.needed(self._packets())):
            if start is not None:
                if schedule.overdue:
                    return
                if (frame.pts, frame.dts) != (start.pts, start.dts):
                    continue
                try:
                    schedule.restore(start)
                except ValueError:
                    return
                start = None
            before = schedule.clock.state
            decoded = Decoded(frame, schedule.clock.span(frame)[0], before)
            if not schedule.is_due(decoded.time):
                passed = decoded
                continue
            if passed is not None and schedule.is_long(decoded.time - passed.time):
                yield passed
            passed = None
            yield decoded
        if passed is not None and schedule.is_long(schedule.clock.end - passed.time):
            yield passed

    def at(self, time: float, size: int | None) -> Image:
        """See ``maxsight.pipelines.media.video.frame_at``."""
        clock = self._clock()
        first = next(self._decoded(self._packets()), None)
        if first is None:
            raise self._no_frames()
        clock.span(first)
        maker = self._maker(first, size)
        # Right after a seek the times in an MPEG program stream are made up.
        for run_up in _RUN_UPS[1:] if self.container == "mpeg" else _RUN_UPS:
            if time - run_up <= 0 or self._is_beyond_all_times(time):
                break
            try:
                self._container.seek(clock.stamp(time - run_up), stream=self._stream)
                self._decoder.flush_buffers()
            except MemoryError:
                raise
            except _DAMAGE:
                break
            clock.sought()
            image = self._shown_at(time, maker, clock)
            if image is not None:
                return image
        # From the start: the only way in a film without an index or with times that jump.
        self.close()
        self._open()
        image = self._shown_at(time, maker, self._clock())
        if image is None:
            raise self._no_frames()
        return image

    def _shown_at(self, time: float, maker: PictureMaker, clock: Clock) -> Image | None:
        """The frame on show at ``time``, reading on from here; None if that begins later."""
        shown: VideoFrame | None = None
        for frame in self._decoded(self._packets()):
            starts, _ = clock.span(frame)
            if starts > time + GRACE_S and (shown is not None or starts > GRACE_S):
                break
            shown = frame
        return None if shown is None else self._picture(maker, shown)

    def _is_beyond_all_times(self, time: float) -> bool:
        """Whether a film goes on for longer than its times count, as joined recordings do."""
        stated = self._stated_s()
        if stated is None or self.container not in ("mpegts", "mpeg"):
            return False
        return time + GRACE_S >= stated

    def _clock(self) -> Clock:
        is_timed = not _TIMED.isdisjoint(self.container.split(","))
        stated = self._stated_s() if is_timed else None
        return Clock(self._stream, stated if stated and stated < _MOST_STATED_S else None)

    def _stated_s(self) -> float | None:
        """Seconds the film lasts by its container's word."""
        stream = self._stream
        duration = None
        if stream.duration is not None and stream.time_base:
            duration = float(stream.duration * stream.time_base)
        elif self._container.duration is not None:
            duration = self._container.duration / av.time_base
        return duration if duration and duration > 0 else None

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        """The film's packets from here to its end, or to where the file is too damaged to go on."""
        left = _MOST_REPEATED * os.path.getsize(self._path) + _LEAST_BYTES
        ticks = [float(stream.time_base or 0) for stream in self._container.streams]
        is_told = not _TELL_CUT_PACKETS.isdisjoint(self.container.split(","))
        try:
            # Of all streams: sound may go on where the pictures end.
            for packet in self._container.demux():
                self._on_step()
                left -= packet.size
                if left < 0:
                    self._remark("damaged: it repeats itself, and was read up to there")
                    return
                # A transmission may name further streams on its way.
                known = packet.stream_index < len(ticks)
                if known and packet.pts is not None:
                    # One packet of time codes stands for the whole film.
                    lasts = (packet.stream.type in ("video", "audio") and packet.duration) or 0
                    ends = (packet.pts + lasts) * ticks[packet.stream_index]
                    self._reached_s = max(self._reached_s, ends)
                if packet.size:
                    self._ends_in_a_packet = packet.is_corrupt and is_told
                if packet.stream is self._stream and packet.size:  # an empty one closes the decoder
                    yield packet  # type: ignore[misc]
        except MemoryError:
            raise
        except _DAMAGE as error:
            log.warning("%s: damaged, read up to there: %s", self._path, error)
            self._is_broken_off = True

    def _decoded(self, packets: Iterable[Packet[VideoStream]]) -> Iterator[VideoFrame]:
        """Frames in shown order; what cannot be decoded is left out."""
        damaged = shown = 0
        giant: VideoFrame | None = None
        for packet in chain(packets, [None]):  # None: hand out the frames still inside
            try:
                frames = self._decoder.decode(packet)
            except MemoryError:
                raise
            except _DAMAGE:
                damaged += 1
                continue
            for frame in frames:
                if frame.width * frame.height > max_pixels():
                    giant = frame
                else:
                    shown += 1
                    yield frame
        if giant is not None:
            if not shown:
                raise _above_limit(giant)
            self._remark(f"frames are left out: {_above_limit(giant)}")
        if damaged > self._ends_in_a_packet:
            log.warning("%s: %d damaged parts were left out", self._path, damaged)
            self._remark("damaged in places: frames that cannot be decoded are left out")

    def _note_where_it_breaks_off(self, end: float) -> None:
        """Remark upon a film that lacks its end, of which ``end`` seconds are there."""
        duration = self._container.duration
        file = stated(self._path, self.container, duration / av.time_base if duration else None)
        whole = file.seconds or 0.0
        # Some count the length from the film's beginning, some from the time 0 before it.
        begin = (self._container.start_time or 0) / av.time_base
        lacks = whole - max(self._reached_s, self._reached_s - begin, end)
        if (
            self._is_broken_off
            or self._ends_in_a_packet
            or (file.is_cut and (file.seconds is None or lacks > _SLIGHT_S))
            or lacks > max(_SHORT_S, _SHORT_SHARE * whole)
        ):
            of = f" of {clock_time(whole)}" if round(whole) > round(end) else ""
            self._remark(f"breaks off: read up to {clock_time(end)}{of}")

    def _chosen_decoder(self) -> VideoCodecContext:
        """FFmpeg's choice, but for films whose transparency is a second picture."""
        stream, decoder = self._stream, self._stream.codec_context
        name = _WITH_ALPHA.get(self.codec)
        if name is not None and stream.metadata.get("alpha_mode") == "1":
            try:
                decoder = av.CodecContext.create(name, "r")  # type: ignore[assignment]
                decoder.extradata = stream.codec_context.extradata
            except av.codec.codec.UnknownCodecError:
                self._remark(f"shown without its transparency: this FFmpeg lacks {name}")
        decoder.thread_count = self._threads
        decoder.thread_type = "AUTO" if self._threads > 1 else "NONE"
        # FFmpeg counts what it adds at the edges, too; frames are looked at by their own size.
        most = min(4 * max_pixels() + _EDGE_PIXELS, _MOST_OF_FFMPEG)
        decoder.options = {"max_pixels": str(most)}
        return decoder

    def _remark(self, text: str) -> None:
        if text not in self.remarks:
            self.remarks.append(text)

    def _maker(self, first: VideoFrame, size: int | None) -> PictureMaker:
        return PictureMaker(Shape.of(first, self._stream.sample_aspect_ratio), size)

    def _picture(self, maker: PictureMaker, frame: VideoFrame) -> Image | None:
        try:
            return maker.picture(frame)
        except MemoryError:
            raise
        except _DAMAGE as error:
            log.warning("%s: a frame cannot be shown: %s", self._path, error)
            return None

    def _no_frames(self) -> MediaError:
        return MediaError(f"no frame of its {self.codec} video can be decoded: damaged or cut off")


def _open(path: str) -> tuple[InputContainer, VideoStream]:
    try:
        if os.path.getsize(path) == 0:
            raise MediaError("the file is empty (0 bytes)")
        container = av.open(
            os.path.abspath(path),  # a relative name could read as "protocol:..."
            container_options={"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    except OSError as error:
        raise MediaError(f"cannot be read: {error.strerror}") from error
    except av.ArgumentError as error:
        # What FFmpeg knows but the list leaves out is an invalid argument to it.
        raise MediaError("not a video but another kind of file") from error
    except MemoryError:
        raise
    except _DAMAGE as error:
        raise MediaError("not a video, or one that was cut off before it was complete") from error
    try:
        return container, _video_stream(container)
    except BaseException:
        container.close()
        raise


def _video_stream(container: InputContainer) -> VideoStream:
    films = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not films:
        raise MediaError("no video in it, only sound or a cover picture")
    best = container.streams.best("video")
    stream = best if best in films else films[0]
    assert isinstance(stream, VideoStream)
    if stream.codec_context is None:
        raise MediaError("its video is in a coding that this build of FFmpeg does not decode")
    if stream.width * stream.height > max_pixels():
        raise _above_limit(stream)
    return stream


def _above_limit(giant: VideoStream | VideoFrame) -> AboveLimit:
    return AboveLimit(
        f"its frames of {giant.width} x {giant.height} pixels are above the limit of "
        f"{max_pixels()} pixels (MAXSIGHT_MAX_PIXELS)",
        "pixels",
    )
