"""When a decoded frame is shown, where a file states it badly, and the quarrel signal between passes over a file."""

from __future__ import annotations

from av.frame import Frame


class DoubtError(Exception):
    """A pass over a file cannot vouch for its answer; the driver starts another one earlier, or gives up with this text."""


class FrameClock:
    """Stamps of frames as ffmpeg guesses them (`best_effort_timestamp` of libavcodec's `guess_correct_pts`).

    A frame has the presentation stamp of its packet, and the decoding stamp of the packet that pushed it out. AVI, for one,
    has only the latter. Whichever of the two ran backwards less often so far is believed.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget what was seen: to be called when the decoder is flushed."""
        self._faulty_pts = self._faulty_dts = 0
        self._last_pts = self._last_dts = -(2**63)

    def stamp(self, frame: Frame) -> int | None:
        """The stamp of a frame in ticks of its stream, or None where the file says nothing at all."""
        pts, dts = frame.pts, frame.dts
        if dts is not None:
            self._faulty_dts += dts <= self._last_dts
            self._last_dts = dts
        elif pts is not None:
            self._last_dts = pts
        if pts is not None:
            self._faulty_pts += pts <= self._last_pts
            self._last_pts = pts
        elif dts is not None:
            self._last_pts = dts
        if pts is not None and (dts is None or self._faulty_pts <= self._faulty_dts):
            return pts
        return dts
