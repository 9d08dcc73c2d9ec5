"""The public test sets of sound localization: exactly the clips of the protocol, or a clear refusal.

Flickr-SoundNet: 250 of the 5,000 annotated pairs (Senocak et al., "Learning to localize sound source in visual scenes", CVPR 2018). VGG-SS:
5,158 clips (Chen et al., "Localizing visual sounds the hard way", CVPR 2021). Extended: as many pairs of a picture and another clip's sound
on top, "non-sounding", 250 and 5,158 (Mo and Morgado, "A closer look at weakly-supervised audio-visual source localization", NeurIPS 2022).

As released, a set is a folder with `frames/ID.jpg` and `audio/ID.wav`; films (`videos/ID.mp4`, any suffix) serve too. Lists and boxes lie
in the folder or its `metadata/`: `Annotations/ID.xml` and `test_list.txt` or `flickr_test.csv`; `vggss.json`, which is a list itself;
`flickr_test_plus_silent.csv` and `vggss_test_plus_silent.csv` (picture, sound, "non-sounding").
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmssl.downstream.annotations import Annotation, read_flickr_soundnet, read_vggss
from mmssl.types import InputError

PICTURES = (".jpg", ".jpeg", ".png")
SOUNDS = (".wav", ".flac", ".mp3", ".ogg", ".m4a")
NEGATIVE = "non-sounding"
SHOWN = 3  # names in a message


@dataclass(frozen=True, slots=True)
class Protocol:
    """What a test set is by its publication."""

    name: str
    clips: int
    consensus: int  # annotators who must agree, see `Annotation.truth`
    moment: float | None  # seconds at which a film's picture was annotated; None: its middle


FLICKR_SOUNDNET = Protocol("Flickr-SoundNet test", 250, 2, None)
VGG_SS = Protocol("VGG-SS", 5158, 1, 5.0)


@dataclass(frozen=True, slots=True)
class Item:
    """One pair of a picture and a sound, with its boxes; `negative`: what sounds is not in view."""

    id: str
    picture: Path  # a picture, or a film
    sound: Path
    boxes: Annotation
    negative: bool = False


@dataclass(frozen=True, slots=True)
class ClipSet:
    """What there is of a protocol's clips."""

    protocol: Protocol
    extended: bool
    items: tuple[Item, ...]
    missing: dict[str, str] = field(default_factory=dict)  # id -> why it is not there

    @property
    def wanted(self) -> int:
        """Clips that the protocol has."""
        return self.protocol.clips * (2 if self.extended else 1)

    @property
    def complete(self) -> bool:
        """Whether these are exactly the protocol's clips."""
        return not self.missing and len(self.items) == self.wanted

    @property
    def name(self) -> str:
        """The protocol's name where these are its clips; else how many of them."""
        whole = f"{self.protocol.name}{', extended' if self.extended else ''}"
        return whole if self.complete else f"{len(self.items)} of the {self.wanted} clips of {whole}"

    def demand(self, *, allow_missing: bool) -> None:
        """Refuse a set that is not the protocol's.

        Raises:
            InputError: clips are missing and that is not allowed, or there are none at all.
        """
        if self.complete or (allow_missing and any(not item.negative for item in self.items)):
            return
        first = "; ".join(f"{name}: {why}" for name, why in list(self.missing.items())[:SHOWN])
        told = f" ({len(self.missing)} are missing, such as {first})" if self.missing else ""
        more = "" if allow_missing else "; --allow-missing evaluates what is there, and calls it that"
        raise InputError(f"{self.name}: not the test set{told}{more}")


def read_soundnet_set(root: Path, *, extended: bool = False) -> ClipSet:
    """Flickr-SoundNet's test clips under `root`.

    Raises:
        InputError: no annotations or no list of the test clips, or they are not of their format.
    """
    annotations = read_flickr_soundnet(_find(root, "Annotations", "annotations"))
    listed = _listed(_find(root, "test_list.txt", "flickr_test.csv"))
    return _gather(root, FLICKR_SOUNDNET, annotations, listed, "flickr_test_plus_silent.csv" if extended else None)


def read_vggss_set(root: Path, *, extended: bool = False) -> ClipSet:
    """VGG-SS's clips under `root`.

    Raises:
        InputError: as `read_soundnet_set`.
    """
    annotations = read_vggss(_find(root, "vggss.json"))
    return _gather(root, VGG_SS, annotations, list(annotations), "vggss_test_plus_silent.csv" if extended else None)


def _gather(
    root: Path, protocol: Protocol, annotations: Mapping[str, Annotation], listed: Sequence[str], silent: str | None
) -> ClipSet:
    pictures, sounds = _media(root, "frames", PICTURES), _media(root, "audio", SOUNDS)
    films = _media(root, "videos", None)
    items: list[Item] = []
    missing: dict[str, str] = {}

    def add(name: str, picture: str, sound: str, negative: bool) -> None:
        shown, heard = pictures.get(picture) or films.get(picture), sounds.get(sound) or films.get(sound)
        boxes = annotations.get(picture)
        if shown is None or heard is None:
            missing[name] = "no picture" if shown is None else "no sound"
        elif negative:
            items.append(Item(name, shown, heard, Annotation(name, ()), negative=True))
        elif boxes is None:
            missing[name] = "no annotation"
        else:
            items.append(Item(name, shown, heard, boxes))

    clips = list(dict.fromkeys(listed))
    for name in clips:
        add(name, name, name, negative=False)
    counts = {"test clips": len(clips)}
    if silent is not None:
        pairs = _negatives(_find(root, silent))
        counts[f"{NEGATIVE} pairs"] = len(pairs)
        for picture, sound in pairs:
            add(f"{picture} with the sound of {sound}", picture, sound, negative=True)
    for kind, count in counts.items():
        if count != protocol.clips:
            gap = _known_gap(protocol, clips) if kind == "test clips" else ""
            missing[f"the list of {kind}"] = f"it names {count}, {protocol.name} has {protocol.clips}{gap}"
    return ClipSet(protocol, silent is not None, tuple(items), missing)


def _known_gap(protocol: Protocol, listed: Sequence[str]) -> str:
    if protocol is FLICKR_SOUNDNET and len(listed) == 249 and "3908875350" not in listed:
        return " (the flickr_test.csv of later releases lacks 3908875350: take the test_list.txt of the data)"
    return ""


def _find(root: Path, *names: str) -> Path:
    if not root.is_dir():
        raise InputError(f"there is no folder {root}")
    for folder in (root, root / "metadata"):
        for name in names:
            if (folder / name).exists():
                return folder / name
    raise InputError(
        f"{root} holds no {' or '.join(names)} (nor does its folder metadata); see docs/localization.md for the layout"
    )


def _listed(path: Path) -> list[str]:
    """The first column of a list, without suffixes."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        names = [row[0].strip() for row in csv.reader(file) if row and row[0].strip()]
    return [name.rsplit(".", 1)[0] if name.endswith((*PICTURES, *SOUNDS, ".mp4")) else name for name in names]


def _negatives(path: Path) -> list[tuple[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if row]
    found = [(row[0].strip(), row[1].strip()) for row in rows if len(row) > 2 and row[2].strip() == NEGATIVE]
    if not found:
        raise InputError(f"{path} has no row `picture,sound,{NEGATIVE}`")
    return found


def _media(root: Path, folder: str, suffixes: tuple[str, ...] | None) -> dict[str, Path]:
    """Id -> file; one listing for thousands of clips."""
    place = root / folder
    if not place.is_dir():
        return {}
    files = (path for path in sorted(place.iterdir()) if not path.name.startswith("."))
    return {path.stem: path for path in files if suffixes is None or path.suffix.lower() in suffixes}
