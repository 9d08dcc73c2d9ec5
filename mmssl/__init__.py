"""mmssl: multimodal and video self-supervision. A folder of clips in, a trained model out.

>>> import mmssl
>>> run = mmssl.load_run("runs/first")  # doctest: +SKIP
>>> run.encoders["video"]  # doctest: +SKIP
>>> mmssl.from_pretrained("my-model")["video"]  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from mmssl.config import RunConfig, load_config
    from mmssl.data.decode import answer
    from mmssl.data.index import index_folder
    from mmssl.data.manifest import read_manifest
    from mmssl.encoder_catalogue import list_encoders
    from mmssl.encoders.base import Encoder
    from mmssl.objectives.base import Objective
    from mmssl.pretrained import from_pretrained
    from mmssl.run import load_run, start_run
    from mmssl.types import InputError, MediaError

# Loaded on first use, because `import mmssl` and `mmssl --help` should not wait for torch.
_HOMES = {
    "Encoder": "mmssl.encoders.base",
    "InputError": "mmssl.types",
    "MediaError": "mmssl.types",
    "Objective": "mmssl.objectives.base",
    "RunConfig": "mmssl.config",
    "answer": "mmssl.data.decode",
    "from_pretrained": "mmssl.pretrained",
    "index_folder": "mmssl.data.index",
    "list_encoders": "mmssl.encoder_catalogue",
    "load_config": "mmssl.config",
    "load_run": "mmssl.run",
    "read_manifest": "mmssl.data.manifest",
    "start_run": "mmssl.run",
}

__all__ = [
    "Encoder",
    "InputError",
    "MediaError",
    "Objective",
    "RunConfig",
    "answer",
    "from_pretrained",
    "index_folder",
    "list_encoders",
    "load_config",
    "load_run",
    "read_manifest",
    "start_run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"mmssl has no {name!r}; public names: {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
