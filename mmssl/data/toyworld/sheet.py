"""A contact sheet of a toy corpus, drawn from the files themselves: frames, who sounds, spectrogram, captions."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmssl.data.decode import answer
from mmssl.data.toyworld.corpus import clip_path
from mmssl.data.toyworld.truth import Truth, load_truth
from mmssl.files import write_aside
from mmssl.types import Frames, MediaError, Source, Wave

SHEET = "contact_sheet.png"
_SHOTS, _SIDE, _GAP, _BAND, _LINE = 8, 128, 2, 64, 15  # pictures a strip; pixels: their side, gaps, spectrogram, line of text
_MARGIN, _COLUMNS = 14, 2
_PAPER, _INK, _FAINT, _SOUND, _HIDDEN = (250, 250, 248), (25, 25, 28), (120, 120, 125), (255, 255, 255), (90, 200, 255)
_WIDTH = _SHOTS * (_SIDE + _GAP) - _GAP
_HEIGHT = 2 * _LINE + _SIDE + _BAND + 3 * _LINE + 6


def draw_contact_sheet(out: Path, *, clips: int = 10) -> Path:
    """Draw the first `clips` clips of the corpus at `out` into its `contact_sheet.png` -> that path.

    A white outline marks the objects that are heard in the clip; ticks on the spectrogram are strikes (blue: from outside the view).
    Captions stand where they are said, below their moment.
    """
    rows = -(-clips // _COLUMNS)
    across = _COLUMNS * _WIDTH + (_COLUMNS + 1) * _MARGIN
    sheet = Image.new("RGB", (across, rows * (_HEIGHT + _MARGIN) + _MARGIN), _PAPER)
    for index in range(clips):
        corner = (_MARGIN + index % _COLUMNS * (_WIDTH + _MARGIN), _MARGIN + index // _COLUMNS * (_HEIGHT + _MARGIN))
        _draw_clip(sheet, corner, clip_path(out, index))
    content = io.BytesIO()
    sheet.save(content, "png")
    write_aside(Path(out) / SHEET, content.getvalue())
    return Path(out) / SHEET


def _draw_clip(sheet: Image.Image, corner: tuple[int, int], video: Path) -> None:
    truth = load_truth(video)
    if truth is None:
        raise MediaError(f"{video} has no ground truth beside it")
    seconds, rate = float(truth.difficulty["seconds"]), int(truth.difficulty["rate"])
    times = tuple((k + 0.5) * seconds / _SHOTS for k in range(_SHOTS))
    shots, wave = Frames(times, _SIDE), Wave(0.0, seconds, rate)
    answers = answer(Source(video.stem, video), (shots, wave))
    draw, (left, top) = ImageDraw.Draw(sheet), corner
    draw.text((left, top), video.stem, _INK, _font(13, bold=True))
    draw.text((left + 90, top + 1), _headline(truth), _FAINT, _font(12))
    draw.text((left, top + _LINE), _cast(truth), _FAINT, _font(12))
    top += 2 * _LINE + 2
    for k, (time, picture) in enumerate(zip(times, answers[shots].numpy(), strict=True)):
        shown = _outlined(np.ascontiguousarray(picture.transpose(1, 2, 0)), truth.sounding_mask(time))
        sheet.paste(Image.fromarray(shown), (left + k * (_SIDE + _GAP), top))
    top += _SIDE + 2
    sheet.paste(Image.fromarray(_spectrogram(answers[wave].numpy(), rate)), (left, top))
    for sound in truth.sounds:
        x = left + round(sound.time / seconds * _WIDTH)
        draw.line((x, top, x, top + 9), _SOUND if sound.body >= 0 else _HIDDEN, 2)
    if truth.muted:
        draw.text((left + 6, top + _BAND / 2 - 8), "muted", _FAINT, _font(12))
    _draw_captions(draw, truth, (left, top + _BAND + 2), seconds)


def _draw_captions(draw: ImageDraw.ImageDraw, truth: Truth, corner: tuple[int, int], seconds: float) -> None:
    """Each caption begins below its moment, in the first of three lines that has room."""
    (left, top), font, ends = corner, _font(11), [0.0, 0.0, 0.0]
    for cue in truth.captions:
        x, length = cue.start / seconds * _WIDTH, font.getlength(cue.text)
        x = min(x, max(0.0, _WIDTH - length - 8))
        line = next((k for k, end in enumerate(ends) if end <= x), int(np.argmin(ends)))
        draw.line((left + x, top + line * _LINE + 2, left + x, top + line * _LINE + 12), _FAINT, 1)
        draw.text((left + x + 4, top + line * _LINE), cue.text, _INK, font)
        ends[line] = x + length + 14


def _headline(truth: Truth) -> str:
    parts = [f"seed {truth.seed}"]
    if truth.cut:
        parts.append(f"cut: {truth.cut}")
    heard = sorted({sound.material for sound in truth.sounds if sound.body >= 0})
    beyond = sorted({sound.material for sound in truth.sounds if sound.body < 0})
    parts.append(f"heard: {', '.join(heard) or 'nothing in view'}")
    if beyond:
        parts.append(f"from outside the view: {', '.join(beyond)}")
    return "  |  ".join(parts)


def _cast(truth: Truth) -> str:
    objects = zip(truth.hues, truth.materials, truth.shapes, truth.radii, strict=True)
    return "in view: " + ", ".join(f"{hue} {material} {shape} ({radius:.0f} px)" for hue, material, shape, radius in objects)


def _outlined(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    wide = cv2.resize(mask.astype(np.uint8), (_SIDE, _SIDE), interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(wide, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, (0, 0, 0), 3)
    cv2.drawContours(picture, contours, -1, (255, 255, 255), 1)
    return picture


def _spectrogram(wave: np.ndarray, rate: int) -> np.ndarray:
    """Log-frequency spectrogram, 60 dB below its own peak (or below -40 dBFS) -> uint8 (band, width, 3)."""
    window = 512
    starts = np.linspace(0, len(wave) - 1, _WIDTH).astype(int)  # each column is centred on its moment
    pieces = np.lib.stride_tricks.sliding_window_view(np.pad(wave, window // 2), window)[starts] * np.hanning(window)
    power = np.abs(np.fft.rfft(pieces, axis=1)).T ** 2  # (bins, width)
    hertz = np.geomspace(rate / 2, 60.0, _BAND)
    rows = np.clip(hertz / (rate / window), 1, window / 2 - 1)
    low = rows.astype(int)
    share = (rows - low)[:, None]
    decibels = 10 * np.log10(power[low] * (1 - share) + power[low + 1] * share + 1e-9)
    peak = max(float(decibels.max()), -10.0)
    grey = np.clip((decibels - peak + 60) / 60 * 255, 0, 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    # Matplotlib, which is here anyway, carries a font that every machine then has.
    from matplotlib import get_data_path

    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / f"DejaVuSans{'-Bold' if bold else ''}.ttf", size)
