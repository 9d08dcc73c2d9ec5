"""What both objectives are for: after training, the encoder's own features carry a label to where its thing has gone; before, and with the link cut, not."""

from __future__ import annotations

import pytest
import torch

from mmssl.downstream.propagate import Propagation, propagate
from mmssl.objectives.base import objective_class
from tests.moving_cells import CELLS, SIDE, faint, moving
from tests.test_colorize import PLAIN
from tests.tiny_av import build, tiny_for, train

SETTINGS = Propagation(top_k=1, radius=None, context=2)


def veiled(rows: int, seed: int, *, linked: bool = True, frames: int = 3):
    return moving(rows, seed, linked=linked, frames=frames, veil=30.0)


@torch.no_grad()
def carried(objective, encoder, batch) -> float:
    """Share of things whose label, given in the first frame, is found on them in the last; chance is 1 / 16."""
    grids = encoder.eval()(objective.picture(batch["video"])).grid
    right = []
    for clip, place in zip(grids, batch["place"], strict=True):
        first = torch.zeros(CELLS, CELLS)
        first[torch.arange(CELLS), place[0]] = 1.0  # a label for each thing, on its cell
        *_, last = propagate(iter(clip), first.view(CELLS, SIDE, SIDE), SETTINGS)
        right.append((last.flatten(1).argmax(dim=0)[place[-1]] == torch.arange(CELLS)).float().mean())
    return torch.stack(right).mean().item()


@pytest.mark.parametrize(
    ("name", "clips", "arguments"),
    [("colorize", veiled, {"clusters": 4}), ("contrastive_random_walk", faint, {"form": "grid"})],
)
def test_labels_are_carried_after_training_on_a_world_where_things_stay_themselves(name, clips, arguments):
    found = {}
    for linked in (True, False):

        def make_batch(rows, seed, linked=linked):
            return clips(rows, seed, linked=linked)

        encoders = tiny_for(objective_class(name))
        objective = build(name, encoders, **PLAIN, **arguments)
        torch.manual_seed(3)
        objective.fit(make_batch(8, 50 + k) for k in range(3))
        found["before"] = carried(objective, encoders["video"], clips(32, 900_000))
        train(objective, encoders, make_batch, steps=150, lr=1e-2)
        found["linked" if linked else "cut"] = carried(objective, encoders["video"], clips(32, 900_000))
    assert found["linked"] > 0.9
    assert found["before"] < 0.6
    assert found["cut"] < 0.6
