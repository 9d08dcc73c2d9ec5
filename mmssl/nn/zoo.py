"""torchvision's published weights by name, for who is online (or has them in torch's hub cache)."""

from __future__ import annotations

import pickle  # noqa: TID251 -- only the name of the error that a hostile or broken file raises; loading is weights_only
from typing import NamedTuple

import torchvision.models as models
from torch import Tensor

from mmssl.types import InputError


class Published(NamedTuple):
    """Weights as published, with the normalisation of pictures that they were trained with."""

    state: dict[str, Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def fetch_weights(model: str, name: str) -> Published:
    """Weights `name` ("IMAGENET1K_V1", "KINETICS400_V1", "DEFAULT") of torchvision's `model` ("resnet18").

    Raises `InputError` where torchvision knows no such weights, or where they cannot be fetched.
    """
    known = models.get_model_weights(model)
    if name not in known.__members__:
        raise InputError(f"torchvision has no weights {name!r} for {model}; it has {', '.join(known.__members__)}")
    entry = known[name]
    try:
        state = entry.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:  # no network; wrong hash; not a plain file of tensors
        raise InputError(
            f"the weights {name} of {model} cannot be fetched ({error}); go online, or put the file into torch's hub cache, "
            f"or leave out weights to start from random ones"
        ) from error
    preset = entry.transforms()
    return Published(dict(state), tuple(preset.mean), tuple(preset.std))
