"""What encoders there are, how large and how costly each is, and what goes into it: read off the modules and off the built networks.

Networks are built and run as shapes alone (torch's fake tensors), so that listing all of them takes seconds and no memory.
"""

from __future__ import annotations

import fnmatch
import inspect
import tempfile
import typing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from mmssl.components import component_names
from mmssl.encoders.base import Encoder, build_encoder, encoder_class
from mmssl.nn.inputs import NormalizePictures
from mmssl.nn.logmel import FLOOR, MEAN, SCALE, LogMel
from mmssl.types import InputError

TOKENS = 8000  # in the vocabulary of encoders of text: what `mmssl tokenizer` makes by default


def list_encoders(pattern: str = "*") -> list[dict[str, Any]]:
    """Encoders that come with mmssl, in their sizes, with default arguments.

    Args:
        pattern: of "name:size" ("video_*", "*:tiny"); without a wildcard, what it has to contain ("resnet").

    Returns:
        for each: `name`, `size` (None where there are no sizes), `modality`, `parameters`, `input` (see `input_of`), `takes` (the same in
        words), `dim`, `grid` (shape for one input), `flops` (for one input, two for each multiplication and addition; transforms of
        spectrograms and work on single elements are not counted) and `weights` (names that the argument `weights` takes; nothing is
        fetched here). Encoders of text: with a vocabulary of `TOKENS`.

    Raises:
        InputError: nothing matches.
    """
    wanted = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
    known = [(name, size) for name in component_names("mmssl.encoders") for size in _sizes(name)]
    chosen = [(name, size) for name, size in known if fnmatch.fnmatch(f"{name}:{size}" if size else name, wanted)]
    if not chosen:
        raise InputError(f"no encoder matches {pattern!r}; there are {', '.join(dict.fromkeys(name for name, _ in known))}")
    with tempfile.TemporaryDirectory() as folder:
        return [_entry(name, size, Path(folder)) for name, size in chosen]


def _sizes(name: str) -> tuple[str | None, ...]:
    return typing.get_args(typing.get_type_hints(encoder_class(name).__init__).get("size")) or (None,)


def _entry(name: str, size: str | None, folder: Path) -> dict[str, Any]:
    takes = inspect.signature(encoder_class(name)).parameters
    arguments: dict[str, Any] = {} if size is None else {"size": size}
    if "tokenizer" in takes:
        arguments |= {"tokenizer": str(_words(folder)), "config": {"vocab_size": TOKENS}}
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    try:
        with fake:
            encoder = build_encoder(name, arguments).eval()
    except DataDependentOutputException:  # torchaudio looks at the values of its filters; such networks are built for real
        encoder = build_encoder(name, arguments).eval()
    # Attention as products of matrices: the counter does not know the CPU's own kernel.
    with fake, torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        grid = encoder(_one(encoder)).grid
    return {
        "name": name,
        "size": size,
        "modality": encoder.modality,
        "parameters": sum(parameter.numel() for parameter in encoder.parameters()),
        "input": input_of(encoder),
        "takes": input_in_words(encoder),
        "dim": encoder.dim,
        "grid": list(grid.shape[1:-1]),
        "flops": counter.get_total_flops(),
        "weights": _weights(size, encoder) if "weights" in takes else [],
    }


def input_of(encoder: Encoder) -> dict[str, Any]:
    """Shape, type and size of the input, as plain values; sizes of 0 mean any."""
    spec = encoder.spec
    sizes = {"size": spec.size, "frames": spec.frames, "fps": spec.fps}
    match encoder.modality:
        case "frame" | "video":
            return {"shape": "N x T x 3 x H x W", "type": "uint8 RGB in 0..255, or floating point in 0..1", **sizes}
        case "flow":
            return {
                "shape": "N x T x 2 x H x W",
                "type": "floating point, pixels for one step; channel 0 points right, 1 down",
                **sizes,
            }
        case "audio":
            return {"shape": "N x samples", "type": "floating point, mono, in -1..1", "rate": spec.rate, "seconds": spec.seconds}
    words: Any = encoder.vocabulary
    special = {key: getattr(words, key) for key in ("pad", "unk", "cls", "sep", "mask")}
    return {"shape": "N x L", "type": "int64 token ids", "tokens": spec.tokens, "vocabulary": words.size, "special": special}


def preparation_of(encoder: Encoder) -> dict[str, Any]:
    """What an encoder of mmssl does to its input before its first layer, as plain values; {} where that is not known."""
    modules: dict[str, Any] = dict(encoder.named_children())
    match encoder.modality, modules.get("normalize"), modules.get("logmel"):
        case (("frame" | "video"), NormalizePictures() as normalize, _):
            mean, std = ([round(value, 6) for value in tensor.tolist()] for tensor in (normalize.mean, normalize.std))
            return {"of": "pictures in 0..1", "mean": mean, "std": std}
        case "audio", _, LogMel() as logmel:
            seconds = {"window": logmel.window / logmel.rate, "hop": logmel.hop / logmel.rate, "fft": logmel.fft}
            return {"mels": logmel.mels, "scale": "htk", **seconds, "floor": FLOOR, "log_mean": MEAN, "log_scale": SCALE}
        case "flow", _, _:
            return {key: encoder.arguments[key] for key in ("unit", "centre") if key in encoder.arguments}
    return {}


def input_in_words(encoder: Encoder) -> str:
    """The same in a few words: "16 pictures of 112 x 112, 12.5 a second"."""
    spec = encoder.spec
    match encoder.modality:
        case "frame":
            return f"pictures of {spec.size} x {spec.size}, each alone"
        case "video" | "flow":
            what = "pictures" if encoder.modality == "video" else "fields of flow"
            return f"{spec.frames} {what} of {spec.size} x {spec.size}, {spec.fps:g} a second"
        case "audio":
            return f"{spec.seconds:g} s of sound at {spec.rate} Hz"
    return f"up to {spec.tokens} tokens"


def preparation_in_words(encoder: Encoder) -> str:
    """The same in a sentence."""
    match preparation_of(encoder):
        case {"mean": mean, "std": std}:
            return f"(x / 255 - mean) / std of RGB, mean {mean}, std {std}"
        case {"mels": mels, "window": window, "hop": hop, "fft": fft}:
            return (
                f"log-mel spectrogram: {mels} HTK bands, Hann windows of {window * 1000:g} ms every {hop * 1000:g} ms, transforms of {fft} samples, "
                f"(ln(power + {FLOOR:g}) {-MEAN:+g}) / {SCALE:g}"
            )
        case {"unit": unit, "centre": centre}:
            return f"{'the mean of each field taken away, then ' if centre else ''}asinh(flow / {unit:g})"
    return (
        "ids are those of `tokenizer.json`; padding is told by its id"
        if encoder.modality == "text"
        else "as the encoder's module says"
    )


def _one(encoder: Encoder) -> Tensor:
    spec = encoder.spec
    match encoder.modality:
        case "text":
            return torch.zeros(1, spec.tokens, dtype=torch.int64)
        case "audio":
            return torch.zeros(1, round(spec.rate * spec.seconds))
        case "flow":
            return torch.zeros(1, spec.frames, 2, spec.size, spec.size)
    return torch.zeros(1, spec.frames, 3, spec.size, spec.size, dtype=torch.uint8)


def _words(folder: Path) -> Path:
    """A tokenizer of nothing but special tokens: the size of the vocabulary is set by `config`."""
    from tokenizers import Tokenizer
    from tokenizers import models as kinds

    from mmssl.vocabulary import SPECIAL, TOKENIZER_FILE

    path = folder / TOKENIZER_FILE
    core = Tokenizer(kinds.WordPiece(vocab={name: number for number, name in enumerate(SPECIAL)}, unk_token="[UNK]"))
    core.add_special_tokens(list(SPECIAL))
    path.write_text(core.to_str(), encoding="utf-8")
    return path


def _weights(size: str | None, encoder: Encoder) -> list[str]:
    if encoder.modality == "text":
        return ["a name on the Hugging Face hub"]
    return list(models.get_model_weights(size).__members__) if size in models.list_models() else []
