"""Parameter groups, clipping, and a step that can be called off on the device."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mmssl.training.ema import Ema
from mmssl.training.optim import clip_gradients, gradient_norm, make_optimizer, parameter_groups, set_lr, step_where
from mmssl.training.settings import TrainConfig
from mmssl.types import InputError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.LayerNorm([4, 2, 2])  # its weight has three dimensions and must still not decay
        self.head = nn.Linear(16, 2)
        self.scale = nn.Parameter(torch.ones(1, 1))
        self.fixed = nn.Linear(2, 2).requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.conv(x)).flatten(1)) * self.scale


def groups_by_name(net: nn.Module, **values: object) -> dict[str, tuple[float, float]]:
    groups = parameter_groups(net, **{"weight_decay": 0.1, "lr_scale": {}, **values})  # type: ignore[arg-type]
    return {name: (group["weight_decay"], group["lr_factor"]) for group in groups for name in group["names"]}


def test_matrices_and_kernels_decay_and_nothing_else_does() -> None:
    decays = {name: decay for name, (decay, _) in groups_by_name(Net()).items()}
    assert {name for name, decay in decays.items() if decay} == {"conv.weight", "head.weight"}
    assert {name for name, decay in decays.items() if not decay} == {
        "conv.bias",
        "head.bias",
        "norm.weight",
        "norm.bias",
        "scale",
    }


def test_learning_rates_scale_by_regular_expression_and_factors_multiply() -> None:
    found = groups_by_name(Net(), lr_scale={"^head": 0.1, r"\.bias$": 0.5})
    assert found["head.weight"][1] == 0.1
    assert found["head.bias"][1] == pytest.approx(0.05)
    assert found["conv.bias"][1] == 0.5
    assert found["conv.weight"][1] == 1.0
    optimizer = make_optimizer("adamw", parameter_groups(Net(), weight_decay=0.1, lr_scale={"^head": 0.1}), betas=(0.9, 0.95))
    set_lr(optimizer, 2.0)
    assert {name: g["lr"] for g in optimizer.param_groups for name in g["names"]}["head.weight"] == 0.2


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ({"haed": 0.1}, r"'haed' matches no parameter; names look like"),
        ({"(": 0.1}, "no regular expression"),
        ({"head": -1.0}, "at least 0"),
        ({"head": float("nan")}, "at least 0"),
    ],
)
def test_expressions_that_do_nothing_are_errors(scale: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parameter_groups(Net(), weight_decay=0.1, lr_scale=scale)


def test_a_model_without_trainable_parameters_is_an_error() -> None:
    with pytest.raises(InputError, match="nothing to train"):
        parameter_groups(Net().requires_grad_(False), weight_decay=0.1, lr_scale={})


@pytest.mark.parametrize("limit", [0.01, 1e6])
def test_clipping_equals_torchs(limit: float) -> None:
    ours, theirs = Net(), Net()
    x = torch.randn(2, 3, 4, 4)
    for net in (ours, theirs):
        net(x).square().sum().backward()
    optimizer = make_optimizer("adamw", parameter_groups(ours, weight_decay=0.1, lr_scale={}), betas=(0.9, 0.95))
    norm = gradient_norm(optimizer)
    torch.testing.assert_close(norm, torch.nn.utils.clip_grad_norm_(theirs.parameters(), limit))
    clip_gradients(optimizer, norm, limit)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad, other.grad)
    torch.testing.assert_close(gradient_norm(optimizer), norm.clamp(max=limit))


def test_a_step_happens_only_where_it_may_and_equals_plain_adamw() -> None:
    ours, plain = Net(), Net()
    optimizer = make_optimizer("adamw", parameter_groups(ours, weight_decay=0.1, lr_scale={}), betas=(0.9, 0.95))
    reference = torch.optim.AdamW(
        [
            {"params": [plain.conv.weight, plain.head.weight], "weight_decay": 0.1},
            {"params": [plain.conv.bias, plain.norm.weight, plain.norm.bias, plain.head.bias, plain.scale], "weight_decay": 0.0},
        ],
        lr=0.01,
        betas=(0.9, 0.95),
    )
    set_lr(optimizer, 0.01)
    for ok in (True, False, True, False, True):
        x = torch.randn(2, 3, 4, 4)
        for net in (ours, plain):
            net.zero_grad()
            net(x).square().sum().backward()
        if not ok:
            for parameter in ours.parameters():
                if parameter.grad is not None:
                    parameter.grad.fill_(float("nan"))
        step_where(optimizer, torch.tensor(ok))
        if ok:
            reference.step()
    for mine, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, other)
    assert {float(state["step"]) for state in optimizer.state.values()} == {3.0}


def test_averages_follow_the_formula_and_give_the_weights_back_exactly() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    net.register_buffer("queue", torch.ones(4))
    ema = Ema(net)
    first = net[0].weight.detach().clone()
    with torch.no_grad():
        net[0].weight.add_(1.0)
        net[1].running_mean.fill_(2.0)  # type: ignore[union-attr,operator]
    ema.follow(0.75)
    raw = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with ema.in_place():
        torch.testing.assert_close(net[0].weight.detach(), first + 0.25)
        torch.testing.assert_close(net[1].running_mean, torch.full((3,), 0.5))
        with torch.no_grad():
            assert torch.equal(net.queue, torch.ones(4))  # type: ignore[arg-type]
    assert all(torch.equal(tensor, raw[name]) for name, tensor in net.state_dict().items())
    assert "queue" not in ema.average


def muon_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 6))


def test_muon_is_torchs_own_on_matrices_and_adamw_on_the_rest() -> None:
    """The twin: torch.optim.Muon (matrices only) and AdamW, side by side. Torch's iterates in bfloat16, hence the tolerance."""
    ours, theirs = muon_net(), muon_net()
    optimizer = make_optimizer("muon", parameter_groups(ours, weight_decay=0.1, lr_scale={}), betas=(0.9, 0.95))
    matrices = [p for p in theirs.parameters() if p.ndim == 2]
    rest = [p for p in theirs.parameters() if p.ndim == 1]
    twins = (
        torch.optim.Muon(matrices, lr=0.01, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=0.01, betas=(0.9, 0.95), weight_decay=0.0),
    )
    set_lr(optimizer, 0.01)
    for step in range(4):
        x = torch.randn(16, 12, generator=torch.Generator().manual_seed(step))
        for net in (ours, theirs):
            net.zero_grad()
            net(x).square().sum().backward()
        optimizer.step()
        for twin in twins:
            twin.step()
    for mine, twin in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, twin, atol=2e-4 if mine.ndim == 2 else 1e-5, rtol=1e-2)


def test_muon_takes_kernels_as_matrices_and_leaves_offsets_norms_and_single_rows_to_adamw() -> None:
    net = nn.ModuleDict(
        {"conv": nn.Conv2d(3, 8, 3), "norm": nn.BatchNorm2d(8), "embedding": nn.Embedding(9, 4), "head": nn.Linear(8, 2)}
    )
    groups = parameter_groups(net, weight_decay=0.1, lr_scale={})
    turned = {name for group in groups if group["muon"] for name in group["names"]}
    assert turned == {"conv.weight", "head.weight"}
    optimizer = make_optimizer("muon", groups, betas=(0.9, 0.95))
    before = net["conv"].weight.detach().clone()
    set_lr(optimizer, 0.1)
    net["conv"].weight.grad = torch.randn_like(before)
    optimizer.step()
    moved = (net["conv"].weight.detach() - before * (1 - 0.1 * 0.1)).flatten(1)
    singular = torch.linalg.svdvals(moved / (0.1 * 0.2 * 27**0.5))
    assert singular.min() > 0.5
    assert singular.max() < 1.3
    assert set(optimizer.state[net["conv"].weight]) == {"momentum", "step"}


def test_muon_changes_nothing_where_it_may_not() -> None:
    net = muon_net()
    optimizer = make_optimizer("muon", parameter_groups(net, weight_decay=0.1, lr_scale={}), betas=(0.9, 0.95))
    set_lr(optimizer, 0.1)

    def backward() -> None:
        net(torch.ones(3, 12)).sum().backward()

    backward()
    step_where(optimizer, torch.tensor(True))
    before = [p.detach().clone() for p in net.parameters()] + [
        state["momentum"].clone() for state in optimizer.state.values() if "momentum" in state
    ]
    optimizer.zero_grad()
    backward()
    net[0].weight.grad.fill_(math.nan)
    step_where(optimizer, torch.tensor(False))
    after = [*net.parameters()] + [state["momentum"] for state in optimizer.state.values() if "momentum" in state]
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one, other)
    assert {float(state["step"]) for state in optimizer.state.values()} == {1.0}


def test_muon_refuses_shards() -> None:
    with pytest.raises(InputError, match="muon, which needs whole matrices"):
        TrainConfig(steps=1, optimizer="muon", parallel="fsdp")
