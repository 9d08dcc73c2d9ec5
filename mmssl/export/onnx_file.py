"""An encoder as an ONNX file, compared by onnxruntime with what the encoder gives."""

from __future__ import annotations

import importlib
import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmssl.export.compare import Check, check, trials
from mmssl.export.program import FAILURES, INPUTS, Traced, operator_in
from mmssl.training.errors import RunError
from mmssl.types import InputError

FILE = "encoder.onnx"
OPSET = 18  # the oldest that torch's exporter writes: what most runtimes know
NEEDED = ("onnx", "onnxscript", "onnxruntime")
INLINE = 1 << 30  # bytes of weights; a protobuf file holds 2 GB, so larger ones lie beside it


def require_onnx() -> None:
    """Raise `InputError` where the packages that ONNX needs are not installed."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"--format onnx needs {', '.join(missing)}; install mmssl's extra: uv sync --extra onnx (or pip install {' '.join(missing)})"
        )


def write_onnx(traced: Traced, path: Path, facts: dict[str, Any]) -> Check:
    """Save the program and compare the file, run by onnxruntime on the CPU, with the encoder.

    `facts` (plain values) go into the file's metadata as JSON under the key `mmssl`.

    Raises:
        InputError: the encoder uses an operator that has no ONNX form; the operator is named.
        RunError: the file computes something else.
    """
    import onnxruntime

    program, name = traced.program, INPUTS[traced.program.encoder.modality]
    weights = sum(tensor.nbytes for tensor in program.state_dict().values())
    with warnings.catch_warnings():
        # torch's own use of what torch deprecates.
        warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\)", category=FutureWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="torch")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        try:
            made = torch.onnx.export(
                traced.graph,
                (traced.example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[name],
                output_names=program.outputs,
                dynamic_shapes=(traced.shapes,),
                external_data=weights > INLINE,
                verbose=False,
            )
        except FAILURES as error:
            raise InputError(
                f"{program.encoder.name} cannot be written as ONNX (opset {OPSET}): it stops at {operator_in(error)}; "
                f"leave --format onnx out, or put another operator in its place"
            ) from error
    assert made is not None
    _tidy(made.model.graph, {name, *program.outputs})
    made.model.metadata_props["mmssl"] = json.dumps(facts)
    made.save(str(path), external_data=weights > INLINE)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except _refusals() as error:
        raise RunError(
            f"onnxruntime refuses the ONNX file of {program.encoder.name} ({_first(error)}); leave --format onnx out"
        ) from error

    def run(x: Tensor) -> list[Tensor]:
        return [torch.from_numpy(value) for value in session.run(program.outputs, {name: x.numpy()})]

    return check(program, trials(traced), run, f"the ONNX file of {program.encoder.name}")


def _tidy(graph: Any, outside: set[str]) -> None:
    """Forget whose files each operator came from, and rename inner values that are called as an input or output is."""
    ends = {id(value) for value in (*graph.inputs, *graph.outputs)}
    for node in graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            if value.name in outside and id(value) not in ends:
                value.name = f"{value.name}_inside"


def _refusals() -> tuple[type[Exception], ...]:
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    return state.Fail, state.InvalidGraph, state.NotImplemented, state.InvalidArgument, state.RuntimeException


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
