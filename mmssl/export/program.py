"""One role of a run as a program: the encoder's input in; pooled features, their grid and the joint embedding out.

Everything that an encoder does to its input is inside (scaling of pictures, spectrograms of sounds), so whoever runs the program feeds it
what decoders give: uint8 pictures, a waveform, token ids.
"""

from __future__ import annotations

import contextlib
import copy
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mmssl.encoders.base import Encoder
from mmssl.objectives.base import Objective
from mmssl.types import InputError

INPUTS = {"frame": "pictures", "video": "pictures", "flow": "flow", "audio": "wave", "text": "ids"}
# modality -> input axis -> its name, and the axis of the grid that grows with it
AXES: Mapping[str, Mapping[int, tuple[str, int]]] = {
    "frame": {1: ("frames", 1), 3: ("height", 2), 4: ("width", 3)},
    "video": {1: ("frames", 1), 3: ("height", 2), 4: ("width", 3)},
    "flow": {1: ("frames", 1), 3: ("height", 2), 4: ("width", 3)},
    "audio": {1: ("samples", 1)},
    "text": {1: ("tokens", 1)},
}
BATCH = 2  # of the example; not 1, which would be taken for a constant
FAILURES = (RuntimeError, TypeError, ValueError, NotImplementedError, AssertionError, KeyError, AttributeError)


class Program(nn.Module):
    """`forward(x)` -> (pooled (N, D), grid), and with an objective its joint embedding (N, E), unit length."""

    def __init__(self, encoder: Encoder, role: str, objective: Objective | None = None) -> None:
        super().__init__()
        self.encoder, self.role, self.objective = _apart(encoder), role, None if objective is None else _apart(objective)

    @property
    def outputs(self) -> list[str]:
        """The names of what `forward` gives."""
        return ["pooled", "grid"] + (["embedding"] if self.objective is not None else [])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        features = self.encoder(x)
        if self.objective is None:
            return features.pooled, features.grid
        return features.pooled, features.grid, self.objective.embed(self.role, features)


@dataclass(frozen=True, slots=True)
class Traced:
    """A program that no longer needs Python: the graph, and which axes of its input are free."""

    program: Program
    graph: ExportedProgram
    example: Tensor
    free: dict[int, str]  # input axis -> name, the batch among them
    shapes: dict[int, Any]  # as torch.export was given them


def example_of(encoder: Encoder, rows: int = BATCH, *, seed: int = 0, more: Mapping[int, int] | None = None) -> Tensor:
    """A batch of inputs of the size that the encoder was built for: noise, and one silent, black or short row.

    `more` lengthens axes by so many.
    """
    spec, generator = encoder.spec, torch.Generator().manual_seed(seed)
    match encoder.modality:
        case "text":
            shape = [rows, spec.tokens]
        case "audio":
            shape = [rows, round(spec.rate * spec.seconds)]
        case modality:
            # Two frames where each is seen alone: one would be taken for a constant.
            shape = [rows, spec.frames if modality != "frame" else 2, 2 if modality == "flow" else 3, spec.size, spec.size]
    for axis, extra in (more or {}).items():
        shape[axis] += extra
    if encoder.modality == "text":
        words: Any = encoder.vocabulary
        usual = [number for number in range(words.size) if number not in words.special]
        ids = torch.tensor(usual)[torch.randint(len(usual), shape, generator=generator)]
        ids[:, 0], ids[:, -1], ids[-1, shape[1] // 2 :] = words.cls, words.sep, words.pad
        return ids
    if encoder.modality in ("frame", "video"):
        pictures = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        pictures[-1] = 0
        return pictures
    noise = torch.randn(shape, generator=generator) * (0.1 if encoder.modality == "audio" else 3.0)
    noise[-1] = 0
    return noise


def trace(program: Program) -> Traced:
    """Export the graph, with as many free axes as the encoder allows: the batch always, time and picture where any length works.

    Raises:
        InputError: the encoder does something that torch.export cannot follow; the operator is named.
    """
    encoder = program.encoder
    example = example_of(encoder)
    free = {0: ("batch", 1)} | _free_axes(encoder, example)
    named = {axis: Dim(name, min=least, **_most(encoder, name)) for axis, (name, least) in free.items()}
    attempts: list[dict[int, Any]] = [named]
    if len(named) > 1:
        # Where a length passes through strides so that torch cannot prove its range, it finds the range out by itself; and where even
        # that fails, only the batch stays free.
        attempts += [named | {axis: Dim.AUTO for axis in named if axis}, {0: named[0]}]
    reason: Exception | None = None
    for shapes in attempts:
        try:
            # torch prints half of a graph to stderr where it fails.
            with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):
                graph = torch.export.export(program, (example,), dynamic_shapes=(shapes,), strict=False)
        except FAILURES as error:
            reason = error
            continue
        _forget_machine(graph)
        return Traced(program, graph, example, {axis: free[axis][0] for axis in shapes}, shapes)
    assert reason is not None
    raise InputError(
        f"{encoder.name} cannot be exported as a program: torch.export stops at {operator_in(reason)}; "
        f"leave --format torch and onnx out, or put another operator in its place"
    ) from reason


def operator_in(error: BaseException) -> str:
    """The operator that an export failed on, or the first line of what is known."""
    chain: list[str] = []
    link: BaseException | None = error
    while link is not None:
        chain.append(str(link))
        link = link.__cause__ or link.__context__
    for text in reversed(chain):
        found = re.search(r"op='(?P<a>[\w.]+)'|(?P<b>(?:aten|torchaudio|torchvision|quantized)(?:\.|::)\w+(?:\.\w+)?)", text)
        if found:
            return f"operator {found['a'] or found['b']}"
    if any("data-dependent" in text for text in chain):
        return "a branch that depends on values, which are not known before it runs"
    lines = chain[0].strip().splitlines() or [type(error).__name__]
    return f"an operation ({lines[0]})"


def _apart(module: Any) -> Any:
    """A copy on the CPU whose tensors share no storage: a view into a longer tensor is saved as a whole one."""
    module = copy.deepcopy(module).cpu().eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data = tensor.data.contiguous().clone()
    return module


def _free_axes(encoder: Encoder, example: Tensor) -> dict[int, tuple[str, int]]:
    """Axis -> (name, least length) of those that the encoder takes at another length: found by asking it."""
    free: dict[int, tuple[str, int]] = {}
    for axis, (name, along) in AXES[encoder.modality].items():
        if _cells(encoder, example, axis, example.shape[axis] * 2 if name != "tokens" else example.shape[axis] // 2, along) == 0:
            continue
        if encoder.modality in ("frame", "text") and axis == 1:
            free[axis] = (name, 1)
            continue
        low, high = 1, example.shape[axis]
        if _cells(encoder, example, axis, high, along) < 2:
            continue
        while low < high:  # the shortest with two cells: at one cell, torch takes lengths for constants
            middle = (low + high) // 2
            low, high = (low, middle) if _cells(encoder, example, axis, middle, along) >= 2 else (middle + 1, high)
        free[axis] = (name, high)
    return free


def _cells(encoder: Encoder, example: Tensor, axis: int, extent: int, along: int) -> int:
    """How many cells the grid has along an axis where the input has `extent`; 0 where the encoder refuses. Nothing is computed."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    shape = list(example.shape)
    shape[axis] = extent
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        try:
            return int(encoder(torch.empty(shape, dtype=example.dtype)).grid.shape[along])
        except (RuntimeError, ValueError):
            return 0


def _most(encoder: Encoder, name: str) -> dict[str, int]:
    return {"max": encoder.spec.tokens} if name == "tokens" else {}


def _forget_machine(graph: ExportedProgram) -> None:
    """Take out where each operator stood in whose files: a program that is passed on should not tell that."""
    for module in graph.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                for key in ("stack_trace", "source_fn_stack", "from_node", "custom"):
                    node.meta.pop(key, None)
    graph.example_inputs = None
