"""Films inside tar files: one large file for many small films, each read in place.

A film in a shard has a path like any other, of four parts: the shard, where in it the film's bytes begin and how many they are, and its name:

    small/films-00003.tar/1536+88123/walking/one.mp4

No such file exists on the disk. `open_media` turns the path into FFmpeg's `subfile` protocol, so whatever opens films by it reads films in
shards, too; nothing is unpacked. A shard is an ordinary tar file: `tar -xf` gives the films back under their names.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmssl.files import make_aside

BLOCK = tarfile.BLOCKSIZE
COPIED = 1 << 20  # bytes at a time
_MEMBER = re.compile(r"(?P<shard>.+\.tar)/(?P<offset>\d+)\+(?P<size>\d+)/(?P<name>.+)", re.DOTALL)


class Member(NamedTuple):
    """A file in a shard: its bytes are `shard[offset : offset + size]`."""

    shard: Path
    offset: int
    size: int
    name: str  # posix

    @property
    def path(self) -> Path:
        """The path that stands for it."""
        return self.shard / f"{self.offset}+{self.size}" / self.name


class Place(NamedTuple):
    """What the disk says of a file or a member."""

    size: int
    mtime_ns: int


def find_member(path: Path) -> Member | None:
    """The member that a path stands for; None for a path of a plain file."""
    found = _MEMBER.fullmatch(path.as_posix())
    if found is None or path.exists():
        return None
    return Member(Path(found["shard"]), int(found["offset"]), int(found["size"]), found["name"])


def look_up(path: Path) -> Place:
    """Size in bytes and time of change of a file or a member (that of its shard). Raises `OSError` where it cannot be read."""
    member = find_member(path)
    place = path if member is None else member.shard
    with place.open("rb"):
        pass  # a missing permission is told apart from damage here: libav's own words for it vary
    found = place.stat()
    return Place(found.st_size if member is None else member.size, found.st_mtime_ns)


def write_shard(path: Path, files: Sequence[tuple[Path, str]]) -> list[Member]:
    """Gather files under names of their own into a tar at `path`, which is there whole or not at all.

    Args:
        path: ends in .tar.
        files: (where a file is, its name in the shard).

    Returns:
        One member for each file, in order.

    Raises:
        OSError: a file cannot be read, or the shard not written.
    """
    members: list[Member] = []

    def fill(part: Path) -> None:
        with tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as tar:
            for place, name in files:
                info = tarfile.TarInfo(name)  # no owner, no time: equal films give equal shards
                info.size = place.stat().st_size
                with place.open("rb") as file:
                    tar.addfile(info, file)
                padded = -(-info.size // BLOCK) * BLOCK
                members.append(Member(path, tar.offset - padded, info.size, name))

    make_aside(path, fill)
    return members


def extract(member: Member, target: Path) -> None:
    """Copy a member's bytes into a file of its own, whole or not at all. Raises `OSError`."""

    def fill(part: Path) -> None:
        with member.shard.open("rb") as shard, part.open("wb") as file:
            shard.seek(member.offset)
            left = member.size
            while left:
                piece = shard.read(min(left, COPIED))
                if not piece:
                    raise OSError(f"{member.shard} ends {left} bytes before {member.name} does")
                file.write(piece)
                left -= len(piece)

    make_aside(target, fill)
