"""The contract of an encoder: uint8 pictures, waveforms or token ids in; `Features` out; preprocessing inside.

Because an encoder normalises its own input, training, retrieval and heatmaps cannot disagree about it.
"""

from __future__ import annotations

import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import safetensors.torch
from torch import Tensor, nn

from mmssl.components import find_component
from mmssl.files import write_aside
from mmssl.types import Features, InputError, InputSpec, Modality
from mmssl.vocabulary import Vocabulary

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


class Encoder(nn.Module, ABC):
    """Abstract encoder. A concrete class is final: contract -> class, one level.

    Input by modality:
      frame, video: (N, T, 3, H, W), uint8 in 0..255 or floating point in 0..1; a frame encoder sees each of the T pictures alone
        and averages them for `pooled`;
      audio: (N, samples) float32 waveform at `spec.rate`;
      text: (N, L) int64 token ids of `spec.tokenizer`, L at most `spec.tokens`; such an encoder has a `vocabulary`.

    `arguments` are the keyword arguments that build an equal encoder: plain JSON values. `attached` are the files among them, which a
    saved encoder carries: argument -> (name of the file, its text). `pooled` and `grid` are fresh tensors, not
    views of one another (FSDP2 warns on views), and share the width `dim`. `grid_offset` and `grid_stride` say where grid cells
    lie in the input picture: cell (i, j) is centred on pixel `offset + stride * (i, j)`, pixel centres at integers; padded strided
    convolutions do not centre on their stride, and heatmaps drawn as if they did are displaced.
    """

    modality: ClassVar[Modality]
    grid_offset: float = 0.0
    grid_stride: float = 1.0

    def __init__(
        self, *, dim: int, spec: InputSpec, arguments: Mapping[str, Any], attached: Mapping[str, tuple[str, str]] | None = None
    ) -> None:
        super().__init__()
        self.dim = dim
        self.spec = spec
        self.arguments = dict(arguments)
        self.attached = dict(attached or {})

    @abstractmethod
    def forward(self, x: Tensor, valid: Tensor | None = None) -> Features:
        """Encode a batch. `valid` marks real input positions where inputs are padded (text); None: all are."""

    @property
    def name(self) -> str:
        """The name under which a config asks for this encoder: its module's name (dotted if it is not ours)."""
        module = type(self).__module__
        return module.removeprefix("mmssl.encoders.")

    def save_pretrained(self, folder: Path | str) -> None:
        """Write `config.json`, `model.safetensors` and what is attached into `folder`, each whole or not at all."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        names = {argument: name for argument, (name, _) in self.attached.items()}
        config = {"encoder": self.name, "modality": self.modality, "dim": self.dim, "arguments": self.arguments | names}
        if names:
            config["attached"] = names  # these arguments are files beside this one
        for name, content in self.attached.values():
            write_aside(folder / name, content.encode())
        tensors = {key: value.detach().cpu().contiguous().clone() for key, value in self.state_dict().items()}
        write_aside(folder / WEIGHTS_FILE, safetensors.torch.save(tensors))
        write_aside(folder / CONFIG_FILE, json.dumps(config, indent=2).encode())

    @staticmethod
    def from_pretrained(folder: Path | str) -> Encoder:
        """Rebuild an encoder from `save_pretrained`'s folder. Nothing is unpickled.

        Raises `InputError` where a file is missing, is not of this format, or does not fit the architecture it names.
        """
        config_path, weights_path = Path(folder) / CONFIG_FILE, Path(folder) / WEIGHTS_FILE
        for path in (config_path, weights_path):
            if not path.is_file():
                raise InputError(
                    f"{folder} is no saved encoder: it has no {path.name}; give the folder that save_pretrained wrote"
                )
        try:
            config = json.loads(config_path.read_text())
            name, arguments = config["encoder"], config["arguments"]
            arguments |= {argument: str(Path(folder) / file) for argument, file in config.get("attached", {}).items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{config_path} is not the config of an mmssl encoder: {error!r}") from error
        encoder = build_encoder(name, arguments)
        try:
            encoder.load_state_dict(safetensors.torch.load_file(weights_path))
        except (safetensors.SafetensorError, RuntimeError) as error:
            raise InputError(f"{weights_path} does not hold the weights of a {name} with {arguments}: {error}") from error
        return encoder


@runtime_checkable
class Reads(Protocol):
    """An encoder of text, which knows what its ids mean."""

    vocabulary: Vocabulary


@runtime_checkable
class Writes(Reads, Protocol):
    """An encoder of text that writes another text from what it read."""

    def decode(self, features: Features, written: Tensor) -> Tensor:
        """Logits (N, T, V) of the token after each of `written` (N, T), given features with a grid (N, L, D) and `valid`."""
        ...


def reader(encoder: object, objective: str) -> Reads:
    """`encoder` as one that reads text. Raises `InputError` naming `objective` where it is none."""
    if not isinstance(encoder, Reads):
        raise InputError(
            f"{objective} needs an encoder of text that has a vocabulary, {type(encoder).__name__} has none; use text_bert"
        )
    return encoder


def writer(encoder: object, objective: str) -> Writes:
    """`encoder` as one that writes text. Raises `InputError` naming `objective` where it is none."""
    if not isinstance(encoder, Writes) or getattr(encoder, "writer", True) is None:
        raise InputError(
            f"{objective} needs an encoder that also writes, {type(encoder).__name__} as it is built does not; use text_seq2seq with decoder: true"
        )
    return encoder


def encoder_class(name: str) -> type[Encoder]:
    """The one `Encoder` class of module `mmssl.encoders.<name>`, or of `name` itself where it is dotted."""
    return find_component(name, package="mmssl.encoders", contract=Encoder)


def build_encoder(name: str, arguments: Mapping[str, Any]) -> Encoder:
    """Build an encoder by name; wrong arguments are an `InputError`."""
    cls = encoder_class(name)
    try:
        inspect.signature(cls).bind(**arguments)
    except TypeError as error:
        raise InputError(f"encoder {name}: {error}; it takes {', '.join(inspect.signature(cls).parameters)}") from error
    return cls(**arguments)
