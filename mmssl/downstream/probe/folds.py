"""Cutting a labelled set into parts: folds to test on, and a validation part to choose by. Groups are never torn.

The choice hangs on the names of groups and a seed, not on the order of files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from mmssl.downstream.probe.labelled import Item, Split
from mmssl.rng import Purpose, seed_for
from mmssl.types import InputError

VALIDATION = 5  # one of so many groups of each class chooses the settings


def cross_validation(items: Sequence[Item], classes: Sequence[str], *, folds: int, seed: int) -> tuple[Split, ...]:
    """Folds in which each clip is tested once: `folds` of them, or fewer where the smallest class has fewer groups.

    Raises:
        InputError: `folds` is below 2, or a class has one group only, so that it cannot be both learnt and tested.
    """
    if folds < 2:
        raise InputError(f"--folds is {folds}; cross-validation needs at least 2")
    groups = _classes_of_groups(items)
    sizes = Counter(label for labels in groups.values() for label in labels)
    single = [classes[label] for label in range(len(classes)) if sizes[label] < 2]
    if single:
        shown = ", ".join(single[:5]) + (f" and {len(single) - 5} more" if len(single) > 5 else "")
        every = "each of the" if len(single) == len(classes) else f"{len(single)} of the"
        raise InputError(
            f"{every} {len(classes)} classes has a single file (or group of files): {shown}. One would have to be learnt from and another "
            f"tested; add clips, or leave classes out that have fewer than 2 with --min-files 2"
        )
    folds = min(folds, min(sizes[label] for label in range(len(classes))))
    fold_of = _deal(groups, folds, seed)
    parts = [[place for place, item in enumerate(items) if fold_of[item.group] == number] for number in range(folds)]
    whole = set(range(len(items)))
    return tuple(Split(f"fold {number + 1}", tuple(sorted(whole - set(part))), tuple(part)) for number, part in enumerate(parts))


def validation_cut(items: Sequence[Item], split: Split, *, seed: int = 0) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(positions to fit on, positions to choose by) of what a split may learn from; never of its test part.

    The protocol's own validation part where it has one. Otherwise one in five groups of each class, at least one, as long as each of its
    classes keeps a group to fit on. The second part is empty where no class has two groups.
    """
    if split.validation:
        return split.train, split.validation
    groups = _classes_of_groups([items[place] for place in split.train])
    left = Counter(label for labels in groups.values() for label in labels)
    quota = {label: -(-count // VALIDATION) for label, count in left.items()}
    chosen: set[str] = set()
    for name in _by_hash(groups, seed, "validation"):
        labels = groups[name]
        if any(quota[label] > 0 for label in labels) and all(left[label] > 1 for label in labels):
            chosen.add(name)
            left.subtract(labels)
            quota = {label: count - (label in labels) for label, count in quota.items()}
    fit = tuple(place for place in split.train if items[place].group not in chosen)
    return fit, tuple(place for place in split.train if items[place].group in chosen)


def _deal(groups: Mapping[str, set[int]], folds: int, seed: int) -> dict[str, int]:
    """Group -> fold: each goes where the fewest groups of its rarest class are, then where the fewest groups are."""
    sizes = Counter(label for labels in groups.values() for label in labels)
    by_class: Counter[tuple[int, int]] = Counter()
    total = [0] * folds
    fold_of: dict[str, int] = {}
    for name in _by_hash(groups, seed, "folds"):
        rarest = min(groups[name], key=lambda label: (sizes[label], label))
        fold = min(range(folds), key=lambda number: (by_class[number, rarest], total[number], number))
        fold_of[name] = fold
        total[fold] += 1
        by_class.update((fold, label) for label in groups[name])
    return fold_of


def _classes_of_groups(items: Sequence[Item]) -> dict[str, set[int]]:
    groups: dict[str, set[int]] = {}
    for item in items:
        groups.setdefault(item.group, set()).update(item.labels)
    return groups


def _by_hash(groups: Mapping[str, set[int]], seed: int, what: str) -> list[str]:
    return sorted(groups, key=lambda name: (seed_for(seed, Purpose.HOLDOUT, what, name), name))
