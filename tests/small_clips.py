"""Small media files, encoded on the spot."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def make_clip(
    path: Path,
    *,
    seconds: float = 1.0,
    fps: int = 10,
    size: tuple[int, int] | None = (32, 24),  # (width, height); None: no picture
    tone: float | None = 0.5,  # amplitude of a 440 Hz tone; None: no sound
    tone_from: float = 0.0,  # digital silence before
    rate: int = 16_000,
    video_codec: str = "mpeg4",
    audio_codec: str = "aac",
) -> Path:
    """Write a clip with a moving bar and a tone, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        picture = sound = None
        if size is not None:
            picture = container.add_stream(video_codec, rate=fps)
            picture.width, picture.height, picture.pix_fmt = size[0], size[1], "yuv420p"
        if tone is not None:
            sound = container.add_stream(audio_codec, rate=rate, layout="mono")
        if picture is not None:
            for number in range(round(seconds * fps)):
                image = np.zeros((size[1], size[0], 3), dtype=np.uint8)
                image[:, number % size[0]] = 255
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, fps)
                container.mux(picture.encode(frame))
            container.mux(picture.encode(None))
        if sound is not None:
            time = np.arange(round(seconds * rate)) / rate
            wave = np.where(time >= tone_from, tone * np.sin(2 * np.pi * 440 * time), 0.0).astype(np.float32)
            for start in range(0, len(wave), 1024):
                frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="fltp", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
                container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
    return path
