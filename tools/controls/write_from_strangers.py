"""Denoising from another source's text: nothing of what is to be written stands in what is read."""

from __future__ import annotations

from mmssl.encoders.bank import EncoderBank
from mmssl.nn.strangers import next_stranger
from mmssl.nn.writing import Written
from mmssl.objectives.base import Batch
from mmssl.objectives.denoise_text import DenoiseText
from mmssl.types import Features


class WriteFromStrangers(DenoiseText):
    """Each row reads the document of the next row of another source, in training and in judging; all else is as in the objective.

    (Permuting all words, the cut of the other text objectives, would leave copying.)
    """

    def _write(self, batch: Batch, bank: EncoderBank, features: Features) -> Written:
        other, _ = next_stranger(batch["source"])
        return super()._write(batch, bank, features.rows(other))
