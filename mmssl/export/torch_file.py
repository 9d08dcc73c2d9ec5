"""A `torch.export` program as a .pt2 file, and the proof that it holds no pickle.

`torch.export.load` unpickles: tensors that the file declares as pickled (`use_pickle`), objects among the constants, and the stored example
inputs, all without `weights_only` (torch 2.13, torch/export/pt2_archive/_package.py and torch/_export/serde/serialize.py); its own
documentation says never to load a file that one does not trust. The files written here declare nothing as pickled and store no example
inputs, and that is checked before they are loaded for comparison. mmssl loads no other .pt2.
"""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from mmssl.export.compare import Check, check, trials
from mmssl.export.program import Traced
from mmssl.training.errors import RunError

FILE = "encoder.pt2"


def write_torch(traced: Traced, path: Path) -> Check:
    """Save the program, load the file again and compare it with the encoder.

    Raises:
        RunError: the file holds pickled parts, or computes something else.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No complete tensor found in the group", category=UserWarning)
        torch.export.save(traced.graph, path)
    pickled = pickled_parts(path)
    if pickled:
        raise RunError(
            f"{path.name} would hold pickled parts ({', '.join(pickled[:3])}), which mmssl does not pass on; leave --format torch out"
        )
    module = torch.export.load(path).module()
    return check(traced.program, trials(traced), module, f"the torch.export program of {traced.program.encoder.name}")


def pickled_parts(path: Path) -> list[str]:
    """The members of a .pt2 file that `torch.export.load` would unpickle."""
    with zipfile.ZipFile(path) as archive:
        found: list[str] = []
        for member in archive.infolist():
            name = member.filename.partition("/")[2]
            if name.startswith("data/sample_inputs/") and member.file_size:
                found.append(name)
            elif name.endswith(".pt"):  # weights and constants of older torches
                found += [name] if member.file_size else []
            elif name.endswith(("_weights_config.json", "_constants_config.json")):
                found += _declared(json.loads(archive.read(member)))
        return found


def _declared(config: dict[str, Any]) -> list[str]:
    return [
        key
        for key, entry in config["config"].items()
        if entry["use_pickle"] or entry["path_name"].startswith(("custom_obj", "opaque_obj"))
    ]
