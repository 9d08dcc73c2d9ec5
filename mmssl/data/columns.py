"""What manifests ask of whole Arrow columns: numbers, lengths and maxima of lists, a digest of the values."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa


def floats(column: pa.ChunkedArray) -> np.ndarray:
    """Numbers, nan where there is none."""
    return column.fill_null(float("nan")).to_numpy()


def lengths(lists: pa.ListArray) -> np.ndarray:
    """How many values each list holds."""
    return np.diff(lists.offsets.to_numpy())


def loudest(levels: pa.Array) -> np.ndarray:
    """Maximum of each list, nan for an empty one."""
    counts = lengths(levels)
    out = np.full(len(counts), np.nan)
    if counts.sum():
        starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
        out[counts > 0] = np.maximum.reduceat(levels.flatten().to_numpy(), starts[counts > 0])
    return out


def feed(digest: hashlib._Hash, column: pa.Array) -> None:
    """Feed a column's values, not Arrow's buffers: those depend on slices, on padding, and on the library's version."""
    if pa.types.is_list(column.type):
        digest.update(lengths(column).astype("<i8").tobytes())
        feed(digest, column.flatten())
    elif pa.types.is_struct(column.type):
        for part in column.flatten():
            feed(digest, part)
    elif pa.types.is_string(column.type):
        texts = [text.encode() for text in column.to_pylist()]
        digest.update(np.array([len(text) for text in texts], dtype="<i8").tobytes())
        digest.update(b"".join(texts))
    elif pa.types.is_floating(column.type):
        digest.update(column.is_null().to_numpy(zero_copy_only=False).tobytes())
        digest.update(column.fill_null(0.0).to_numpy(zero_copy_only=False).astype("<f8").tobytes())
    else:
        digest.update(column.to_numpy(zero_copy_only=False).astype("<i8").tobytes())
