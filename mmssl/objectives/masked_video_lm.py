"""Masked language modelling with the video beside it: fill in the word that only the picture tells.

Sun, Myers, Vondrick, Murphy, Schmid, "VideoBERT: A Joint Model for Video and Language Representation Learning", ICCV 2019,
arXiv:1904.01766, section 3.2: words of a caption are hidden and told from the rest of it and from the video. There video is quantised into
words of its own and stands in the text; here, as in Luo et al., "UniVL", 2020, arXiv:2002.06353, section 3.3, continuous features are
joined after the encoders. The text's hidden states ask the cells of the video's grid by cross-attention.

With h_i the text encoder's output at a hidden place i, v_c the video's features of cell c at x_c (its place in time, height and width):

    u_i = h_i + Attention(query norm(h_i), keys and values V v_c + X x_c);  u_i = u_i + MLP(norm(u_i));  repeated `layers` times
    loss = mean over hidden i of -log softmax(W norm(gelu(A u_i + a)) + b)[w_i]

What is hidden, and how, is BERT's choice (see masked_lm): 15 %, of them 80 % masked, 10 % replaced, 10 % left. The measure that matters is
how much worse the same places are told beside the video of another film.

n rows, T frames, H rows and W columns of cells, L tokens, K hidden places, D features, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmssl.cuts.captions import CAPTION_AUGMENT, CaptionViews
from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder, reader
from mmssl.nn.augment import FrameAugment
from mmssl.nn.heads import at_least_float32
from mmssl.nn.strangers import next_stranger
from mmssl.nn.token_masks import Hidden, TokenMask
from mmssl.nn.writing import Written, compared, metrics_of, score
from mmssl.objectives.base import Batch, Judged, Objective
from mmssl.types import Features, InputError, Loss, Modality

WAVES = 4  # frequencies in which a cell's place is told, along each axis: 1/2, 1, 2 and 4 periods


class Beside(nn.Module):
    """One layer: queries ask the cells of a video, then think."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ask_norm, self.think_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ask = nn.MultiheadAttention(width, heads, batch_first=True)
        self.think = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x_nKD: Tensor, cells_nCD: Tensor) -> Tensor:
        """(n, K, D) beside (n, C, D)."""
        x_nKD = x_nKD + self.ask(self.ask_norm(x_nKD), cells_nCD, cells_nCD, need_weights=False)[0]
        return x_nKD + self.think(self.think_norm(x_nKD))


class MaskedVideoLm(Objective):
    """Tell hidden words of a caption from the words around them and the clip beside it.

    Args:
        encoders: `video` and `text`.
        views: the clip and its caption; None in them is filled in from the encoders. `views.candidates` stays 1.
        share: of the tokens that are chosen.
        whole_words: choose whole words.
        masked, random: shares of the chosen tokens that are replaced by the mask, and by a random token; the rest stays.
        layers: of cross-attention.
        heads: of it; they divide the text encoder's width.
        frame_augment: applied in training. Mirroring would make captions that say left or right wrong.

    `accuracy` is over chosen tokens; its chance is how often guessing the commonest of them would be right. `accuracy_wrong_video` is the
    same with the clip of the next row of another film: what of it the words alone tell; it is measured on held-out rows only. (A batch
    of one film has no such row; the first row's clip stands in.)
    """

    roles: ClassVar[Mapping[str, tuple[Modality, ...]]] = {"video": ("frame", "video"), "text": ("text",)}

    def __init__(
        self,
        *,
        encoders: Mapping[str, Encoder],
        views: CaptionViews = CaptionViews(),
        share: float = 0.15,
        whole_words: bool = False,
        masked: float = 0.8,
        random: float = 0.1,
        layers: int = 2,
        heads: int = 4,
        frame_augment: FrameAugment = CAPTION_AUGMENT,
    ) -> None:
        super().__init__()
        encoder = encoders["text"]
        if not 0.0 < share < 1.0 or min(masked, random) < 0.0 or masked + random > 1.0:
            raise InputError(
                f"masked_video_lm: share {share}, masked {masked}, random {random}; share lies between 0 and 1, the other two are shares of "
                "the chosen tokens and add up to at most 1"
            )
        if layers < 1 or heads < 1 or encoder.dim % heads:
            raise InputError(
                f"masked_video_lm: layers {layers}, heads {heads}; give at least 1, and heads that divide the text encoder's width of {encoder.dim}"
            )
        if (views.candidates or 1) != 1:
            raise InputError(
                f"masked_video_lm: views.candidates is {views.candidates}; a clip has one caption here, leave it out"
            )
        vocabulary = reader(encoder, "masked_video_lm").vocabulary
        self.views = views.resolve(encoders["video"].spec, encoder.spec)
        self.hide = TokenMask(vocabulary, share=share, whole_words=whole_words, masked=masked, random=random)
        self.size = vocabulary.size
        width = encoder.dim
        self.cell = nn.Linear(encoders["video"].dim, width)
        self.place = nn.Linear(3 * 2 * WAVES, width, bias=False)
        self.cell_norm = nn.LayerNorm(width)
        self.beside = nn.ModuleList(Beside(width, heads) for _ in range(layers))
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.output = nn.Linear(width, vocabulary.size)
        self.frame_augment = frame_augment

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        """The loss. Needs `video` (n, T, 3, H, W), `text` (n, 1, L), `source` (n,)."""
        hidden, asked, cells = self._read(batch, bank)
        told = self._tell(hidden, asked, cells)
        metrics = metrics_of(told, self.size)
        metrics["hidden"] = told.used.sum() / (~self.hide.special[batch["text"]]).sum().clamp(min=1)
        if not self.training:  # asking the cells once more would be about a tenth of a training step
            with torch.no_grad():
                wrong = self._tell(hidden, asked, cells[next_stranger(batch["source"])[0]])
            metrics |= {
                "accuracy_wrong_video": wrong.mean(wrong.right),
                "accuracy_wrong_video/chance": metrics["accuracy/chance"],
                "nll_wrong_video": wrong.mean(wrong.nll),
            }
        return Loss(told.mean(told.nll), metrics)

    @torch.no_grad()
    def judge(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Judged]:
        """`accuracy` and `nll` (nats a token) of chosen tokens, means over each text; `..._wrong_video` beside another film's clip.

        `gain` is their difference: what the picture tells.
        """
        hidden, asked, cells = self._read(batch, bank)
        own = compared(self._tell(hidden, asked, cells), self.size)
        wrong = compared(self._tell(hidden, asked, cells[next_stranger(batch["source"])[0]]), self.size)
        found = own | {f"{name}_wrong_video": figures for name, figures in wrong.items()}
        gain = own["accuracy"][0] - wrong["accuracy"][0]
        return {name: Judged(*figures) for name, figures in found.items()} | {"gain": Judged(gain, 0.0)}

    def _read(self, batch: Batch, bank: EncoderBank) -> tuple[Hidden, Tensor, Tensor]:
        """What is hidden, the text's states at those places (n, K, D), and the cells of the video (n, C, D)."""
        hidden = self.hide(batch["text"].flatten(0, 1))
        grid = bank.encode("text", hidden.ids).grid
        asked = grid.gather(1, hidden.places[..., None].expand(-1, -1, grid.shape[-1]))
        video = bank.encode("video", batch["video"], self.frame_augment if self.training else None)
        return hidden, asked, self._cells(video)

    def _cells(self, video: Features) -> Tensor:
        n, t, h, w, _ = video.grid.shape
        waves = place_waves(t, h, w, video.grid.device).to(video.grid.dtype)
        return self.cell_norm(self.cell(video.grid) + self.place(waves)).reshape(n, t * h * w, -1)

    def _tell(self, hidden: Hidden, asked: Tensor, cells: Tensor) -> Written:
        for layer in self.beside:
            asked = layer(asked, cells)
        return score(self.output(self.transform(at_least_float32(asked))), hidden.targets, hidden.used)


def place_waves(t: int, h: int, w: int, device: torch.device) -> Tensor:
    """Sines and cosines of each cell's place, as shares of the clip's extent along time, height and width: (t, h, w, 6 * WAVES)."""
    axes = [(torch.arange(extent, device=device) + 0.5) / extent for extent in (t, h, w)]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    angles = place[..., None] * (math.pi * 2.0 ** torch.arange(WAVES, device=device))
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(3)
