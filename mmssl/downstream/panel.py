"""The strip below a heatmap film: what is claimed now, what the colours mean, and the whole film's sound at a glance."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mmssl.downstream.heatmap import palette, source_colours
from mmssl.downstream.soundtrack import SILENCE

State = Literal["seen", "unseen", "silent"]
WORDS: dict[State, str] = {
    "seen": "sounding object in view",
    "unseen": "nothing in view seems to make this sound",
    "silent": "silence",
}
INK: dict[State, tuple[int, int, int]] = {"seen": (255, 179, 71), "unseen": (120, 160, 200), "silent": (95, 98, 108)}
GROUND, LANE, PALE, DIM = (18, 19, 24), (30, 32, 39), (230, 231, 235), (128, 132, 144)


@lru_cache(maxsize=16)
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as shipped with matplotlib, `size` pixels high."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


class Panel:
    """Draws the strip for any moment of one film; what does not move is drawn once.

    Args:
        width: pixels, even.
        times: (K,) seconds of the maps.
        levels: (K,) dBFS of the sound around each.
        confidence: (K,) 0 to 1; 0.5 is the threshold.
        states: what is claimed at each.
        notes: what was done beside the plain maps, told at all times.
        sources: names of several sources, in the order of their colours; they stand in place of the one scale of colours.
        heard: (K,) index of the source that each moment's sound is likest.
    """

    def __init__(
        self,
        width: int,
        *,
        times: NDArray[Any],
        levels: NDArray[Any],
        confidence: NDArray[Any],
        states: list[State],
        notes: str = "",
        sources: tuple[str, ...] = (),
        heard: NDArray[Any] | None = None,
    ) -> None:
        self.unit = u = max(8, min(24, width // 44))  # text height; the layout follows from it
        self._sources, self._heard, self._notes = sources, heard, notes
        self.width, self.height = width, 2 * round(u * (3.6 + 0.8 * (bool(sources) + bool(notes))))
        self._times, self._states = times, states
        self._end = float(times[-1]) if len(times) and times[-1] > 0 else 1.0
        self._left, self._right = u, width - u
        self._curve = (round(u * 2.4), round(u * 4.5))  # rows of the confidence lane: top, bottom
        self._sound = (round(u * 4.7), round(u * 6.6))  # rows of the loudness lane
        self._ground = self._draw_ground(levels, confidence)

    def draw(self, moment: float, index: int) -> NDArray[np.uint8]:
        """(height, width, 3) RGB at `moment` seconds; `index` of the map shown."""
        image = self._ground.copy()
        pen = ImageDraw.Draw(image)
        state, u, middle = self._states[index], self.unit, round(self.unit * 1.25)
        pen.ellipse((self._left, middle - u * 0.4, self._left + u * 0.8, middle + u * 0.4), fill=INK[state])
        ink = PALE if state != "silent" else DIM
        pen.text((self._left + u * 1.4, middle), self._words(state), font=font(u), fill=ink, anchor="lm")
        x = self._column(moment)
        pen.line((x, self._curve[0] - u * 0.2, x, self._sound[1] + u * 0.2), fill=PALE, width=max(1, u // 8))
        if self._sources:
            self._draw_sources(pen, index)
        return np.asarray(image)

    def _draw_sources(self, pen: ImageDraw.ImageDraw, index: int) -> None:
        """A name for each colour; the source that is heard now is bright."""
        u, middle = self.unit, self._sound[1] + self.unit * 0.9
        step = (self._right - self._left) / len(self._sources)
        small = font(max(8, u - 2))
        for k, (name, colour) in enumerate(zip(self._sources, source_colours(len(self._sources)), strict=True)):
            now = self._heard is not None and self._states[index] == "seen" and int(self._heard[index]) == k
            left, tint = self._left + k * step, tuple(int(c) if now else int(c) // 2 for c in colour)
            pen.ellipse((left, middle - u * 0.4, left + u * 0.8, middle + u * 0.4), fill=tint)
            text = _fitted(name, small, step - u * 2)
            pen.text((left + u * 1.3, middle), text, font=small, fill=PALE if now else DIM, anchor="lm")

    def _column(self, moment: float) -> float:
        return self._left + (self._right - self._left) * min(1.0, max(0.0, moment / self._end))

    def _words(self, state: State) -> str:
        room = (self._right if self._sources else self._legend_left()) - self._left - self.unit * 2
        for words in (WORDS[state], {"seen": "in view", "unseen": "not in view", "silent": "silence"}[state]):
            if font(self.unit).getlength(words) <= room:
                return words
        return ""

    def _draw_ground(self, levels: NDArray[Any], confidence: NDArray[Any]) -> Image.Image:
        image = Image.new("RGB", (self.width, self.height), GROUND)
        pen = ImageDraw.Draw(image)
        if not self._sources:
            self._draw_legend(image, pen)
        if self._notes:
            small, middle = font(max(8, self.unit - 2)), self.height - self.unit * 0.9
            text = _fitted(self._notes, small, self._right - self._left)
            pen.text((self._left, middle), text, font=small, fill=DIM, anchor="lm")
        for top, bottom in (self._curve, self._sound):
            pen.rectangle((self._left, top, self._right, bottom), fill=LANE)
        if len(levels):
            self._draw_loudness(pen, levels)
            self._draw_confidence(pen, confidence)
        return image

    def _draw_loudness(self, pen: ImageDraw.ImageDraw, levels: NDArray[Any]) -> None:
        """One bar for each 3 pixels, from silence to full scale, coloured by what is claimed then."""
        top, bottom = self._sound
        middle = (top + bottom) / 2
        for x in range(self._left, self._right - 1, 3):
            index = self._index_at(x)
            loud = float(np.clip((levels[index] - SILENCE) / -SILENCE, 0.0, 1.0))
            half = max(0.5, loud * (bottom - top - 2) / 2)
            pen.rectangle((x, middle - half, x + 1, middle + half), fill=INK[self._states[index]])

    def _draw_confidence(self, pen: ImageDraw.ImageDraw, confidence: NDArray[Any]) -> None:
        """How sure the claim is: a filled curve, coloured above and below the threshold; no claim is made about silence."""
        top, bottom = self._curve
        level = (top + bottom) / 2
        previous: tuple[float, float] | None = None
        for x in range(self._left, self._right):
            index = self._index_at(x)
            if self._states[index] == "silent":
                previous = None
                continue
            y = bottom - 1 - (bottom - top - 2) * float(confidence[index])
            tint = INK[self._states[index]]
            pen.line((x, level, x, y), fill=tuple(channel * 11 // 20 for channel in tint))
            pen.line((*(previous or (x, y)), x, y), fill=tint, width=max(1, self.unit // 8))
            previous = (x, y)
        for x in range(self._left, self._right - 3, 8):  # dashes at the threshold
            pen.line((x, level, x + 3, level), fill=DIM)

    def _index_at(self, x: float) -> int:
        moment = (x - self._left) / max(1, self._right - self._left) * self._end
        after = int(np.searchsorted(self._times, moment).clip(0, len(self._times) - 1))
        return after - 1 if after and moment - self._times[after - 1] < self._times[after] - moment else after

    def _legend_left(self) -> float:
        small = font(max(8, self.unit - 2))
        return self._right - small.getlength("no match") - small.getlength("match") - self.unit * 6

    def _draw_legend(self, image: Image.Image, pen: ImageDraw.ImageDraw) -> None:
        u, small = self.unit, font(max(8, self.unit - 2))
        middle, length = round(u * 1.25), u * 5
        pen.text((self._right, middle), "match", font=small, fill=DIM, anchor="rm")
        end = self._right - small.getlength("match") - u * 0.5
        bar = np.repeat(palette()[np.linspace(0, 255, length).astype(int)][None], max(4, round(u * 0.55)), axis=0)
        image.paste(Image.fromarray(bar.astype(np.uint8)), (round(end - length), round(middle - bar.shape[0] / 2)))
        pen.text((end - length - u * 0.5, middle), "no match", font=small, fill=DIM, anchor="rm")


def _fitted(text: str, letters: ImageFont.FreeTypeFont, room: float) -> str:
    """As much of a text as there is room for."""
    while text and letters.getlength(text) > room:
        text = text[:-1]
    return text
