"""The contrastive random walk whose home is gone: it ends in the first frame of another film, where nothing of its start can be found again."""

from __future__ import annotations

from torch import Tensor

from mmssl.objectives.contrastive_random_walk import ContrastiveRandomWalk


class WalkHomeElsewhere(ContrastiveRandomWalk):
    """The last step home goes to the next row's first frame, in training and in judging; all else is as in the objective.

    What is left to find home by is the place in the picture. (Frames of strangers all the way, `walk_among_strangers`, are no such control:
    any features that match two frames one to one come home through them, see docs/objectives/contrastive_random_walk.md.)
    """

    def _transitions(self, nodes: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        forth, back = super()._transitions(nodes)
        elsewhere = nodes.clone()
        elsewhere[:, 0] = nodes[:, 0].roll(-1, dims=0)
        return forth, [super()._transitions(elsewhere[:, :2])[1][0], *back[1:]]
