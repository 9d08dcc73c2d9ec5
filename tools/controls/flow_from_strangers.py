"""Pictures and the optical flow of other films: nothing in a picture says how something else moves."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mmssl.encoders.bank import EncoderBank
from mmssl.nn.strangers import stranger_rows
from mmssl.objectives.base import Batch, Judged
from mmssl.objectives.rgb_flow import PicturesAndFlow
from mmssl.types import Loss


class FlowFromStrangers(PicturesAndFlow):
    """Each row has the flow of the row before it, of another source, in training and in judging; all else is as in the objective.

    (In a world of frozen pictures nothing moves, and the objective takes none of its films.)
    """

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        return super().forward(_swapped(batch), bank)

    def judge(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Judged]:
        return super().judge(_swapped(batch), bank)

    def joint(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Tensor]:
        return super().joint(_swapped(batch), bank)


def _swapped(batch: Batch) -> dict[str, Tensor]:
    # Not the next one: that one's picture is what the objective judges against, and it must be a stranger to this flow as well.
    place = torch.arange(len(batch["source"]), device=batch["source"].device)
    other, _ = stranger_rows(batch["source"], ((place[None, :] - place[:, None]) % len(place)).float())
    return {**batch, "flow": batch["flow"][other]}
