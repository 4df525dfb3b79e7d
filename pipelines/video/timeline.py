"""Times of a film, and which packets must be decoded to sample it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from maxsight.pipelines.video.frame import GRACE_S

# Non-reference frames, half of most films, are not decoded where the samples lie at least this many
# frames apart: the picture then taken is a frame or two later, and its time says so.
_SPARSE_FRAMES = 8

# Compressed data held back while it is open whether it has to be decoded, in bytes.
_MAX_HELD_BACK = 16_000_000

# Steps back or ahead in time larger than these, in seconds, are splices (recordings joined, a
# counter that wrapped) after which the film goes on; smaller ones are jitter, or a long still.
_SPLICE_BACK_S, _SPLICE_AHEAD_S = 1.0, 3600.0


@dataclass
class _Stamps:
    """One of the two counts that frames carry."""

    first: int | None = None
    last: int | None = None
    faults: int = 0

    def note(self, stamp: int | None) -> None:
        if stamp is None:
            self.faults += 1
            return
        if self.last is not None and stamp <= self.last:
            self.faults += 1
        if self.first is None:
            self.first = stamp
        self.last = stamp


class Clock:
    """Seconds since the first shown frame, never running backwards.

    Containers count from anywhere: MPEG-TS from 1.4 s or hours, an edit list from before zero. Of
    the two counts of a frame, when to show and when to decode it, the one is taken that went
    backwards or missing less often: AVI makes up the first for films with B-frames, and raw
    streams have neither.
    """

    def __init__(self, stream: VideoStream) -> None:
        self._seconds_per_tick = float(stream.time_base or 0)
        rate = stream.average_rate or stream.base_rate
        self.frame_s = 1.0 / float(rate) if rate else 0.04
        self._pts, self._dts = _Stamps(), _Stamps()
        self._offset = 0.0  # what splices took away
        self._now: float | None = None

    def span(self, frame: VideoFrame) -> tuple[float, float]:
        """When a frame is shown and until when, by its own word; frames come in shown order."""
        self._pts.note(frame.pts)
        self._dts.note(frame.dts)
        time = self._since(frame.pts, frame.dts)
        if time is None:
            time = 0.0 if self._now is None else self._now + self.frame_s
        if self._now is not None:
            if not self._now - _SPLICE_BACK_S <= time <= self._now + _SPLICE_AHEAD_S:
                self._offset += self._now + self.frame_s - time
                time = self._now + self.frame_s
            time = max(time, self._now)
        self._now = time
        duration = (frame.duration or 0) * self._seconds_per_tick
        return time, time + (duration or self.frame_s)

    def of_packet(self, packet: Packet[VideoStream]) -> float | None:
        """When a packet's frame will be shown; None where that is not known, or not yet."""
        return self._since(packet.pts, packet.dts)

    def sought(self) -> None:
        """Reading goes on elsewhere in the film."""
        self._now = self._pts.last = self._dts.last = None

    def stamp(self, time: float) -> int:
        """The container's count at ``time`` seconds."""
        stamps = self._dts if self._pts.first is None else self._pts
        return round(time / (self._seconds_per_tick or 1.0)) + (stamps.first or 0)

    def _since(self, pts: int | None, dts: int | None) -> float | None:
        by_pts = self._pts.faults <= self._dts.faults
        stamp, first = (pts, self._pts.first) if by_pts else (dts, self._dts.first)
        if stamp is None or first is None:
            return None
        return (stamp - first) * self._seconds_per_tick + self._offset


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
        self._sparse = fps * _SPARSE_FRAMES * self.clock.frame_s <= 1.0

    def is_due(self, time: float) -> bool:
        return time + GRACE_S >= self._wanted

    def advance(self, time: float) -> None:
        """A frame was taken at ``time``; the next one is due at the next tick."""
        self._wanted = (math.floor((time + GRACE_S) * self._fps) + 1) / self._fps
        if self._sparse:  # from the second sample on: the first is the film's very first frame
            self._stream.codec_context.skip_frame = "NONREF"

    def needed(self, packets: Iterator[Packet[VideoStream]]) -> Iterator[Packet[VideoStream]]:
        """The packets worth decoding, in order."""
        context = self._stream.codec_context
        held_back: list[Packet[VideoStream]] = []
        held_bytes = 0
        for packet in packets:
            time = self.clock.of_packet(packet)
            if time is None and packet.pts is None and packet.dts is None:
                self._sparse = False  # frames have to be counted
            elif time is not None and time <= self._wanted and packet.is_keyframe:
                if held_back:
                    # As after a seek: frames of before and after must not be mixed.
                    context.flush_buffers()
                held_back.clear()
                held_bytes = 0
            held_back.append(packet)
            held_bytes += packet.size
            if time is None or self.is_due(time) or held_bytes > _MAX_HELD_BACK:
                yield from held_back
                held_back.clear()
                held_bytes = 0
        # The very last frame says when the film ends, whether others refer to it or not.
        self._sparse = False
        context.skip_frame = "DEFAULT"
        yield from held_back
