"""Does an exported program compute what the encoder computes? Both run on the same inputs, of several lengths where lengths are free."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mmssl.export.program import Program, Traced, example_of
from mmssl.training.errors import RunError

# Largest difference, as a share of the largest number of the output: rounding in another order of sums gives about 1e-6.
TOLERANCE = 1e-4
LONGER = {
    "frames": 3,
    "height": 5,
    "width": 11,
    "samples": 777,
    "tokens": -3,
}  # odd on purpose: nothing may depend on even lengths


@dataclass(frozen=True, slots=True)
class Difference:
    """Of one output, over all inputs tried."""

    output: str
    max_abs: float
    max_rel: float  # max_abs as a share of the largest magnitude that the encoder gave


@dataclass(frozen=True, slots=True)
class Check:
    """How a program was compared with the encoder that it came from."""

    inputs: list[list[int]]  # shapes
    differences: list[Difference]
    tolerance: float = TOLERANCE

    @property
    def worst(self) -> Difference:
        """The output that differs most, by share."""
        return max(self.differences, key=lambda difference: difference.max_rel)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def trials(traced: Traced) -> list[Tensor]:
    """The example, a batch of one, and a batch of three that is longer along every other free axis."""
    encoder = traced.program.encoder
    more = {axis: LONGER[name] for axis, name in traced.free.items() if name in LONGER}
    return [traced.example, traced.example[:1], example_of(encoder, 3, seed=1, more=more)]


def check(program: Program, inputs: Sequence[Tensor], run: Callable[[Tensor], Sequence[Tensor]], what: str) -> Check:
    """Compare `run` with the program run eagerly, on `inputs`.

    Raises:
        RunError: an output differs by more than `TOLERANCE`, has another shape, or is not finite where the encoder's is.
    """
    names = program.outputs
    largest, scale = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for x in inputs:
        with torch.no_grad():
            wanted = program(x)
        for name, expected, got in zip(names, wanted, run(x), strict=True):
            if expected.shape != got.shape:
                raise RunError(f"{what}: {name} has shape {tuple(got.shape)}, the encoder gives {tuple(expected.shape)}")
            difference = (expected.double() - got.double()).abs().max().item()
            largest[name] = max(largest[name], difference if difference == difference else float("inf"))
            scale[name] = max(scale[name], expected.abs().max().item())
    found = Check(
        [list(x.shape) for x in inputs],
        [Difference(name, largest[name], largest[name] / max(scale[name], 1e-12)) for name in names],
    )
    if not found.worst.max_rel <= TOLERANCE:
        worst = found.worst
        raise RunError(
            f"{what} does not compute what the encoder computes: {worst.output} differs by {worst.max_abs:.2g}, {worst.max_rel:.2g} of its "
            f"largest value, where {TOLERANCE:g} is allowed; leave this format out, and report it as a fault of mmssl"
        )
    return found
