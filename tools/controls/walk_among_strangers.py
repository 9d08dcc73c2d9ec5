"""The contrastive random walk over frames of different films: there is nothing to follow, and walks should come home by chance."""

from __future__ import annotations

import torch
from torch import Tensor

from mmssl.encoders.bank import EncoderBank
from mmssl.objectives.contrastive_random_walk import ContrastiveRandomWalk


class WalkAmongStrangers(ContrastiveRandomWalk):
    """Frame t of each row is that of the row t places on, in training and in judging; all else is as in the objective."""

    def _nodes(self, video: Tensor, bank: EncoderBank) -> Tensor:
        nodes = super()._nodes(video, bank)
        return torch.stack([frame.roll(-t, dims=0) for t, frame in enumerate(nodes.unbind(1))], dim=1)
