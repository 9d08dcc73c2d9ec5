"""Digests of weights, so that vectors of different models are never compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import torch
from torch import nn

from mmssl.encoders.base import Encoder


def weights_digest(modules: Iterable[nn.Module]) -> str:
    """SHA-256 of all parameters and buffers."""
    digest = hashlib.sha256()
    for module in modules:
        for name, value in sorted(module.state_dict().items()):
            digest.update(name.encode())
            # Flat: a scalar, as batch norms count in, cannot be viewed as bytes.
            digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def encoder_digest(encoder: Encoder) -> str:
    """SHA-256 of what an encoder computes: its name, its arguments and its weights."""
    made = json.dumps([encoder.name, encoder.arguments, weights_digest([encoder])], sort_keys=True)
    return hashlib.sha256(made.encode()).hexdigest()
