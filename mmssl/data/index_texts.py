"""Text files -> manifest rows: one for each section of a document, and one for each file that cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmssl.data.documents import DOCUMENTS_VERSION, Section, read_document
from mmssl.data.manifest import SCHEMA, manifest_from_rows
from mmssl.data.walk import Candidate
from mmssl.types import MediaError

BATCH_ROWS = 512  # rows that are held as Python objects before they become an Arrow table


def text_table(
    root: Path, candidates: Sequence[Candidate], ids: Sequence[str], old: pa.Table | None, read: Callable[[int, int], None]
) -> pa.Table:
    """The rows of text files; those of an older manifest are kept where a file's size and time of change are the same.

    `read` is told how many files are done, of how many.
    """
    known = _known(old)
    tables = [SCHEMA.empty_table()]
    fresh: list[dict[str, Any]] = []
    for done, (candidate, name) in enumerate(zip(candidates, ids, strict=True), start=1):
        kept = known.get((candidate.path, candidate.size, candidate.mtime_ns, name))
        if kept is not None and old is not None and candidate.reason is None:
            tables.append(old.take(pa.array(kept)).replace_schema_metadata(None))
        else:
            fresh.extend(_rows(root, candidate, name))
        if len(fresh) >= BATCH_ROWS:
            tables.append(manifest_from_rows(fresh))
            fresh = []
        read(done, len(candidates))
    if fresh:
        tables.append(manifest_from_rows(fresh))
    return pa.concat_tables(tables)


def _known(old: pa.Table | None) -> dict[tuple[object, ...], list[int]]:
    """(path, size, time of change, id of the file) -> its usable rows; a file that could not be read is tried again."""
    known: dict[tuple[object, ...], list[int]] = {}
    if old is None:
        return known
    columns = [old[name].to_pylist() for name in ("path", "size", "mtime_ns", "probe", "reason", "id")]
    for row, (path, size, changed, probe, reason, name) in enumerate(zip(*columns, strict=True)):
        if probe == DOCUMENTS_VERSION and reason is None:
            known.setdefault((path, size, changed, name.rpartition("#")[0] or name), []).append(row)
    return known


def _rows(root: Path, candidate: Candidate, name: str) -> Iterator[dict[str, Any]]:
    facts: dict[str, Any] = {
        "path": candidate.path,
        "size": candidate.size,
        "mtime_ns": candidate.mtime_ns,
        "sidecars": candidate.stamps,
        "probe": DOCUMENTS_VERSION,
        "loudness": np.zeros(0, dtype=np.float32),
    }
    reason, sections = candidate.reason, []
    if reason is None:
        try:
            sections = read_document(root / candidate.path)
        except MediaError as error:
            reason = str(error)
    if reason is not None:
        yield facts | {"id": name, "reason": reason}
    for section in sections:
        cues = [{"start": start, "end": end, "text": text} for start, end, text in section.cues]
        yield facts | {"id": _section_id(name, section, alone=len(sections) == 1), "cues": cues, "cues_from": "text"}


def _section_id(name: str, section: Section, *, alone: bool) -> str:
    """`name` of a file of one section, else `name#003.02`: section 3, part 2."""
    return name if alone else f"{name}#{section.number:03d}.{section.part:02d}"
