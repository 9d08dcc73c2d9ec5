"""What can be told without learning anything: the colours of a clip, or the spectrum of its sound."""

from __future__ import annotations

import torch
from torch import Tensor

from mmssl.downstream.probe.clips import Cut
from mmssl.downstream.probe.embed import Embedder
from mmssl.nn.logmel import LogMel

LEVELS = 6  # of each colour: 216 bins
SIDE = 64  # pixels on a side that are counted, about: more say the same
MELS = 64


def handmade(cut: Cut) -> Embedder:
    """The baseline for views of this cut."""
    return mean_spectrum(cut.rate) if cut.sound else colour_histogram()


def colour_histogram() -> Embedder:
    """Share of the pixels in each of 6 x 6 x 6 cells of RGB, square roots: their inner product is the Bhattacharyya coefficient."""
    return Embedder("colour histogram", f"rgb {LEVELS}", _histogram)


def mean_spectrum(rate: int) -> Embedder:
    """Mean and standard deviation over time of the log-mel spectrum, 64 bands each."""
    net = LogMel(rate=rate, mels=MELS)

    def spectrum(waves: Tensor) -> Tensor:
        bands = net(waves)
        return torch.cat([bands.mean(1), bands.std(1, correction=0)], dim=1)

    return Embedder("mean spectrum", f"log-mel {rate} {MELS}", spectrum)


def _histogram(clips: Tensor) -> Tensor:
    """(N, T, 3, H, W) uint8 -> (N, LEVELS**3)."""
    step = max(1, clips.shape[-1] // SIDE)
    level = clips[..., ::step, ::step].to(torch.int64) * LEVELS // 256
    cell = (level[:, :, 0] * LEVELS + level[:, :, 1]) * LEVELS + level[:, :, 2]
    cell = cell.flatten(1)
    counts = torch.zeros(len(cell), LEVELS**3).scatter_add_(1, cell, torch.ones(cell.shape))
    return (counts / cell.shape[1]).sqrt()
