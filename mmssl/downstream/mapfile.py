"""Maps of a film in a file, as they come and in any order back: never more than a few of them in memory.

Not a memory map: its pages count as resident, and a film of hours would look as if it were in memory.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

CHUNK = 512  # rows copied at a time

Half = NDArray[np.float16]


class MapFile:
    """Rows of one shape, float16, one after the other in a file that is new and is written from its beginning.

    Use as a context manager while writing; rows can be read once it is closed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shape: tuple[int, ...] = ()  # of one row; known from the first on
        self._count = 0
        self._file: Any = None

    def __enter__(self) -> MapFile:
        self._file = self.path.open("wb")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; it may be read on."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __len__(self) -> int:
        return self._count

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows (n, *shape).

        Raises:
            ValueError: their shape is another than that of the rows before.
        """
        if self._count and rows.shape[1:] != self.shape:
            raise ValueError(f"rows of {rows.shape[1:]} after rows of {self.shape}")
        self.shape = rows.shape[1:]
        self._count += len(rows)
        self._file.write(np.ascontiguousarray(rows, dtype=np.float16).tobytes())

    def rows(self, first: int, last: int) -> Half:
        """Rows `first` up to `last` (not included), (last - first, *shape)."""
        if not 0 <= first <= last <= self._count:
            raise IndexError(f"rows {first} to {last} of {self._count}")
        if self._file is None or self._file.mode != "rb":
            self.close()
            self._file = self.path.open("rb")
        size = math.prod(self.shape)
        self._file.seek(first * size * 2)
        return np.frombuffer(self._file.read((last - first) * size * 2), dtype=np.float16).reshape(last - first, *self.shape)


def write_npz(path: Path, big: Mapping[str, MapFile], small: Mapping[str, ArrayLike]) -> None:
    """An `.npz` (uncompressed) that `numpy.load` reads; the rows of `big` are copied piece by piece."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, maps in big.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                header = {"descr": "<f2", "fortran_order": False, "shape": (len(maps), *maps.shape)}
                np.lib.format.write_array_header_1_0(member, header)
                for first in range(0, len(maps), CHUNK):
                    member.write(maps.rows(first, min(first + CHUNK, len(maps))).tobytes())
        for name, values in small.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(values), allow_pickle=False)
