"""Embeddings of a corpus over time: windows every `stride` seconds, or each sentence, as Parquet parts, resumable.

`out/<modality>/00000.parquet ...`: columns id, path, modality, start, end (seconds), embedding (fixed-size list), of text also text. A part holds the windows of
`PART` sources in order of id; it is whole or absent, so an interrupted run goes on with the first part that is missing and ends with the
same bytes as one that was never interrupted. `out/features.json` says what was asked; another question needs another folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmssl.downstream.search.embedding import Job, Stretch, embed_jobs
from mmssl.downstream.spaces import KINDS, JointSpace, Kind, blank
from mmssl.downstream.windows import windows
from mmssl.files import make_aside, write_aside
from mmssl.types import Flow, Frames, InputError, Source, Span, Wave

PART = 32  # sources in a part
CHUNK = 32  # windows decoded and encoded at a time: what a file of any length needs of memory
SETTINGS_FILE = "features.json"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of each source."""

    modalities: tuple[str, ...]  # of "video", "audio", "text", "flow"
    stride: float  # seconds between the starts of windows; captions and sentences are windows of their own
    half: bool  # float16 instead of float32


@dataclass(slots=True)
class Extraction:
    """What came out."""

    out: Path
    objective: str
    space: str  # "joint" or "encoder"
    by_cells: bool = False  # the objective scores pictures by their best cell, which no vector of a picture holds
    sources: int = 0
    rows: dict[str, int] = field(default_factory=dict)  # modality -> windows
    skipped: int = 0  # sources whose parts were there already
    failed: dict[str, str] = field(default_factory=dict)  # id -> why it gave nothing, or not all that was asked


def extract(
    sources: Sequence[Source],
    space: JointSpace,
    out: Path,
    question: Question,
    *,
    digest: str,
    on_source: Callable[[], None] = lambda: None,
) -> Extraction:
    """Write the embeddings of `sources` into folder `out`.

    A source that lacks a modality gives rows of the other one; one that cannot be decoded gives none. Both are in `failed`.

    Args:
        sources: any; taken in order of id.
        space: the encoders and their cuts; its vectors are pooled features, or unit-length and comparable between modalities.
        out: folder, new or of an interrupted extraction with the same question.
        question: modalities, stride, precision.
        digest: of the model and the sources, so that parts of different origin never mix.
        on_source: called after each source.

    Raises:
        InputError: the question makes no sense for this run, or `out` holds answers to another one.
    """
    kinds = _checked(space, question)
    settings = {**asdict(question), "modalities": kinds, "space": space.gives, "objective": space.name, "digest": digest}
    _claim(out, settings)
    found = Extraction(
        out,
        space.name,
        space.gives,
        space.gives == "joint" and space.by_cells,
        sources=len(sources),
        rows=dict.fromkeys(kinds, 0),
    )
    ordered = sorted(sources, key=lambda source: source.id)
    for number, start in enumerate(range(0, len(ordered), PART)):
        part = ordered[start : start + PART]
        paths: dict[Kind, Path] = {kind: out / kind / f"{number:05d}.parquet" for kind in kinds}
        if all(path.is_file() for path in paths.values()):
            found.skipped += len(part)
            for _ in part:
                on_source()
        else:
            _write_part(part, space, question, settings, paths, on_source)
        for kind, path in paths.items():
            head = pq.read_metadata(path)
            found.rows[kind] += head.num_rows
            found.failed |= json.loads((head.metadata or {})[b"failed"])
    write_aside(out / "failed.json", json.dumps(found.failed, indent=2, sort_keys=True).encode())
    return found


def _checked(space: JointSpace, question: Question) -> list[Kind]:
    kinds: list[Kind] = [kind for name in question.modalities for kind in KINDS if kind == name]
    wrong = [name for name in question.modalities if name not in KINDS]
    if wrong or not kinds:
        raise InputError(f"modality {', '.join(wrong) or 'list is empty'}: a run has some of {', '.join(KINDS)}")
    for kind in kinds:
        space.check(kind)
    if not question.stride > 0:
        raise InputError(f"stride is {question.stride:g} s; give seconds above 0")
    return kinds


def _claim(out: Path, settings: Mapping[str, Any]) -> None:
    path = out / SETTINGS_FILE
    if not path.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise InputError(f"{out} holds other files and no {SETTINGS_FILE}; choose a new folder")
        write_aside(path, json.dumps(settings, indent=2).encode())
        return
    try:
        before = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); choose another folder") from error
    if before != settings:
        keys = [key for key in settings if not isinstance(before, dict) or before.get(key) != settings[key]]
        words = ["the weights or the files" if key == "digest" else key for key in keys]
        raise InputError(f"{out} holds features that differ in {', '.join(words)}; choose another folder, or delete it")


def _write_part(
    part: Sequence[Source],
    space: JointSpace,
    question: Question,
    settings: Mapping[str, Any],
    paths: Mapping[Kind, Path],
    on_source: Callable[[], None],
) -> None:
    failed: dict[Kind, dict[str, str]] = {kind: {} for kind in paths}
    schemas = {kind: _schema(space, question, settings, kind) for kind in paths}

    def fill(parts: dict[Kind, Path]) -> None:
        with ExitStack() as stack:
            writers: dict[Kind, pq.ParquetWriter] = {
                kind: stack.enter_context(pq.ParquetWriter(file, schemas[kind], compression="zstd"))
                for kind, file in parts.items()
            }
            stretches = stack.enter_context(closing(_embedded(part, space, question, list(paths))))
            waiting: dict[Kind, list[pa.Table]] = {kind: [] for kind in paths}
            for stretch in stretches:
                source = stretch.job.source
                for kind, writer in writers.items():
                    if kind in stretch.missing:
                        failed[kind].setdefault(source.id, stretch.missing[kind])
                    elif kind in stretch.found:
                        waiting[kind].append(_table(stretch, kind, schemas[kind]))
                    if stretch.job.last:  # a source is there in whole or not at all
                        if not waiting[kind]:
                            failed[kind].setdefault(source.id, f"no {kind}")
                        for table in waiting[kind] if source.id not in failed[kind] else ():
                            writer.write_table(table)
                        waiting[kind] = []
                if stretch.job.last:
                    on_source()
            for kind, writer in writers.items():
                writer.add_key_value_metadata({"failed": json.dumps(failed[kind])})

    _all_aside(list(paths.items()), fill)


def _all_aside(
    targets: list[tuple[Kind, Path]], fill: Callable[[dict[Kind, Path]], None], made: dict[Kind, Path] | None = None
) -> None:
    """`make_aside` for several files that are filled together."""
    made = made or {}
    if not targets:
        fill(made)
        return
    (kind, path), rest = targets[0], targets[1:]
    make_aside(path, lambda part: _all_aside(rest, fill, {**made, kind: part}))


def _embedded(
    part: Sequence[Source], space: JointSpace, question: Question, kinds: Sequence[Kind]
) -> Generator[Stretch, None, None]:
    """Stretches of all windows, in order; each stretch of a file is decoded once for all modalities."""

    def jobs() -> Iterable[Job]:
        for source in part:
            spans: dict[Kind, list[Span]] = {kind: _spans(space, kind, source, question.stride) for kind in kinds}
            texts = [cue.text for cue in space.captions(source)] if "text" in kinds else []
            longest = max(map(len, spans.values()))
            for start in range(0, max(1, longest), CHUNK):
                some: dict[Kind, list[Span]] = {kind: found[start : start + CHUNK] for kind, found in spans.items()}
                yield Job(source, some, texts[start : start + CHUNK], start + CHUNK >= longest)

    yield from embed_jobs(space, jobs(), cells=0)


def _spans(space: JointSpace, kind: Kind, source: Source, stride: float) -> list[Span]:
    if kind == "text":
        return space.spans(kind, source, stride)
    span = source.audio if kind == "audio" else source.video
    return [] if span is None else windows(span, seconds=space.cuts[kind].seconds, stride=stride)


def _schema(space: JointSpace, question: Question, settings: Mapping[str, Any], kind: Kind) -> pa.Schema:
    cut = space.cuts[kind]
    encoder, shape = space.encoders[cut.role], cut.shape
    dim = space.vectors(kind, blank(shape)).shape[1]
    about = {**settings, "encoder": encoder.name, "arguments": encoder.arguments, "dim": dim, "seconds": cut.seconds}
    if isinstance(shape, Wave):
        about["rate"] = shape.rate
    elif isinstance(shape, Frames | Flow):
        about |= {"size": [shape.size] * 2 if isinstance(shape.size, int) else list(shape.size), "frames": len(shape.times)}
    columns = [
        pa.field("id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("modality", pa.string(), nullable=False),
        pa.field("start", pa.float64(), nullable=False),
        pa.field("end", pa.float64(), nullable=False),
        pa.field("embedding", pa.list_(pa.float16() if question.half else pa.float32(), dim), nullable=False),
    ]
    if kind == "text":
        columns.append(pa.field("text", pa.string(), nullable=False))
    return pa.schema(columns, metadata={"mmssl": json.dumps(about)})


def _table(stretch: Stretch, kind: Kind, schema: pa.Schema) -> pa.Table:
    source, spans = stretch.job.source, stretch.job.spans[kind]
    number = schema.field("embedding").type
    flat = pa.array(
        stretch.found[kind].vectors.reshape(-1).astype(np.float16 if number.value_type == pa.float16() else np.float32)
    )
    columns = [
        pa.array([source.id] * len(spans)),
        pa.array([str(source.path)] * len(spans)),
        pa.array([kind] * len(spans)),
        pa.array([span.start for span in spans], pa.float64()),
        pa.array([span.end for span in spans], pa.float64()),
        pa.FixedSizeListArray.from_arrays(flat, number.list_size),
    ]
    if kind == "text":
        columns.append(pa.array(list(stretch.job.texts)))
    return pa.Table.from_arrays(columns, schema=schema)
