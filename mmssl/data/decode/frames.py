"""Which packets of a picture stream have to be decoded, and which decoded frame is the one shown at a time.

The frame shown at `t` is the last one stamped at or before `t + rounding`. Packets are held back until it is known what
comes after `t` in presentation order; then those that lead to a wanted frame are decoded, and what nobody refers to and
nobody wants (`NONREF`) is skipped inside the decoder, which changes no other frame by a bit.

Damage is not papered over. A frame is given only if every packet from its key frame on was decoded without an error and the
frame itself is not marked corrupt; otherwise `DoubtError` is raised, and `MediaError` in the end.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence

import av.error
from av.codec.context import CodecContext
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mmssl.data.container import rounding, tick
from mmssl.data.decode.stamps import DoubtError, FrameClock

TAIL = 0.1  # seconds past its own end for which the last frame still counts as shown
HELD = 3000  # packets held back at most while nothing is wanted yet (a key frame two minutes ago)
LEAD = 0.5  # seconds by which a key frame without a presentation stamp must precede the time wanted
JUMP = 600.0  # seconds that no frame of an undamaged film stays in view
DEPTH = 16  # frames that a frame can be late behind its place in presentation order: the limit of H.264 and HEVC
NEVER = float("inf")


class FrameFinder:
    """Takes the packets of one stream in file order from one seek on, and gives the frame shown at each of `times`.

    Args:
        stream: opened, its decoder fresh or flushed.
        clock: `clock_start` of its container.
        times: seconds, ascending, without duplicates.
        give: called once for each time with the frame shown then.
        skip: leave unwanted frames that no other refers to undecoded. Needs packets that are whole frames with stamps.
        restart: begin anew at each key frame before the next wanted time. False decodes all from the first packet on.
        from_start: the packets begin where the file begins, so that times before the first frame get the first frame.
    """

    def __init__(
        self,
        stream: VideoStream,
        *,
        clock: float,
        times: Sequence[float],
        give: Callable[[float, VideoFrame], None],
        skip: bool,
        restart: bool,
        from_start: bool,
    ) -> None:
        self._codec: CodecContext = stream.codec_context
        self._tick, self._clock, self._slack = tick(stream), clock, rounding(stream)
        self._frame_seconds = float(1 / stream.average_rate) if stream.average_rate else 0.0
        self._give, self._skip, self._restart, self._from_start = give, skip, restart, from_start
        self._todo = deque(times)  # not answered yet
        self._open = deque(times)  # not known yet which packet answers them
        self._held: deque[Packet] = deque()
        self._stamps: list[float] = []  # presentation times of the packets since the last restart, sorted
        self._ends = -NEVER  # when the last frame seen so far ends
        self._keys: list[float] = []  # presentation times of the key packets that went into the decoder
        self._damage: list[float] = []  # presentation times at which something could not be decoded
        self._started = from_start or not restart
        self._since = -NEVER  # frames stamped earlier than this lead a key frame whose past was not decoded
        self._frame_clock = FrameClock()
        self._shown: tuple[float, VideoFrame] | None = None
        self._fresh = True  # the decoder holds nothing

    @property
    def done(self) -> bool:
        """Whether every time has its frame."""
        return not self._todo

    def feed(self, packet: Packet) -> None:
        """Take the next packet. Raises `DoubtError`."""
        if self.done:
            return
        shown = packet.pts if packet.pts is not None else packet.dts
        if shown is None:
            if self._skip or not self._started:
                raise DoubtError("packets without time stamps")
            self._held.append(packet)
            return
        shown_at = self._at(shown)
        order_at = self._at(packet.dts) if packet.dts is not None else self._order_by_depth()
        if packet.is_keyframe and self._restart and self._open and self._may_begin_at(packet, shown_at):
            self._begin(shown_at)
        elif not self._started:
            if order_at > self._open[0] + self._slack:
                raise DoubtError("no key frame before it")
            return
        self._held.append(packet)
        if not packet.is_discard:
            self._note(packet, shown_at)
        if not self._open or order_at > self._open[0] + self._slack or len(self._held) > HELD:
            self._advance(order_at)

    def finish(self) -> None:
        """No more packets: give what is left. Raises `DoubtError` where times lie beyond the end."""
        if self.done:
            return
        if not self._started:
            raise DoubtError("no key frame before it")
        if self._skip and self._open and self._open[-1] > self._ends + TAIL:
            raise DoubtError(f"the picture ends at {self._ends:.3f} s")
        self._advance(NEVER)
        self._flush()
        if self.done:
            return
        if self._shown is None:
            raise DoubtError("no frame can be decoded")
        at, frame = self._shown
        end = at + max(float(frame.duration or 0) * self._tick, self._frame_seconds)
        while self._todo and self._todo[0] <= end + TAIL:
            self._answer(at, frame)
        if self._todo:
            raise DoubtError(f"the picture ends at {end:.3f} s")

    def _at(self, stamp: int) -> float:
        return stamp * self._tick - self._clock

    def _order_by_depth(self) -> float:
        """A time before which no further packet can be stamped, where the file gives no decoding stamp (Matroska after a seek)."""
        return self._stamps[-DEPTH - 1] if len(self._stamps) > DEPTH else -NEVER

    def _may_begin_at(self, packet: Packet, shown_at: float) -> bool:
        if not self._skip and len(self._open) != len(self._todo):
            return False  # frames that are still to come decide what is shown at an earlier time
        lead = 0.0 if packet.pts is not None else LEAD
        return not packet.is_corrupt and shown_at + lead <= self._open[0] + self._slack

    def _begin(self, shown_at: float) -> None:
        """Start over at a key frame: nothing wanted lies before it."""
        self._flush()
        if len(self._open) != len(self._todo):
            raise DoubtError(f"the packet stamped {self._target(self._todo[0]):.3f} s gave no frame")
        self._held.clear()
        self._stamps.clear()
        self._damage.clear()
        self._keys.clear()
        self._started, self._since = True, shown_at - self._slack
        self._shown = None

    def _note(self, packet: Packet, shown_at: float) -> None:
        if not self._skip:
            return
        if packet.pts is None:
            raise DoubtError("packets without presentation stamps")
        place = bisect_right(self._stamps, shown_at)
        if place and self._stamps[place - 1] == shown_at:
            raise DoubtError(f"two frames stamped {shown_at:.3f} s")
        self._stamps.insert(place, shown_at)
        self._ends = max(self._ends, shown_at + max((packet.duration or 0) * self._tick, self._frame_seconds))

    def _target(self, time: float) -> float:
        """Stamp of the packet whose frame is shown at `time`, all packets up to there being known."""
        place = bisect_right(self._stamps, time + self._slack)
        if place:
            if place < len(self._stamps) and self._stamps[place] - self._stamps[place - 1] > JUMP:
                raise DoubtError(f"stamps jump from {self._stamps[place - 1]:.3f} to {self._stamps[place]:.3f} s")
            return self._stamps[place - 1]
        if self._from_start and self._stamps:
            return self._stamps[0]
        raise DoubtError("the frame before it was not read")

    def _advance(self, order: float) -> None:
        """Decode what the times before `order` need."""
        if not self._skip:
            while self._held:
                self._push(self._held.popleft(), wanted=True)
            while self._todo and self._open[0] < self._todo[0]:
                self._open.popleft()
            return
        targets: set[float] = set()
        while self._open and self._open[0] + self._slack < order and self._stamps:
            targets.add(self._target(self._open.popleft()))
        horizon = max(targets, default=-NEVER)  # what is stamped later may yet be wanted by a later time
        last = max((i for i, packet in enumerate(self._held) if self._stamp_of(packet) in targets), default=-1)
        if len(self._held) > HELD:
            last = max(last, len(self._held) // 2)
        for _ in range(last + 1):
            packet = self._held.popleft()
            stamp = self._stamp_of(packet)
            self._push(packet, wanted=not packet.is_discard and (stamp in targets or stamp > horizon))
        if not self._open:
            self._flush()  # nothing further is wanted: what the decoder still holds costs less than more packets
            if self._todo and order != NEVER:
                raise DoubtError(f"the packet stamped {self._target(self._todo[0]):.3f} s gave no frame")

    def _stamp_of(self, packet: Packet) -> float:
        return self._at(packet.pts if packet.pts is not None else packet.dts or 0)

    def _push(self, packet: Packet, *, wanted: bool) -> None:
        if self.done:
            return
        if not self._codec.is_open:
            self._codec.open()  # with skip_frame at its default: some decoders read it only once, here
        self._codec.skip_frame = "DEFAULT" if wanted or packet.is_keyframe or not self._skip else "NONREF"
        stamp = self._stamp_of(packet)
        if packet.is_keyframe:
            self._keys.append(stamp)
        self._fresh = False
        try:
            frames = packet.decode()
        except av.error.InvalidDataError as error:
            self._hurt(stamp, f"a packet stamped {stamp:.3f} s cannot be decoded ({error.strerror})")
            return
        if packet.is_corrupt:
            self._hurt(stamp, f"the packet stamped {stamp:.3f} s is damaged")
        for frame in frames:
            self._take(frame)

    def _hurt(self, stamp: float, reason: str) -> None:
        if stamp < self._since:
            return  # a frame that leads the key frame where decoding began: it cannot be whole, nor is it wanted
        if self._restart:
            raise DoubtError(reason)
        self._damage.append(stamp)

    def _flush(self) -> None:
        """Take the frames that the decoder still holds, and make it ready for a new start."""
        if self._fresh:
            return
        try:
            for frame in self._codec.decode(None):  # type: ignore[attr-defined]  # video codecs have it
                self._take(frame)
        except av.error.EOFError:
            pass
        self._codec.flush_buffers()
        self._frame_clock.restart()
        self._fresh = True

    def _take(self, frame: VideoFrame) -> None:
        """A frame came out of the decoder, in presentation order."""
        stamp = self._frame_clock.stamp(frame)
        if stamp is None or self.done:
            return
        at = self._at(stamp)
        if at < self._since:
            return
        if frame.is_corrupt:
            self._hurt(at, f"the frame stamped {at:.3f} s is damaged")
        if self._shown is not None and at - self._shown[0] > JUMP and self._todo and at > self._todo[0]:
            raise DoubtError(f"stamps jump from {self._shown[0]:.3f} to {at:.3f} s")
        while self._todo and at > self._todo[0] + self._slack:
            if self._shown is not None:
                self._answer(*self._shown)
            elif self._from_start:
                self._answer(at, frame)
            else:
                raise DoubtError("the frame before it was not decoded")
        self._shown = (at, frame)
        while self._skip and self._todo and self._is_target(at):
            self._answer(at, frame)

    def _is_target(self, at: float) -> bool:
        """Whether the frame stamped `at` is surely the last one before the next wanted time."""
        known = not self._open or self._todo[0] < self._open[0]
        return known and self._target(self._todo[0]) == at

    def _answer(self, at: float, frame: VideoFrame) -> None:
        time = self._todo[0]
        if self._skip and self._target(time) != at:
            raise DoubtError(f"the packet stamped {self._target(time):.3f} s gave no frame")
        for stamp in self._damage:
            until = min((key for key in self._keys if key > stamp), default=NEVER)
            if stamp <= time + self._slack and at < until:
                raise DoubtError(f"what was stamped {stamp:.3f} s cannot be decoded, and what follows depends on it")
        self._todo.popleft()
        self._give(time, frame)
