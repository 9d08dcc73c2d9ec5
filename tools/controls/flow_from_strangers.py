"""Pictures and the optical flow of other films: nothing in a picture says how something else moves."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mmssl.encoders.bank import EncoderBank
from mmssl.nn.strangers import next_stranger
from mmssl.objectives.base import Batch, Judged
from mmssl.objectives.rgb_flow import PicturesAndFlow
from mmssl.types import Loss


class FlowFromStrangers(PicturesAndFlow):
    """Each row has the flow of the next row of another source, in training and in judging; all else is as in the objective.

    (In a world of frozen pictures nothing moves, and the objective takes none of its films.)
    """

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        return super().forward(_swapped(batch), bank)

    def judge(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Judged]:
        return super().judge(_swapped(batch), bank)

    def joint(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Tensor]:
        return super().joint(_swapped(batch), bank)


def _swapped(batch: Batch) -> dict[str, Tensor]:
    other, _ = next_stranger(batch["source"])
    return {**batch, "flow": batch["flow"][other]}
