"""A labelled set: clips with their classes, the groups that must stay together, and the splits of its protocol.

A protocol has a fixed number of clips. Whatever is missing, unreadable or without the stream that is asked about makes the figure another
one, so it stops the probe, unless the caller says that a part will do; then the result says how large that part is and drops the protocol's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mmssl.types import InputError, Source

SHOWN = 5  # names listed in a message
OWN = ("folder", "csv")  # protocols of one's own clips; the others are published


@dataclass(frozen=True, slots=True)
class Item:
    """One clip of the set."""

    name: str  # as the lists of the protocol call it
    labels: tuple[int, ...]  # class numbers; exactly one unless the set is multi-label
    group: str  # clips of one group come from one recording, speaker or video, and stay on one side of every cut


@dataclass(frozen=True, slots=True)
class Split:
    """One way of parting the set; numbers are positions in `Labelled.items`."""

    name: str
    train: tuple[int, ...]
    test: tuple[int, ...]
    validation: tuple[int, ...] = ()  # the protocol's own; empty: cut from `train`, see `folds.validation_cut`


@dataclass(frozen=True, slots=True)
class Listing:
    """What a protocol's lists say, before anybody looked for the files."""

    protocol: str  # "ucf101", ..., "folder", "csv"
    title: str  # as figures call it: "UCF101"
    classes: tuple[str, ...]
    items: tuple[Item, ...]
    splits: tuple[Split, ...]
    multi_label: bool = False
    mirrored: bool = True  # whether a clip seen in a mirror keeps its class
    problems: tuple[str, ...] = ()  # why this is not the whole protocol: a list of another length than published
    notes: tuple[str, ...] = ()  # what a reader of the figures should know

    @property
    def shared_groups(self) -> tuple[str, ...]:
        """Which groups are both learnt from and tested on, a sentence for each split that has such."""
        found = []
        for split in self.splits:
            sides = ({self.items[place].group for place in part} for part in ((*split.train, *split.validation), split.test))
            both = sorted(set.intersection(*sides))
            if both:
                groups = "1 group" if len(both) == 1 else f"{len(both)} groups"
                found.append(f"split {split.name} of {self.title} has {groups} both to learn from and to test on ({_some(both)})")
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Labelled:
    """A labelled set whose files are at hand: `sources[i]` belongs to `items[i]`."""

    listing: Listing
    sources: tuple[Source, ...]
    expected: int  # clips that the chosen splits name
    missing: Mapping[str, str] = field(default_factory=dict)  # name -> why it is left out

    @property
    def items(self) -> tuple[Item, ...]:
        """The clips that are there."""
        return self.listing.items

    @property
    def splits(self) -> tuple[Split, ...]:
        """The chosen splits, of the clips that are there."""
        return self.listing.splits

    @property
    def whole(self) -> bool:
        """Whether this is the protocol, all of it."""
        return not self.missing and not self.listing.problems

    @property
    def title(self) -> str:
        """The protocol's name, or how much of it this is."""
        if self.whole:
            return self.listing.title
        return f"a part of {self.listing.title} ({len(self.items):,} of {self.expected:,} clips; not the protocol)"

    def targets(self, multi_label: bool) -> NDArray[np.int64]:
        """Class numbers (N,), or with `multi_label` 0 and 1 for each class (N, C)."""
        if not multi_label:
            return np.array([item.labels[0] for item in self.items], dtype=np.int64)
        table = np.zeros((len(self.items), len(self.listing.classes)), dtype=np.int64)
        for row, item in enumerate(self.items):
            table[row, list(item.labels)] = 1
        return table

    def without(self, failed: Mapping[int, str], *, allow_missing: bool) -> Labelled:
        """The set without the clips at these positions.

        Raises:
            InputError: there are any, and a part is not enough.
        """
        if not failed:
            return self
        names = {self.items[place].name: why for place, why in failed.items()}
        refuse_missing(self.listing, names, self.expected, allow_missing=allow_missing)
        kept = [place for place in range(len(self.items)) if place not in failed]
        listing = keep(self.listing, kept)
        return replace(
            self, listing=listing, sources=tuple(self.sources[place] for place in kept), missing={**self.missing, **names}
        )


def refuse_missing(listing: Listing, missing: Mapping[str, str], expected: int, *, allow_missing: bool) -> None:
    """Raise `InputError` where clips are missing and a part of the protocol is not enough."""
    if missing and not allow_missing:
        shown = "; ".join(f"{name}: {why}" for name, why in list(missing.items())[:SHOWN])
        more = f"; and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise InputError(
            f"{listing.title} has {expected} clips and {len(missing)} of them cannot be used ({shown}{more}); get them, or add "
            f"--allow-missing for figures of the part that is there"
        )


def keep(listing: Listing, places: Sequence[int]) -> Listing:
    """The listing with these items only.

    Raises:
        InputError: a split would be left without clips to learn from or to test on, or a class to be tested without any to learn from.
    """
    new = {old: number for number, old in enumerate(places)}

    def of(part: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(new[place] for place in part if place in new)

    items = tuple(listing.items[place] for place in places)
    splits = tuple(Split(split.name, of(split.train), of(split.test), of(split.validation)) for split in listing.splits)
    kept = replace(listing, items=items, splits=splits)
    check_splits(kept)
    return kept


def check_splits(listing: Listing) -> None:
    """Raise `InputError` unless each split can be learnt from and tested, and, of one's own clips, no group is on both sides.

    Published splits are what they are: where groups, told from names, are on both sides, the figures say so.
    """
    items, title = listing.items, listing.title
    for split in listing.splits:
        learnt = (*split.train, *split.validation)
        if not learnt or not split.test:
            raise InputError(
                f"split {split.name} of {title} has {len(learnt)} clips to learn from and {len(split.test)} to test on"
            )
        known = {label for place in learnt for label in items[place].labels}
        if len(known) < 2 and not listing.multi_label:
            raise InputError(f"split {split.name} of {title} has {len(known)} class to learn; a probe needs at least 2")
        unknown = {label for place in split.test for label in items[place].labels} - known
        if unknown and not listing.multi_label:  # of many labels some may be rare; mAP says how many classes it is over
            names = _some([listing.classes[label] for label in sorted(unknown)])
            raise InputError(
                f"split {split.name} of {title} tests {len(unknown)} classes that it has no clip to learn from: {names}"
            )
    if listing.protocol in OWN and listing.shared_groups:
        raise InputError(f"{listing.shared_groups[0]}: clips of one recording would give the answer away")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
