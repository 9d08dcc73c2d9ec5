"""The strip below a heatmap film: what is claimed now, what the colours mean, and the whole film's sound at a glance."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mmssl.downstream.heatmap import palette
from mmssl.downstream.soundtrack import SILENCE

State = Literal["seen", "unseen", "silent"]
WORDS: dict[State, str] = {
    "seen": "sounding object in view",
    "unseen": "nothing in view seems to make this sound",
    "silent": "silence",
}
INK: dict[State, tuple[int, int, int]] = {"seen": (255, 179, 71), "unseen": (120, 160, 200), "silent": (95, 98, 108)}
GROUND, PALE, DIM = (18, 19, 24), (230, 231, 235), (128, 132, 144)


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
    """

    def __init__(
        self, width: int, *, times: NDArray[Any], levels: NDArray[Any], confidence: NDArray[Any], states: list[State]
    ) -> None:
        self.unit = max(10, min(22, width // 48))  # text height; the layout follows from it
        self.width, self.height = width, _even(self.unit * 5)
        self._times, self._states, self._confidence = times, states, confidence
        self._end = float(times[-1]) if len(times) and times[-1] > 0 else 1.0
        self._pad = self.unit
        self._ground = self._draw_ground(levels, confidence, states)

    def draw(self, moment: float, index: int) -> NDArray[np.uint8]:
        """(height, width, 3) RGB at `moment` seconds; `index` of the map shown."""
        image = self._ground.copy()
        pen = ImageDraw.Draw(image)
        state, u, pad = self._states[index], self.unit, self._pad
        middle = round(u * 1.25)
        pen.ellipse((pad, middle - u * 0.4, pad + u * 0.8, middle + u * 0.4), fill=INK[state])
        ink = PALE if state != "silent" else DIM
        pen.text((pad + u * 1.4, middle), self._words(state), font=font(u), fill=ink, anchor="lm")
        x = pad + (self.width - 2 * pad) * min(1.0, max(0.0, moment / self._end))
        top, bottom = round(u * 2.3), self.height - round(u * 0.6)
        pen.line((x, top, x, bottom), fill=PALE, width=max(1, u // 8))
        return np.asarray(image)

    def _words(self, state: State) -> str:
        room = self.width - self._legend_width() - 4 * self._pad - self.unit
        for words in (WORDS[state], {"seen": "in view", "unseen": "not in view", "silent": "silence"}[state]):
            if font(self.unit).getlength(words) <= room:
                return words
        return ""

    def _legend_width(self) -> float:
        small = font(max(9, self.unit - 2))
        return small.getlength("no match") + small.getlength("match") + self.unit * 6

    def _draw_ground(self, levels: NDArray[Any], confidence: NDArray[Any], states: list[State]) -> Image.Image:
        image = Image.new("RGB", (self.width, self.height), GROUND)
        pen = ImageDraw.Draw(image)
        self._draw_legend(image, pen)
        u, pad = self.unit, self._pad
        top, bottom = round(u * 2.3), self.height - round(u * 0.6)
        pen.rounded_rectangle((pad, top, self.width - pad, bottom), radius=u // 4, fill=(30, 32, 39))
        if not len(levels):
            return image
        # One bar for each 3 pixels: loudness from silence to full scale, coloured by what is claimed then.
        bars = max(1, (self.width - 2 * pad) // 3)
        height = bottom - top - 2
        for bar in range(bars):
            moment = (bar + 0.5) / bars * self._end
            index = int(np.abs(self._times - moment).argmin())
            loud = float(np.clip((levels[index] - SILENCE) / -SILENCE, 0.02, 1.0))
            x = pad + bar * 3
            middle = (top + bottom) / 2
            half = max(0.5, loud * height / 2)
            pen.rectangle((x, middle - half, x + 1, middle + half), fill=INK[states[index]])
        self._draw_curve(pen, confidence, states, top + 1, bottom - 1)
        return image

    def _draw_curve(self, pen: ImageDraw.ImageDraw, confidence: NDArray[Any], states: list[State], top: int, bottom: int) -> None:
        pad, span = self._pad, self.width - 2 * self._pad
        level = (top + bottom) / 2
        for x in range(pad, self.width - pad, 8):  # dashes at the threshold
            pen.line((x, level, x + 3, level), fill=(200, 202, 210))
        line: list[tuple[float, float]] = []
        for moment, sure, state in zip(self._times, confidence, states, strict=True):
            if state == "silent":  # no claim is made about silence
                self._stroke(pen, line)
                line = []
                continue
            line.append((pad + span * min(1.0, float(moment) / self._end), bottom - (bottom - top) * float(sure)))
        self._stroke(pen, line)

    def _stroke(self, pen: ImageDraw.ImageDraw, line: list[tuple[float, float]]) -> None:
        if len(line) > 1:
            pen.line(line, fill=(18, 19, 24), width=max(3, self.unit // 4 + 2), joint="curve")
            pen.line(line, fill=(255, 255, 255), width=max(1, self.unit // 8), joint="curve")

    def _draw_legend(self, image: Image.Image, pen: ImageDraw.ImageDraw) -> None:
        u, pad, small = self.unit, self._pad, font(max(9, self.unit - 2))
        middle, length = round(u * 1.25), u * 5
        right = self.width - pad
        pen.text((right, middle), "match", font=small, fill=DIM, anchor="rm")
        end = right - small.getlength("match") - u * 0.5
        bar = np.repeat(palette()[np.linspace(0, 255, length).astype(int)][None], max(4, round(u * 0.55)), axis=0)
        image.paste(Image.fromarray(bar.astype(np.uint8)), (round(end - length), round(middle - bar.shape[0] / 2)))
        pen.text((end - length - u * 0.5, middle), "no match", font=small, fill=DIM, anchor="rm")


def _even(value: float) -> int:
    return 2 * round(value / 2)
