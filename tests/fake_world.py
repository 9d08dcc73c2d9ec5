"""A planted link for the downstream tests: a low tone belongs to red, a high tone to green. No training, exact answers.

The encoders measure colour and pitch; grid cells are 8 pixels, centred on 8i + 3.5, or on 8i where `shifted`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mmssl.cuts.pairs import PairViews
from mmssl.downstream.pairing import Pairing, pair
from mmssl.encoders.base import Encoder
from mmssl.objectives.base import Batch, Objective
from mmssl.types import Features, InputSpec, Loss

LOW, HIGH = 400.0, 1600.0  # Hz
RED, GREEN, GREY = (220, 30, 30), (30, 200, 30), (110, 110, 110)
RATE = 8000


class ColourEncoder(Encoder):
    """(redness, greenness, a small constant, 0) of each cell."""

    modality = "frame"

    def __init__(self, *, shifted: bool = False, square_only: bool = False) -> None:
        super().__init__(dim=4, spec=InputSpec(size=64), arguments={"shifted": shifted, "square_only": square_only})
        self.grid_stride, self.grid_offset = 8.0, 0.0 if shifted else 3.5
        self.shifted, self.square_only = shifted, square_only
        self.encoded = 0

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Features:
        if self.square_only and x.shape[-1] != x.shape[-2]:
            raise ValueError("square pictures only")
        self.encoded += len(x)
        flat = x.flatten(0, 1).float() / 255
        if self.shifted:  # cells centred on 8i: as padded strided convolutions do
            flat = F.pad(flat, (4, 4, 4, 4), mode="replicate")[..., :-1, :-1]
        cells = F.avg_pool2d(flat, 8, ceil_mode=False)
        red, green = cells[:, 0] - cells[:, 1:].mean(1), cells[:, 1] - cells[:, ::2].mean(1)
        grid = torch.stack([red.clamp(min=0), green.clamp(min=0), torch.full_like(red, 0.05), torch.zeros_like(red)], -1)
        grid = grid.unflatten(0, x.shape[:2])
        return Features(grid.mean((1, 2, 3)), grid.clone())


class ClipColourEncoder(Encoder):
    """The same for clips: needs exactly `frames` pictures, and sees their middle one."""

    modality = "video"

    def __init__(self, *, frames: int = 4) -> None:
        super().__init__(dim=4, spec=InputSpec(size=64, frames=frames, fps=10.0), arguments={"frames": frames})
        self.grid_stride, self.grid_offset = 8.0, 3.5
        self.frames, self.inner = frames, ColourEncoder()

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Features:
        if x.shape[1] != self.frames:
            raise ValueError(f"needs {self.frames} pictures, got {x.shape[1]}")
        middle = (self.frames - 1) // 2
        return self.inner(x[:, middle : middle + 1])


class PitchEncoder(Encoder):
    """Shares of energy (around the low tone, around the high tone, 0, elsewhere): what is elsewhere matches no picture."""

    modality = "audio"

    def __init__(self, *, rate: int = RATE) -> None:
        super().__init__(dim=4, spec=InputSpec(rate=rate), arguments={"rate": rate})

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Features:
        power = torch.fft.rfft(x).abs() ** 2
        hertz = torch.fft.rfftfreq(x.shape[-1], 1 / self.spec.rate)
        bands = [power[:, (hertz - tone).abs() < 150].sum(-1) for tone in (LOW, HIGH)]
        total = power.sum(-1) + 1e-3
        low, high = (band / total for band in bands)
        pooled = torch.stack([low, high, torch.zeros_like(low), 1 - low - high], -1)
        return Features(pooled, pooled[:, None, None].clone())


class ColourPitch(Objective):
    """Cosine of colour and pitch; a pair scores by its best cell."""

    roles = {"video": ("frame", "video"), "audio": ("audio",)}  # noqa: RUF012

    def __init__(self, *, encoders: Mapping[str, Encoder], views: PairViews) -> None:
        super().__init__()
        self.views = views.resolve(encoders["video"].spec, encoders["audio"].spec)

    def forward(self, batch: Batch, bank: object) -> Loss:
        raise NotImplementedError

    def embed(self, role: str, features: Features) -> Tensor:
        return F.normalize(features.pooled, dim=-1)

    def similarity_map(self, video: Features, audio: Features) -> Tensor:
        return torch.einsum("nthwd,nd->nthw", F.normalize(video.grid, dim=-1), self.embed("audio", audio))

    def correspondence(self, video: Features, audio: Features) -> Tensor:
        return torch.einsum("nthwd,md->nmthw", F.normalize(video.grid, dim=-1), self.embed("audio", audio)).amax((2, 3, 4))


def fake_pairing(video: Encoder | None = None, **views: object) -> Pairing:
    encoders: dict[str, Encoder] = {"video": video or ColourEncoder(), "audio": PitchEncoder()}
    cuts = PairViews(**{"frames": 1, "seconds": 0.4, "fps": 0.0, **views})  # type: ignore[arg-type]
    return pair("colour_pitch", ColourPitch(encoders=encoders, views=cuts), encoders)


def tone(hertz: float, seconds: float, *, rate: int = 16000, loud: float = 0.3) -> np.ndarray:
    return (loud * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def squares(
    red: tuple[int, int] | None, green: tuple[int, int] | None, *, size: tuple[int, int] = (64, 64), side: int = 16
) -> np.ndarray:
    """A grey picture (height, width, 3) with a red and a green square centred on (x, y)."""
    picture = np.full((*size, 3), GREY, np.uint8)
    for centre, colour in ((red, RED), (green, GREEN)):
        if centre is not None:
            x, y = centre
            picture[max(0, y - side // 2) : y + side // 2, max(0, x - side // 2) : x + side // 2] = colour
    return picture


def write_film(
    path: Path,
    picture: Callable[[float], np.ndarray] | None,
    sound: np.ndarray | None,
    *,
    seconds: float = 2.0,
    fps: int = 10,
    rate: int = 16000,
    sound_from: float = 0.0,
    codec: str = "libx264",
    audio_codec: str = "aac",
) -> Path:
    """A film whose picture at time t is `picture(t)`; `sound` is mono (samples,) or (channels, samples)."""
    with av.open(str(path), "w") as container:
        video = audio = None
        if picture is not None:
            video = container.add_stream(codec, rate=fps, options={"crf": "8"} if codec == "libx264" else {})
            first = picture(0.0)
            video.height, video.width, video.pix_fmt = first.shape[0], first.shape[1], "yuv420p"
        if sound is not None:
            sound = np.atleast_2d(sound)
            layout = "mono" if len(sound) == 1 else "stereo"
            audio = container.add_stream(audio_codec, rate=rate, layout=layout)
        if video is not None and picture is not None:
            for k in range(round(seconds * fps)):
                frame = av.VideoFrame.from_ndarray(picture(k / fps), format="rgb24")
                frame.pts, frame.time_base = k, Fraction(1, fps)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        if audio is not None and sound is not None:
            for start in range(0, sound.shape[1], 1024):
                block = np.ascontiguousarray(sound[:, start : start + 1024])
                frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono" if len(block) == 1 else "stereo")
                frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                frame.pts = start + round(sound_from * rate)
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path
