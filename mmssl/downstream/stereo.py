"""A hand-made prior from stereo: the louder channel says at which side to look.

Nothing here is learnt. The level difference of the two channels is read as a place between the left and the right edge of the picture
by the sine law of constant-power panning, as if the microphones' stage were as wide as the picture. Films with music, with sounds panned for effect, or
recorded by a camera that turns break that assumption; so it is used by choice only, and every output that it touched names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmssl.downstream.render import sound_blocks, sound_format

HOP = 0.05  # seconds of one value
WIDTH = 0.5  # standard deviation of the prior; the picture is 2 wide
WEIGHT = 0.15  # cosine that a cell loses where the prior is 0
SAME = 1e-4  # of the energy: a smaller difference of the channels is a mono sound in two channels


@dataclass(frozen=True, slots=True)
class StereoSound:
    """The energy of both channels over time."""

    energy: NDArray[np.float64]  # (hops, 2): left, right

    def pan(self, start: float, end: float) -> float:
        """-1 (all left) to 1 (all right) in a window of seconds; 0.0 where nothing is heard."""
        first = max(0, round(start / HOP))
        left, right = self.energy[first : max(first + 1, round(end / HOP))].sum(axis=0)
        return 0.0 if left + right <= 0 else float(np.arctan2(np.sqrt(right), np.sqrt(left)) * 4 / np.pi - 1)

    def penalty(self, start: float, end: float, places: NDArray[Any]) -> NDArray[np.float32]:
        """What columns at `places` (w,), -1 left to 1 right, lose: 0 where the sound comes from, down to -`WEIGHT` far from it."""
        away = np.asarray(places) - self.pan(start, end)
        return (WEIGHT * (np.exp(-(away**2) / (2 * WIDTH**2)) - 1)).astype(np.float32)


def listen_stereo(path: Path) -> StereoSound | None:
    """The levels of both channels of a film, None where it has one, or two that are the same.

    Raises:
        MediaError: the file cannot be opened or has no sound.
    """
    rate, channels = sound_format(path)
    if channels < 2:
        return None
    hop, rest = round(rate * HOP), np.zeros((2, 0), dtype=np.float32)
    energy: list[NDArray[np.float64]] = []
    apart = total = 0.0
    for block in sound_blocks(path, rate, 2):
        apart += float(np.square(block[0] - block[1], dtype=np.float64).sum())
        total += float(np.square(block, dtype=np.float64).sum())
        rest = np.concatenate([rest, block], axis=1)
        whole = rest.shape[1] // hop
        if whole:
            parts = rest[:, : whole * hop].reshape(2, whole, hop)
            energy.append(np.square(parts, dtype=np.float64).sum(axis=2).T)
            rest = rest[:, whole * hop :]
    if apart <= SAME * total or not energy:
        return None
    return StereoSound(np.concatenate(energy))
