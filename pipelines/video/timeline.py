"""Times of a film, and which packets must be decoded to sample it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from maxsight.pipelines.video.frame import GRACE_S

# Non-reference frames, half of most films, are not decoded where the samples lie at least this many
# frames apart: the picture then taken is a frame or two later, and its time says so.
_SPARSE_FRAMES = 8

# Compressed data held back while it is open whether it has to be decoded, in bytes.
_MAX_HELD_BACK = 16_000_000

# A step back in time larger than this, in seconds, is a splice (recordings joined, a counter that
# wrapped) after which the film goes on; a smaller one is jitter.
_SPLICE_S = 1.0


class Clock:
    """Seconds since the first shown frame, never running backwards.

    Containers count from anywhere: MPEG-TS from 1.4 s or hours, an edit list from before zero.
    """

    def __init__(self, stream: VideoStream, *, origin: float | None = None) -> None:
        self._seconds_per_tick = float(stream.time_base or 0)
        rate = stream.average_rate or stream.base_rate
        self.frame_s = 1.0 / float(rate) if rate else 0.04
        self.origin = origin
        self._now: float | None = None

    def span(self, frame: VideoFrame) -> tuple[float, float]:
        """When a frame is shown and until when, by its own word; frames come in shown order."""
        stamp = frame.pts if frame.pts is not None else frame.dts
        if stamp is None:
            seconds = (self.origin or 0.0) + (
                0.0 if self._now is None else self._now + self.frame_s
            )
        else:
            seconds = stamp * self._seconds_per_tick
        if self.origin is None:
            self.origin = seconds
        time = seconds - self.origin
        if self._now is not None and time < self._now:
            if time < self._now - _SPLICE_S:
                self.origin = seconds - (self._now + self.frame_s)
                time = self._now + self.frame_s
            else:
                time = self._now
        self._now = time
        duration = (frame.duration or 0) * self._seconds_per_tick
        return time, time + (duration or self.frame_s)

    def of_packet(self, packet: Packet[VideoStream]) -> float | None:
        """When a packet's frame will be shown; None where that is not known yet."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None or self.origin is None:
            return None
        return stamp * self._seconds_per_tick - self.origin

    def stamp(self, time: float) -> int:
        """The container's count at ``time`` seconds."""
        return round((time + (self.origin or 0.0)) / (self._seconds_per_tick or 1.0))


class Schedule:
    """Sampling at a fixed rate: which frames are due, and which packets lead to them.

    The frame taken for time t is the first decoded one at or after t. Of the packets between two
    samples only those since the last keyframe before the next sample are decoded: all of them in a
    film with one keyframe in ten seconds, one in thirty in a film of keyframes.

    Args:
        fps: samples a second.
    """

    def __init__(self, stream: VideoStream, fps: float) -> None:
        self.clock = Clock(stream)
        self._stream = stream
        self._fps = fps
        self._wanted = 0.0

    def is_due(self, time: float) -> bool:
        return time + GRACE_S >= self._wanted

    def advance(self, time: float) -> None:
        """A frame was taken at ``time``; the next one is due at the next tick."""
        self._wanted = (math.floor((time + GRACE_S) * self._fps) + 1) / self._fps

    def needed(self, packets: Iterator[Packet[VideoStream]]) -> Iterator[Packet[VideoStream]]:
        """The packets worth decoding, in order."""
        context = self._stream.codec_context
        if self._fps * _SPARSE_FRAMES * self.clock.frame_s <= 1.0:
            context.skip_frame = "NONREF"
        held_back: list[Packet[VideoStream]] = []
        held_bytes = 0
        for packet in packets:
            time = self.clock.of_packet(packet)
            if time is not None and time <= self._wanted and packet.is_keyframe:
                held_back.clear()
                held_bytes = 0
            held_back.append(packet)
            held_bytes += packet.size
            if time is None or self.is_due(time) or held_bytes > _MAX_HELD_BACK:
                yield from held_back
                held_back.clear()
                held_bytes = 0
        # The very last frame says when the film ends, whether others refer to it or not.
        context.skip_frame = "DEFAULT"
        yield from held_back
