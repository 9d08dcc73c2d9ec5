"""A film's sound as a stream of windows: each centred on a moment, made in one pass, in constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

SILENCE = -60.0  # dBFS; below it a window counts as silent: there is nothing to localize

Samples = NDArray[np.float32]


class SlidingSound:
    """Windows of `seconds` around moments that never go backwards.

    Near the ends the window is moved inward rather than padded: models are trained on windows full of sound. Only a sound shorter than the
    window is padded with zeros at its end.

    Args:
        chunks: mono samples from time 0.0 on, in order, any lengths (`mmssl.data.playback.play_wave`).
        rate: samples a second.
        seconds: length of a window.
    """

    def __init__(self, chunks: Iterable[Samples], *, rate: int, seconds: float) -> None:
        self._chunks: Iterator[Samples] = iter(chunks)
        self._rate, self._length = rate, round(rate * seconds)
        self._buffer = np.zeros(0, dtype=np.float32)
        self._begin = 0  # place of the buffer's first sample in the track
        self._ended = False
        self._first = 0  # place of the last window given

    @property
    def start(self) -> float:
        """When the window that was given last begins, in seconds."""
        return self._first / self._rate

    def around(self, moment: float) -> Samples:
        """The window (samples,) centred on `moment` seconds.

        Raises:
            ValueError: the window begins before sound that was already let go.
        """
        first = max(0, round(moment * self._rate - self._length / 2))
        self._read(first + self._length)
        if self._ended:
            first = max(0, min(first, self._begin + len(self._buffer) - self._length))
        if first < self._begin:
            raise ValueError(f"moments must not go backwards: {moment:.3f} s needs sound that was let go")
        self._first = first
        window = self._buffer[first - self._begin :][: self._length]
        return np.pad(window, (0, self._length - len(window))) if len(window) < self._length else window.copy()

    def _read(self, end: int) -> None:
        while not self._ended and self._begin + len(self._buffer) < end:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._ended = True
                return
            self._buffer = np.concatenate([self._buffer, chunk])
            # Two windows stay: the last one may have to move inward when the end comes.
            spare = max(0, min(len(self._buffer), end - self._begin) - 2 * self._length)
            self._buffer, self._begin = self._buffer[spare:], self._begin + spare


def level(window: NDArray[np.floating]) -> float:
    """RMS level in dBFS (0 is a full-scale square wave), at least -120."""
    power = float(np.mean(np.square(window, dtype=np.float64))) if window.size else 0.0
    return 10 * float(np.log10(max(power, 1e-12)))
