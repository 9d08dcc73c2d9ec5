"""Which sources are kept for evaluation: whole files (or whole groups of them), never other cuts of a trained file."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mmssl.rng import Purpose, seed_for
from mmssl.types import InputError


def split_holdout(ids: Sequence[str], holdout: float, *, by: str | None = None, seed: int = 0) -> tuple[list[int], list[int]]:
    """Positions for training and positions held out.

    Groups (single files where `by` is None) are ranked by a hash of their name and the seed, and taken from the top until at least the
    asked number of sources is held out. So the choice does not depend on the order of the files.

    Args:
        ids: of the sources.
        holdout: below 1 the share of sources, from 1 on their number, 0 none.
        by: regular expression searched in each id; the matched text (first group, if there is one) names the source's group. Sources that it
            does not match are groups of their own.
        seed: of the run.

    Raises:
        InputError: nothing would be left to train on, or `by` is not a regular expression.
    """
    wanted = round(holdout * len(ids)) if holdout < 1 else int(holdout)
    if wanted <= 0:
        return list(range(len(ids))), []
    groups: dict[str, list[int]] = {}
    for position, name in enumerate(_group_names(ids, by)):
        groups.setdefault(name, []).append(position)
    held: list[int] = []
    for name in sorted(groups, key=lambda name: (seed_for(seed, Purpose.HOLDOUT, name), name)):
        if len(held) >= wanted:
            break
        held += groups[name]
    kept = set(held)
    train = [position for position in range(len(ids)) if position not in kept]
    if not train:
        raise InputError(
            f"holdout {holdout} of {len(ids)} sources in {len(groups)} groups leaves none to train on; lower it, or give a share: "
            "streams.0.holdout=0.2 keeps a fifth"
        )
    return train, sorted(held)


def _group_names(ids: Sequence[str], by: str | None) -> list[str]:
    if by is None:
        return list(ids)
    try:
        pattern = re.compile(by)
    except re.error as error:
        raise InputError(f"holdout_by {by!r} is not a regular expression: {error}") from error
    names: list[str] = []
    for name in ids:
        match = pattern.search(name)
        names.append(name if match is None else "by:" + (match.group(1) if pattern.groups else match.group(0)))
    return names
