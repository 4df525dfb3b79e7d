"""Times of a film, and which packets must be decoded to sample it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from maxsight.pipelines.media.video.frame import GRACE_S, LONG, Mark

# Non-reference frames, half of most films, are not decoded where the samples lie at least this many
# frames apart: the picture then taken is a frame or two later, and its time says so.
_SPARSE_FRAMES = 8
# The frames of a film of a variable rate may lie further apart than its header says. One is left
# out only if the next one is shown within this share of the time between two samples.
_NEAR = 2 / _SPARSE_FRAMES
# The next frame in shown order is stored at most this many packets before or after.
_MOST_APART = 32

# Compressed data held back while it is open whether it has to be decoded, in bytes.
_MAX_HELD_BACK = 16_000_000

# Steps back or ahead in time larger than these, in seconds, are splices (recordings joined, a
# counter that wrapped) after which the film goes on; smaller ones are jitter, or a long still.
_SPLICE_BACK_S, _SPLICE_AHEAD_S = 1.0, 3600.0

# Where the container says how long the film is, frames up to there, and these seconds more, are
# where they say they are, however long the one before them stands.
_BEYOND_S = 60.0

# More samples a second than any film has frames; above it, numbers of samples overflow.
_MOST_FPS = 1e6

# A frame comes out of its decoder at most this many packets after the one that holds it.
_MOST_REORDERED = 64


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

    Args:
        stated_s: seconds the film lasts by the word of a container that keeps the time of the whole
            film; None where the times are those of a transmission, which may jump.
    """

    def __init__(self, stream: VideoStream, stated_s: float | None = None) -> None:
        self._stated_s = stated_s or 0.0
        self._seconds_per_tick = float(stream.time_base or 0)
        rate = stream.average_rate or stream.base_rate
        self.frame_s = 1.0 / float(rate) if rate else 0.04
        self._pts, self._dts = _Stamps(), _Stamps()
        self.end = 0.0
        self.offset = 0.0
        self._now: float | None = None

    def span(self, frame: VideoFrame) -> tuple[float, float]:
        """When a frame is shown and until when, by its own word; frames come in shown order."""
        self._pts.note(frame.pts)
        self._dts.note(frame.dts)
        time = self.time_of(frame.pts, frame.dts)
        if time is None:
            time = 0.0 if self._now is None else self._now + self.frame_s
        if self._now is not None:
            latest = max(self._now + _SPLICE_AHEAD_S, self._stated_s + _BEYOND_S)
            if not self._now - _SPLICE_BACK_S <= time <= latest:
                self.offset += self._now + self.frame_s - time
                time = self._now + self.frame_s
            time = max(time, self._now)
        self._now = time
        duration = (frame.duration or 0) * self._seconds_per_tick
        self.end = time + (duration or self.frame_s)
        return time, self.end

    def ticks(self, seconds: float) -> float:
        """So many seconds in the container's count."""
        return seconds / (self._seconds_per_tick or 1.0)

    @property
    def state(self) -> tuple[float | None, ...]:
        """All that it has learned from the frames so far."""
        pts, dts = self._pts, self._dts
        counts = (pts.first, pts.last, pts.faults, dts.first, dts.last, dts.faults)
        return (*counts, self.offset, self._now)

    def restore(self, state: tuple[float | None, ...]) -> None:
        """Go on as the clock that had that state.

        Raises:
            ValueError: no clock has such a state.
        """
        if len(state) != 8:
            raise ValueError("not the state of a clock")
        pts_first, pts_last, pts_faults, dts_first, dts_last, dts_faults, offset, now = state
        if pts_faults is None or dts_faults is None or offset is None:
            raise ValueError("not the state of a clock")
        self._pts = _Stamps(_whole(pts_first), _whole(pts_last), int(pts_faults))
        self._dts = _Stamps(_whole(dts_first), _whole(dts_last), int(dts_faults))
        self.offset, self._now = offset, now

    def time_of(self, pts: int | None, dts: int | None) -> float | None:
        """When a packet's frame will be shown; None where that is not known, or not yet."""
        by_pts = self._pts.faults <= self._dts.faults
        stamp, first = (pts, self._pts.first) if by_pts else (dts, self._dts.first)
        if stamp is None or first is None:
            return None
        return (stamp - first) * self._seconds_per_tick + self.offset

    def sought(self) -> None:
        """Reading goes on elsewhere in the film."""
        self._now = self._pts.last = self._dts.last = None

    def stamp(self, time: float) -> int:
        """The container's count at ``time`` seconds."""
        stamps = self._dts if self._pts.first is None else self._pts
        return round(self.ticks(time)) + (stamps.first or 0)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


@dataclass(frozen=True, eq=False)
class Decoded:
    """A decoded frame.

    Attributes:
        time: when it is shown, in seconds.
        clock: the clock's state before it.
    """

    frame: VideoFrame
    time: float
    clock: tuple[float | None, ...]


class Schedule:
    """Sampling at a fixed rate: which frames are due, and which packets lead to them.

    The frame taken for time t is the first decoded one at or after t. A frame between two of them
    is taken, too, if it stands for long. Of the packets between two samples only those since the
    last keyframe before the next sample are decoded: all of them in a film with one keyframe in
    ten seconds, one in thirty in a film of keyframes.

    Args:
        clock: of the film.
        decoder: of the film; it is told which frames to leave out.
        fps: samples a second.
        start: a frame at which to begin; packets before its keyframe are not decoded, and nothing
            is due before ``restore``.

    Attributes:
        fed: number of the last packet given to the decoder, or decided to be; they count from 0.
        overdue: whether the frame of ``start`` should have come out by now.
    """

    def __init__(
        self, clock: Clock, decoder: VideoCodecContext, fps: float, start: Mark | None = None
    ) -> None:
        self.clock = clock
        self.fed = -1
        self._decoder = decoder
        self._fps = min(fps, _MOST_FPS)
        self._wanted = 0.0
        self._sparse = self._fps * _SPARSE_FRAMES * clock.frame_s <= 1.0
        self._skips = False  # whether the decoder is to leave out what it can
        self._start = start
        if start is not None and start.sparse:
            # Some decoders heed it only if it is set before they open, which it never was.
            decoder.open(strict=False)
            self._skips = True
        # Keyframes at which decoding may begin anew, oldest first: their numbers and counts.
        self._keyframes: list[tuple[int, int | None, int | None]] = []

    @property
    def overdue(self) -> bool:
        return self._start is not None and self.fed > self._start.fed + _MOST_REORDERED

    def is_due(self, time: float) -> bool:
        return time + GRACE_S >= self._wanted

    def advance(self, time: float) -> None:
        """A frame was taken at ``time``; the next one is due at the next tick."""
        self._wanted = (math.floor((time + GRACE_S) * self._fps) + 1) / self._fps
        if self._sparse:  # from the second sample on: the first is the film's very first frame
            self._skips = True

    def is_long(self, seconds: float) -> bool:
        """Whether a frame that stands for so long is taken, due or not."""
        return seconds * self._fps >= LONG

    def mark(self, taken: Decoded) -> Mark | None:
        """Where to take up sampling at a frame that is taken; None where it cannot be told by its
        counts."""
        frame, time = taken.frame, taken.time
        if frame.pts is None and frame.dts is None:
            return None
        usable = [
            number
            for number, pts, dts in self._keyframes
            if (shown := self.clock.time_of(pts, dts)) is not None and shown <= time
        ]
        if not usable:
            return None
        while len(self._keyframes) > 1 and self._keyframes[0][0] < usable[-1]:
            del self._keyframes[0]
        return Mark(
            keyframe=usable[-1],
            fed=self.fed,
            pts=frame.pts,
            dts=frame.dts,
            clock=taken.clock,
            wanted=self._wanted if self.is_due(time) else time,
            sparse=self._sparse,
        )

    def restore(self, mark: Mark) -> None:
        """The frame of that mark is here: go on as then.

        Raises:
            ValueError: no schedule makes such a mark.
        """
        self.clock.restore(mark.clock)
        self._wanted = mark.wanted
        self._sparse = mark.sparse
        self._start = None

    def needed(self, packets: Iterator[Packet[VideoStream]]) -> Iterator[Packet[VideoStream]]:
        """The packets worth decoding, in order."""
        held_back: list[tuple[Packet[VideoStream], bool]] = []
        held_bytes = 0
        latest, back = -math.inf, self.clock.ticks(_SPLICE_BACK_S)
        spliced_at: float | None = (
            None  # the clock's offset before a splice that it has not met yet
        )
        for number, (packet, is_brief) in enumerate(self._with_brief(packets)):
            if self._start is not None and number < self._start.keyframe:
                continue
            time = self.clock.time_of(packet.pts, packet.dts)
            stamp = packet.pts if packet.dts is None else packet.dts
            if stamp is not None:
                if stamp < latest - back:
                    spliced_at = self.clock.offset
                latest = stamp
            if self.clock.offset == spliced_at:
                time = None  # until a frame tells the clock how the film goes on
            else:
                spliced_at = None
            if packet.is_keyframe:
                self._keyframes.append((number, packet.pts, packet.dts))
            if self._start is not None:
                self.fed = number
                yield from self._given([(packet, is_brief)])
                continue
            if time is None and packet.pts is None and packet.dts is None:
                self._sparse = False  # frames have to be counted
            elif time is not None and time <= self._wanted and packet.is_keyframe:
                if held_back:
                    # As after a seek: frames of before and after must not be mixed.
                    self._decoder.flush_buffers()
                held_back.clear()
                held_bytes = 0
            held_back.append((packet, is_brief))
            held_bytes += packet.size
            if time is None or self.is_due(time) or held_bytes > _MAX_HELD_BACK:
                self.fed = number
                yield from self._given(held_back)
                held_back.clear()
                held_bytes = 0
        if held_back:
            self.fed = number
        # The very last frame says when the film ends, whether others refer to it or not.
        self._sparse = self._skips = False
        yield from self._given(held_back)

    def _given(
        self, packets: Iterable[tuple[Packet[VideoStream], bool]]
    ) -> Iterator[Packet[VideoStream]]:
        """Packets for the decoder, which is told of each whether it may be left out."""
        for packet, is_brief in packets:
            self._decoder.skip_frame = "NONREF" if self._skips and is_brief else "DEFAULT"
            yield packet

    def _with_brief(
        self, packets: Iterator[Packet[VideoStream]]
    ) -> Iterator[tuple[Packet[VideoStream], bool]]:
        """Each packet, in order, and whether the next frame is shown soon after its own.

        Packets are read ahead until that is known. Where times are missing, it is taken to be so.
        """
        if not self._sparse:
            yield from ((packet, True) for packet in packets)
            return
        near = self.clock.ticks(_NEAR / self._fps)
        around: deque[int | None] = deque(maxlen=2 * _MOST_APART)
        waiting: deque[Packet[VideoStream]] = deque()
        waiting_bytes = 0

        def is_brief(packet: Packet[VideoStream]) -> bool:
            shown = packet.pts
            return (
                shown is None
                or packet.is_keyframe  # never left out
                or any(other is None or 0 < other - shown <= near for other in reversed(around))
            )

        for packet in packets:
            around.append(packet.pts)
            waiting.append(packet)
            waiting_bytes += packet.size
            while waiting and (
                (brief := is_brief(waiting[0]))
                or len(waiting) > _MOST_APART
                or waiting_bytes > _MAX_HELD_BACK
            ):
                waiting_bytes -= waiting[0].size
                yield waiting.popleft(), brief
        for packet in waiting:
            yield packet, is_brief(packet)
