"""Full fine-tuning: the encoder and a linear classifier on its pooled features, trained end to end.

The usual protocol of video self-supervision (Korbar et al., NeurIPS 2018, section 4.2, and after it): in training one clip at a random time of each
file and epoch, mirrored and cropped at random; in testing the mean of the class probabilities of K clips spread over the file.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmssl.downstream.probe.clips import Cut, batched, decode_ahead, even_starts, random_start, span_of
from mmssl.downstream.probe.fitting import Recipe, batches, fit, layers_of, parameter_groups
from mmssl.encoders.base import Encoder
from mmssl.nn.augment import FrameAugment, WaveAugment
from mmssl.rng import Purpose, rng_for, seed_for
from mmssl.types import InputError, Source

VIEWS_AT_ONCE = 32  # through the encoder when testing


class Classifier(nn.Module):
    """Views (N, ...) -> logits (N, classes). In training it augments what it is given."""

    def __init__(self, encoder: Encoder, classes: int, *, mirrored: bool) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        self.classifier = nn.Linear(encoder.dim, classes)
        self.augment: Callable[[Tensor], Tensor] = (
            WaveAugment(gain=6.0)
            if encoder.modality == "audio"
            else FrameAugment(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.0, flip=0.5 * mirrored, crop=0.5)
        )

    def forward(self, views: Tensor) -> Tensor:
        """See the class."""
        return self.classifier(self.encoder(self.augment(views) if self.training else views).pooled)


def finetune(
    encoder: Encoder,
    sources: Sequence[Source],
    targets: NDArray[np.int64],
    classes: int,
    cut: Cut,
    recipe: Recipe,
    *,
    mirrored: bool,
    seed: int,
    device: torch.device,
    on_step: Callable[[], None] = lambda: None,
) -> Classifier:
    """A classifier trained on these files; the encoder given stays as it is.

    Args:
        encoder: to begin from.
        sources: to learn from; all can be decoded.
        targets: class numbers (n,), or (n, C) of 0 and 1.
        classes: how many there are.
        cut: of views.
        recipe: how to train.
        mirrored: whether a clip seen in a mirror keeps its class.
        seed: of the classifier's weights, the order and the places of cuts.
        device: where to train.
        on_step: called after each step.

    Raises:
        InputError: a file can no longer be decoded, or the loss is not finite.
    """
    torch.manual_seed(seed_for(seed, Purpose.INIT, "finetune"))
    model = Classifier(encoder, classes, mirrored=mirrored).to(device).train()
    model.requires_grad_(True)
    order = list(batches(range(len(sources)), recipe, seed))

    def jobs() -> Iterator[tuple[int, Source, list[float]]]:
        for epoch, rows in order:
            for row in rows:
                rng = rng_for(seed, Purpose.EVALUATE, "probe cut", epoch, row)
                yield row, sources[row], random_start(cut, span_of(cut, sources[row]), rng)

    def data() -> Iterator[tuple[Tensor, Tensor]]:
        decoded = decode_ahead(jobs(), cut)
        for _, rows in order:
            views = []
            for row in rows:
                _, tensor = next(decoded)
                if isinstance(tensor, str):
                    raise InputError(f"{sources[row].path} can no longer be decoded: {tensor}")
                views.append(tensor)
            yield torch.cat(views), torch.from_numpy(targets[rows])

    groups = parameter_groups(layers_of(model), recipe.layer_decay)
    fit(model, groups, data(), recipe, steps=len(order), seed=seed, device=device, on_step=on_step)
    return model.eval()


@torch.inference_mode()
def mean_probabilities(
    model: Classifier, sources: Sequence[Source], cut: Cut, views: int, *, several: bool, device: torch.device
) -> NDArray[np.float64]:
    """Mean over `views` views of each file's class probabilities, (n, C): softmax, or a sigmoid each with `several` labels.

    Raises:
        InputError: a file cannot be decoded.
    """
    parts: list[NDArray[np.float64]] = []
    jobs = ((row, source, even_starts(cut, span_of(cut, source), views)) for row, source in enumerate(sources))

    def refuse(row: int, why: str) -> None:
        raise InputError(f"{sources[row].path} can no longer be decoded: {why}")

    for rows, stacked in batched(decode_ahead(jobs, cut), max(1, VIEWS_AT_ONCE // views), refuse):
        logits = torch.cat([model(chunk.to(device)).float() for chunk in stacked.flatten(0, 1).split(VIEWS_AT_ONCE)])
        shares = logits.sigmoid() if several else logits.softmax(1)
        parts.append(shares.unflatten(0, (len(rows), views)).mean(1).double().cpu().numpy())
    return np.concatenate(parts)
