"""A transformer on patches of a log-mel spectrogram, built from its configuration (no weights are fetched).

Gong et al. 2021, "AST: Audio Spectrogram Transformer" (arXiv:2104.01778), by way of transformers' `ASTModel`.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor
from transformers import ASTConfig, ASTModel

from mmssl.encoders.base import Encoder
from mmssl.nn.inputs import check_wave
from mmssl.nn.logmel import LogMel
from mmssl.types import Features, InputSpec, Modality

Size = Literal["tiny", "small", "base"]
SHAPES = {"tiny": (128, 4, 4, 64), "small": (384, 12, 6, 128), "base": (768, 12, 12, 128)}  # width, layers, heads, mel bands
PATCH = 16  # windows and bands
EXTRA = 2  # AST's class and distillation tokens, in front of the patches


class AudioViT(Encoder):
    """(N, samples) at `rate` -> pooled (N, D), the mean of the grid (N, T, F, D).

    Positions are learnt, so input must be exactly `seconds` long.

    Args:
        size: width and depth: "tiny" for two cores, "small" or "base".
        rate: of the sound that it takes, samples a second.
        seconds: length of the sound that it takes, exactly.
        mels: bands of the log-mel spectrogram (`mmssl.nn.logmel`); None: tiny 64, the others 128.
        window: seconds that each Hann window lasts.
        hop: seconds from window to window.
        stride: patches of 16 x 16 windows and bands start every so many windows and bands (AST: 10, so that they overlap).

    Raises:
        ValueError: for arguments that do not fit one another.
    """

    modality: ClassVar[Modality] = "audio"

    def __init__(
        self,
        *,
        size: Size = "base",
        rate: int = 16000,
        seconds: float = 1.0,
        mels: int | None = None,
        window: float = 0.025,
        hop: float = 0.010,
        stride: int = 10,
    ) -> None:
        if size not in SHAPES:
            raise ValueError(f"size must be one of {', '.join(SHAPES)}, got {size!r}")
        width, layers, heads, bands = SHAPES[size]
        mels = mels or bands
        arguments = {"size": size, "rate": rate, "seconds": seconds, "mels": mels, "window": window, "hop": hop, "stride": stride}
        super().__init__(dim=width, spec=InputSpec(rate=rate, seconds=seconds), arguments=arguments)
        self.logmel = LogMel(rate=rate, mels=mels, window=window, hop=hop)
        self.samples = round(rate * seconds)
        windows = self.logmel.windows(self.samples)
        if windows < PATCH or mels < PATCH:
            raise ValueError(
                f"a patch is {PATCH} windows by {PATCH} bands; {seconds} s give {windows} windows of {mels} bands: raise seconds or mels"
            )
        self.cells = tuple((extent - PATCH) // stride + 1 for extent in (windows, mels))
        self.net = ASTModel(
            ASTConfig(
                hidden_size=width,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                intermediate_size=4 * width,
                patch_size=PATCH,
                frequency_stride=stride,
                time_stride=stride,
                max_length=windows,
                num_mel_bins=mels,
            )
        )

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Features:
        """See the class. `valid` has no meaning here. Raises `ValueError` for a wrong shape, type or length."""
        del valid
        check_wave(x, samples=self.samples, rate=self.spec.rate, exact=True)
        tokens = self.net(self.logmel(x)).last_hidden_state[:, EXTRA:]
        # AST numbers its patches band by band; the grid is time first.
        grid = tokens.unflatten(1, (self.cells[1], self.cells[0])).transpose(1, 2).contiguous()
        return Features(pooled=grid.mean((1, 2)), grid=grid)
