"""A CUDA device that is not there: tensors with shapes, dtypes and a device, without values, beside real ones on the host.

On it an operation fails as on a GPU where host and device are mixed, and so does every read of a value (`item()`, `bool()`, `nonzero()`),
which on a GPU makes the host wait. Autograd's engine wants a real device, so nothing goes backward here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PretendCuda(TorchDispatchMode):
    """Sends what names the device, or has a tensor of it among its arguments, to fake kernels; runs all else on the host."""

    def __init__(self, *, waits: bool = False) -> None:
        super().__init__()
        self.waits = waits
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        device = kwargs.get("device")
        there = device is not None and torch.device(device).type == "cuda"
        if self.waits and func is torch.ops.aten._local_scalar_dense.default and isinstance(args[0], FakeTensor):
            kind = args[0].dtype
            return True if kind == torch.bool else 1.0 if kind.is_floating_point else 1
        if there or any(isinstance(leaf, FakeTensor) for leaf in tree_leaves((args, kwargs))):
            return func(*args, **kwargs)  # by the mode below this one, `fake`
        with unset_fake_temporarily():
            return func(*args, **kwargs)

    def tensor(self, x: Tensor) -> Tensor:
        """A tensor like `x` on the device."""
        with torch.no_grad():
            return self.fake.from_tensor(x.detach()).to("cuda")

    def batch(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A batch on the device."""
        return {key: self.tensor(value) for key, value in batch.items()}

    def module(self, module: nn.Module) -> nn.Module:
        """Move a module's parameters and buffers to the device: `Module.to` cannot swap real tensors for these."""
        for part in module.modules():
            for name, value in list(part._parameters.items()):
                if value is not None:
                    part._parameters[name] = nn.Parameter(self.tensor(value), requires_grad=value.requires_grad)
            for name, value in list(part._buffers.items()):
                if value is not None:
                    part._buffers[name] = self.tensor(value)
        return module


@contextmanager
def pretend_cuda(*, waits: bool = False) -> Iterator[PretendCuda]:
    """The device, for the time of a block. `waits`: values may be read from it, and are all 1."""
    mode = PretendCuda(waits=waits)
    capable = (  # what autocast asks before it is switched on
        mock.patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False),
        mock.patch("torch.cuda.is_bf16_supported", lambda *_: True),
    )
    with capable[0], capable[1], mode.fake, mode:  # while a fake mode is active, torch does not look for a driver
        yield mode
