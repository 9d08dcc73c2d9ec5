"""Two gloo processes against one: rows, losses and gradients."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist  # noqa: TID251 - this test is about ranks
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmssl.cuts.pairs import PairViews
from mmssl.encoders.bank import EncoderBank
from mmssl.nn.gather import gather_rows, own_rows, rank_and_world
from mmssl.objectives.avts import Curriculum
from mmssl.objectives.base import objective_class
from tests.tiny_av import build, envelopes, scenes, tiny_encoders, tiny_for
from tests.tiny_captions import bags

WORLD, ROWS = 2, 8
CASES = {
    "nce_max": ("av_nce", {"pooling": "max"}),
    "nce_mean_queue": ("av_nce", {"pooling": "mean", "queue": 6, "learn_temperature": True}),
    "avenet": ("avenet", {}),
    "avol_some": ("avenet", {"form": "avol", "negatives": 2, "hard": 0.3, "views": PairViews(apart=0.5)}),
    "l3": ("l3", {}),
    "avts_margin": ("avts", {"curriculum": Curriculum(hard=0.5, overlapping_after=5)}),
    "avts_nce": ("avts", {"form": "nce", "bins": 2}),
    "mil_nce": ("mil_nce", {"apart": 1.0}),
    "mil_nce_sigmoid": ("mil_nce", {"form": "sigmoid"}),
}
# Rows of equal source on the same rank (0, 2) and on both (3, 6).
SOURCES = torch.tensor([10, 11, 10, 12, 13, 14, 12, 15])


def global_batch(name: str) -> dict[str, Tensor]:
    if name == "mil_nce":
        some = {"captions": torch.arange(ROWS) % 3 + 1, "time": torch.arange(ROWS) * 1.0}
        batch = bags(ROWS, 1) | some
    elif name == "avts":
        batch = envelopes(ROWS, 1, frames=2)
    else:
        batch = scenes(ROWS, 1) | {"audio_apart": scenes(ROWS, 2)["audio"]}
    batch["video"] = batch["video"].double() / 255
    batch = {key: value.double() if value.is_floating_point() else value for key, value in batch.items()}
    if "overlap" in batch:
        batch["overlap"] = torch.tensor([0, 1, 0, 0, 1, 0, 0, 0])
    return batch | {"source": SOURCES}


def one_step(case: str) -> dict[str, Tensor]:
    """Value, mean gradients, carried rows and state after a step, as each rank of however many sees them."""
    name, arguments = CASES[case]
    if "text" in objective_class(name).roles:
        encoders = {role: encoder.double() for role, encoder in tiny_for(objective_class(name)).items()}
    else:
        encoders = tiny_encoders(double=True, parts=2)
    objective = build(name, encoders, dim=8, **arguments) if name != "l3" else build(name, encoders)
    objective = objective.double()
    objective.frame_augment = objective.wave_augment = None  # draws differ by rank
    rank, world = rank_and_world()
    batch = {key: value[rank::world] for key, value in global_batch(name).items()}
    found: dict[str, Tensor] = {}
    for step in range(2):  # the second step has something in the queue
        loss = objective(batch, EncoderBank(encoders))
        found[f"{step}.value"] = gather_rows(loss.value.detach()[None]).mean(dim=0)
        parameters = {f"{r}.{k}": p for r, m in {"objective": objective, **encoders}.items() for k, p in m.named_parameters()}
        for key, gradient in zip(parameters, torch.autograd.grad(loss.value, list(parameters.values())), strict=True):
            if world > 1:
                dist.all_reduce(gradient)  # what DDP does: the sum over ranks, divided by their number
            found[f"{step}.{key}"] = gradient / world
        carry = {key: gather_rows(value) for key, value in loss.carry.items()}
        found |= {f"{step}.carry.{key}": value for key, value in carry.items()}
        objective.after_step(carry, step)
    return found | {f"state.{key}": value for key, value in objective.state_dict().items()}


def all_cases() -> dict[str, Tensor]:
    return {f"{case}.{key}": value.clone().contiguous() for case in CASES for key, value in one_step(case).items()}


def rank_main(rank: int, port: int, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=WORLD)
    try:
        mine = torch.arange(ROWS)[rank::WORLD, None] * torch.ones(1, 2)
        order = {"rows": gather_rows(mine), "own": own_rows(len(mine))}
        save_file({**all_cases(), **order}, Path(out) / f"{rank}.safetensors")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict[str, Tensor]]:
    out = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(rank_main, (port, str(out)), nprocs=WORLD)
    return [load_file(out / f"{rank}.safetensors") for rank in range(WORLD)]


def test_rows_come_in_global_order(ranks):
    for rank, found in enumerate(ranks):
        assert found["rows"][:, 0].tolist() == list(range(ROWS))
        assert found["own"].tolist() == list(range(rank, ROWS, WORLD))


def test_losses_gradients_queues_and_carry_of_two_ranks_equal_one_process(ranks):
    alone = all_cases()
    for found in ranks:
        assert alone.keys() <= found.keys()
        for key, value in alone.items():
            torch.testing.assert_close(found[key], value, rtol=1e-9, atol=1e-11, msg=lambda text, key=key: f"{key}: {text}")


def test_one_process_needs_no_group():
    x = torch.ones(3, 2, requires_grad=True)
    assert gather_rows(x) is x
    assert own_rows(3).tolist() == [0, 1, 2]
    assert rank_and_world() == (0, 1)
