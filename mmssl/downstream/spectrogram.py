"""Sound as a picture, for sheets that people look at."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image

FLOOR_DB = -80.0


def spectrogram_image(wave: np.ndarray, height: int, width: int) -> Image.Image:
    """A log-magnitude spectrogram (n_fft 512, 80 dB range below full scale) of a mono wave in [-1, 1]; low frequencies at the bottom."""
    n_fft = 512
    padded = torch.nn.functional.pad(torch.from_numpy(np.ascontiguousarray(wave)), (0, max(0, n_fft - len(wave))))
    power = torch.stft(padded, n_fft, n_fft // 4, window=torch.hann_window(n_fft), return_complex=True, center=False).abs() / (
        n_fft / 4
    )
    level = (20 * torch.log10(power.clamp_min(1e-6)) - FLOOR_DB) / -FLOOR_DB
    picture = (colormaps["magma"](level.clamp(0, 1).flip(0).numpy())[..., :3] * 255).astype(np.uint8)
    return Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
