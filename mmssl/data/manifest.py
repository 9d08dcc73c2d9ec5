"""The manifest: one Parquet row for each media file under a folder (of text: for each section), usable or rejected with its reason.

`Manifest` shows the usable rows as a sequence of `Source`. Sources are built when asked for, from Arrow's buffers, which
forked loader workers share without copying: a list of a million Python objects would be copied page by page as reference
counts touch it (PyTorch issue 13246).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmssl.data.columns import feed, floats, lengths, loudest
from mmssl.files import make_aside
from mmssl.types import LOUDNESS_HOP, MOTION_HOP, MOTION_STEP, Cue, InputError, Source, Span, StoredFlow

MANIFEST_VERSION = 1
METADATA_KEY = b"mmssl.manifest"

# A track whose loudest `LOUDNESS_HOP` lies below this level (dBFS) counts as silent. Codec noise of digital silence and 16-bit
# dither lie below -80; the quietest room that a microphone recorded lies above.
SILENT_BELOW = -70.0

CUE = pa.struct([pa.field("start", pa.float64()), pa.field("end", pa.float64()), pa.field("text", pa.string())])

# Younger than the others: `read_rows` adds them to older manifests.
MOTION_FIELD = pa.field("motion", pa.list_(pa.float32()))
FLOW_FIELDS = [
    pa.field("flow_method", pa.string()),
    pa.field("flow_step", pa.float64()),
]  # of stored flow; "" and 0.0: there is none
FLOW_PATH = pa.field("flow_path", pa.string())  # as `path`
NO_VALUE: dict[str, Any] = {"motion": [], "flow_method": "", "flow_step": 0.0, "flow_path": ""}
# Columns that make a Source: they alone decide `Manifest.sha256`. Names and units as in `mmssl.types.Source`.
SOURCE_FIELDS = [
    pa.field("id", pa.string()),
    pa.field("fps", pa.float64()),
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("video_start", pa.float64()),
    pa.field("video_end", pa.float64()),
    pa.field("audio_start", pa.float64()),
    pa.field("audio_end", pa.float64()),
    pa.field("cues", pa.list_(CUE)),
    pa.field("loudness", pa.list_(pa.float32())),
    MOTION_FIELD,
    *FLOW_FIELDS,
]
_SOURCE_COLUMNS = tuple(spec.name for spec in SOURCE_FIELDS)
SCHEMA = pa.schema(
    [
        *SOURCE_FIELDS,
        pa.field("path", pa.string()),  # posix, relative to the root; of a film in a shard as `mmssl.data.shards` writes it
        FLOW_PATH,
        pa.field("reason", pa.string()),  # why the file is rejected; null where it is usable
        pa.field("notes", pa.list_(pa.string())),  # what else is worth knowing, in phrases that group well
        pa.field("cues_from", pa.string()),  # name of the sidecar file, "embedded", or "" without cues
        # What a row was made from; it is reused as long as all of it is unchanged.
        pa.field("size", pa.int64()),
        pa.field("mtime_ns", pa.int64()),
        pa.field("sidecars", pa.string()),
        pa.field("probe", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Scan:
    """What walking the folder found beside candidate files.

    `ignored`: files whose suffix is not one of media, hidden ones, second paths to a file that is indexed already.
    `unreadable`: folders that could not be listed (posix paths under the root).
    """

    ignored: int = 0
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts of a manifest. `usable == with_sound + silent + texts`; the counts below are of the usable files.

    `texts`: sections of documents, without picture and sound. `silent`: no track of sound that can be decoded, or (`silent_tracks` of them) one without anything to hear; the latter is
    known only where loudness was measured. `hours` adds the durations of the usable files.
    """

    usable: int
    rejected: int
    ignored: int
    with_sound: int
    silent: int
    silent_tracks: int
    with_subtitles: int
    audio_only: int
    texts: int
    hours: float
    reasons: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    unreadable_folders: tuple[str, ...] = ()


class Manifest(Sequence[Source]):
    """The usable files of a manifest, in order of id. Made by `read_manifest`, `index_folder` and `open_corpus`.

    Attributes:
        root: the folder that the files lie in.
        rejected: id -> reason, of files that cannot be used.
        path: the Parquet file, if it was read from one.

    `motion=False` shows sources without their motion profiles, as if these had never been measured.

    A pickled manifest that was read from a file names that file instead of carrying its rows; `InputError` where the file
    has changed by the time it is unpickled.
    """

    def __init__(
        self, table: pa.Table, *, root: Path, path: Path | None = None, rows: np.ndarray | None = None, motion: bool = True
    ) -> None:
        self.root = root
        self.path = path
        self._motion = motion
        self._stamp = _stamp(path)
        self._selection = rows  # row numbers of the file that this manifest shows; None: the usable ones
        self._table = table.select([*_SOURCE_COLUMNS, "path", "flow_path", "reason", "notes"])  # all rows, not copied
        self._rows = np.flatnonzero(table["reason"].is_null().to_numpy()) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Source: ...
    @overload
    def __getitem__(self, index: slice) -> Manifest: ...
    def __getitem__(self, index: int | slice) -> Source | Manifest:
        if isinstance(index, slice):
            return self._take(np.arange(len(self))[index])
        place = range(len(self))[index]  # negative numbers and IndexError as every sequence has them
        row = int(self._rows[place])
        columns = [name for name in (*_SOURCE_COLUMNS, "path", "flow_path") if self._motion or name != MOTION_FIELD.name]
        return _source({name: self._table[name][row].as_py() for name in columns}, self.root)

    def __repr__(self) -> str:
        return f"Manifest({len(self)} files, {len(self.rejected)} rejected, root={str(self.root)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.path is not None and self._stamp is not None and _stamp(self.path) == self._stamp:
            return _reopen, (self.path, self.root, self._selection, self._stamp, self._motion)
        return _rebuild, (self._table, self.root, self._selection, self._motion)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Ids of the usable files, in order."""
        return tuple(self._column("id").to_pylist())

    @cached_property
    def rejected(self) -> dict[str, str]:
        """Id -> reason of every file that cannot be used."""
        bad = self._table.filter(self._table["reason"].is_valid())
        return dict(zip(bad["id"].to_pylist(), bad["reason"].to_pylist(), strict=True))

    @property
    def reasons(self) -> Counter[str]:
        """How many files were rejected for each reason."""
        return Counter(self.rejected.values())

    @cached_property
    def sha256(self) -> str:
        """Digest of what the sources say: ids, spans, sizes, cues, loudness, in order. Not of where they lie or how old they are.

        Motion counts where it was measured and is shown, stored flow where there is any; without them the digest is what it was before there
        were such columns.
        """
        digest = hashlib.sha256(f"mmssl manifest {MANIFEST_VERSION}, {LOUDNESS_HOP} s hops\n".encode())
        for spec in SOURCE_FIELDS:
            if spec is MOTION_FIELD:
                if not self.has_motion:
                    continue
                digest.update(f"{MOTION_HOP} s hops, {MOTION_STEP} s steps\n".encode())
            if spec in FLOW_FIELDS and not self.has_flow:
                continue
            digest.update(spec.name.encode())
            feed(digest, self._column(spec.name).combine_chunks())
        return digest.hexdigest()

    @cached_property
    def has_motion(self) -> bool:
        """Whether any source shows a motion profile."""
        return self._motion and bool(lengths(self._column(MOTION_FIELD.name).combine_chunks()).any())

    @cached_property
    def has_flow(self) -> bool:
        """Whether any source has stored flow."""
        return bool((floats(self._column("flow_step")) > 0).any())

    def without_motion(self) -> Manifest:
        """The same files without their motion profiles: what a run sees whose views do not ask for them."""
        return Manifest(self._table, root=self.root, path=self.path, rows=self._rows, motion=False)

    @cached_property
    def scan(self) -> Scan:
        """What the folder held beside media files when it was indexed."""
        found = _header(self._table, self.path).get("scan", {})
        return Scan(ignored=int(found.get("ignored", 0)), unreadable=tuple(found.get("unreadable", ())))

    def select(self, which: Iterable[str] | np.ndarray) -> Manifest:
        """A manifest of some of the usable files: by ids (kept in the order given) or by a boolean mask of `len(self)`.

        Raises:
            InputError: an id that is not usable here, or is given twice; a mask of another length.
        """
        if isinstance(which, np.ndarray) and which.dtype == bool:
            if which.shape != (len(self),):
                raise InputError(f"a mask over this manifest has shape ({len(self)},), got {which.shape}")
            return self._take(np.flatnonzero(which))
        wanted = [str(name) for name in which]
        place = {name: row for row, name in enumerate(self.ids)}
        for name, count in Counter(wanted).items():
            if name not in place:
                raise InputError(self._missing(name))
            if count > 1:
                raise InputError(f"the file {name!r} is selected {count} times; give each id once")
        return self._take(np.array([place[name] for name in wanted], dtype=np.int64))

    def summary(self) -> Summary:
        """Counts for people and for `mmssl index --json`."""
        has_picture = self._column("video_start").is_valid().to_numpy()
        has_track = self._column("audio_start").is_valid().to_numpy()
        peaks = loudest(self._column("loudness").combine_chunks())
        silent_track = has_track & (peaks < SILENT_BELOW)  # nan, where it was not measured, compares false
        ends = np.fmax(floats(self._column("video_end")), floats(self._column("audio_end")))
        with_cues = lengths(self._column("cues").combine_chunks()) > 0
        notes = Counter(note for notes in self._column("notes").to_pylist() for note in notes)
        return Summary(
            usable=len(self),
            rejected=len(self.rejected),
            ignored=self.scan.ignored,
            with_sound=int((has_track & ~silent_track).sum()),
            silent=int(((has_picture & ~has_track) | silent_track).sum()),
            silent_tracks=int(silent_track.sum()),
            with_subtitles=int((with_cues & (has_picture | has_track)).sum()),
            audio_only=int((~has_picture & has_track).sum()),
            texts=int((~has_picture & ~has_track).sum()),
            hours=round(float(np.nansum(ends)) / 3600, 4),
            reasons=dict(self.reasons.most_common()),
            notes=dict(notes.most_common()),
            unreadable_folders=self.scan.unreadable,
        )

    def _column(self, name: str) -> pa.ChunkedArray:
        """One column of the rows that are shown."""
        return self._table[name].take(pa.array(self._rows, type=pa.int64()))

    def _take(self, places: np.ndarray) -> Manifest:
        return Manifest(self._table, root=self.root, path=self.path, rows=self._rows[places], motion=self._motion)

    def _missing(self, name: str) -> str:
        if name in self.rejected:
            return f"the file {name!r} cannot be used: {self.rejected[name]}"
        near = difflib.get_close_matches(name, self.ids, n=1)
        hint = f"; the nearest id is {near[0]!r}" if near else ""
        return f"there is no usable file {name!r} among the {len(self)} of {self.path or self.root}{hint}"


def manifest_from_rows(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """An Arrow table of rows that hold some of `SCHEMA`'s columns; what is missing is null, lists are empty."""
    empty: dict[str, Any] = {"cues_from": "", "fps": 0.0, "width": 0, "height": 0, **NO_VALUE}
    empty |= {name: [] for name in ("cues", "loudness", "notes")}
    return pa.Table.from_pylist([{**empty, **row} for row in rows], schema=SCHEMA)


def write_manifest(path: Path, table: pa.Table, *, root: Path, scan: Scan | None = None) -> None:
    """Write rows (schema `SCHEMA`) in order of id, atomically.

    A manifest that lies under its own root stores the root relative to itself, so that folder and manifest can move together.

    Raises:
        InputError: the place cannot be written to.
    """
    root, home = root.resolve(), path.absolute().parent.resolve()
    stored = os.path.relpath(root, home) if home.is_relative_to(root) else str(root)
    header = {"version": MANIFEST_VERSION, "root": stored, "scan": asdict(scan or Scan())}
    table = table.cast(SCHEMA).sort_by("id").replace_schema_metadata({METADATA_KEY: json.dumps(header).encode()})
    try:
        make_aside(path, lambda part: pq.write_table(table, part, compression="zstd", write_page_checksum=True))
    except OSError as error:
        raise InputError(
            f"the manifest cannot be written to {path}: {error.strerror or error}; choose another place with --out or $MMSSL_CACHE"
        ) from error


def read_manifest(path: Path, *, root: Path | None = None) -> Manifest:
    """Read a manifest; `root` overrides the folder that its files lie in (it may have moved).

    Raises:
        InputError: no such file, no manifest of mmssl's, another version of it, or a root that is not there.
    """
    path = Path(path)
    table = read_rows(path)
    header = _header(table, path)
    folder = root if root is not None else path.absolute().parent / header["root"]
    folder = Path(os.path.normpath(folder))
    if not folder.is_dir():
        raise InputError(
            f"the media of {path} were in {folder}, which is no folder now; index them again, or give their new place as root"
        )
    return Manifest(table, root=folder, path=path.absolute())


def read_rows(path: Path) -> pa.Table:
    """All rows of a manifest, usable and rejected, as an Arrow table of `SCHEMA`.

    Raises:
        InputError: no such file, no manifest of mmssl's, or another version of it.
    """
    try:
        with path.open("rb") as file:  # opened once: another process may put a newer manifest in its place meanwhile
            table = pq.ParquetFile(file, page_checksum_verification=True).read()
    except FileNotFoundError as error:
        raise InputError(f"there is no manifest {path}; `mmssl index FOLDER --out {path}` makes one") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is no Parquet file that can be read ({reason}); make it again with `mmssl index`") from error
    _header(table, path)
    for spec in (MOTION_FIELD, *FLOW_FIELDS, FLOW_PATH):
        if spec.name not in table.column_names:  # a manifest from before there was such a column
            table = table.append_column(spec, pa.array([NO_VALUE[spec.name]] * table.num_rows, type=spec.type))
    if sorted(table.column_names) == sorted(SCHEMA.names):
        table = table.select(SCHEMA.names)
    if not table.schema.equals(SCHEMA):
        raise InputError(f"{path} lacks columns of an mmssl manifest or has others; make it again with `mmssl index`")
    return table


def _header(table: pa.Table, path: Path | None) -> dict[str, Any]:
    text = (table.schema.metadata or {}).get(METADATA_KEY)
    if text is None:
        if path is None:
            return {}
        raise InputError(f"{path} is a Parquet file, but no manifest of mmssl's; `mmssl index FOLDER --out M.parquet` makes one")
    try:
        header = json.loads(text)
        version, _ = header["version"], header["root"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"the header of {path} is damaged ({error!r}); make the manifest again with `mmssl index`") from error
    if version != MANIFEST_VERSION:
        raise InputError(
            f"{path} is a manifest of version {version}, this mmssl reads version {MANIFEST_VERSION}; make it again with `mmssl index`"
        )
    return header


def _stamp(path: Path | None) -> tuple[int, int] | None:
    if path is None or not path.exists():
        return None
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _reopen(path: Path, root: Path, rows: np.ndarray | None, stamp: tuple[int, int], motion: bool) -> Manifest:
    if _stamp(path) != stamp:
        raise InputError(
            f"the manifest {path} has changed while it was in use; start again, so that every process reads the same one"
        )
    return Manifest(read_rows(path), root=root, path=path, rows=rows, motion=motion)


def _rebuild(table: pa.Table, root: Path, rows: np.ndarray | None, motion: bool) -> Manifest:
    return Manifest(table, root=root, rows=rows, motion=motion)


def _source(row: Mapping[str, Any], root: Path) -> Source:
    return Source(
        id=row["id"],
        path=root / row["path"],
        fps=row["fps"],
        width=row["width"],
        height=row["height"],
        video=None if row["video_start"] is None else Span(row["video_start"], row["video_end"]),
        audio=None if row["audio_start"] is None else Span(row["audio_start"], row["audio_end"]),
        cues=tuple(Cue(cue["start"], cue["end"], cue["text"]) for cue in row["cues"]),
        loudness=tuple(row["loudness"]),
        motion=tuple(row.get("motion", ())),
        flow=StoredFlow(root / row["flow_path"], row["flow_step"], row["flow_method"]) if row["flow_step"] else None,
    )
