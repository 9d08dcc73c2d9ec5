"""Randomness by address: the same address gives the same draw, in any worker, on any rank, after any restart.

Nothing in mmssl keeps a running generator. What is random names its address (seed, purpose, stream, row, attempt, ...), and
so nothing random has to be saved in a checkpoint.
"""

from __future__ import annotations

import zlib
from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """First part of an address after the seed. Values are stored in no file, but changing one changes every run."""

    ORDER = 1  # the order of sources in an epoch
    CUT = 2  # where views cut a source
    STEP = 3  # dropout, masks and augmentation on the device
    HOLDOUT = 4  # which sources are kept for evaluation
    WORLD = 5  # the toy world
    EVALUATE = 6  # cuts and pairings of evaluations
    INIT = 7  # initial weights


def rng_for(*address: int | str) -> np.random.Generator:
    """A fresh generator for an address of integers and strings.

    >>> rng_for(0, Purpose.CUT, 3, "av_nce").integers(100) == rng_for(0, Purpose.CUT, 3, "av_nce").integers(100)
    True
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(_words(address))))


def seed_for(*address: int | str) -> int:
    """A 63-bit seed for an address, for libraries that take one number."""
    return int(np.random.SeedSequence(_words(address)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_step(seed: int, step: int, micro: int, rank: int) -> None:
    """Seed torch's generators (all devices) for one micro-batch: dropout, masks and augmentation become addressed."""
    import torch  # not above: processes that draw addresses but compute nothing (toy world, index) start in a tenth of the time

    torch.manual_seed(seed_for(seed, Purpose.STEP, step, micro, rank))


def _words(address: tuple[int | str, ...]) -> list[int]:
    # The length goes first, so that (1,) and (1, 0) differ: SeedSequence itself pads with zeros.
    words = [len(address)]
    for part in address:
        if isinstance(part, str):
            words.append(zlib.crc32(part.encode()))
        elif part < 0:
            raise ValueError(f"an address holds integers >= 0 and strings, got {part} in {address}")
        else:
            words.extend((int(part) & 0xFFFFFFFF, int(part) >> 32))
    return words
