"""Embeddings of a corpus over time: windows every `stride` seconds, Parquet parts, resumable.

`out/<modality>/00000.parquet ...`: columns id, path, modality, start, end (seconds), embedding (fixed-size list). A part holds the windows of
`PART` sources in order of id; it is whole or absent, so an interrupted run goes on with the first part that is missing and ends with the
same bytes as one that was never interrupted. `out/features.json` says what was asked; another question needs another folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from mmssl.data.decode import answer
from mmssl.downstream.pairing import Pairing
from mmssl.files import make_aside, write_aside
from mmssl.types import Frames, InputError, MediaError, Request, Source, Span, Wave

PART = 32  # sources in a part
CHUNK = 32  # windows decoded and encoded at a time: what a file of any length needs of memory
SETTINGS_FILE = "features.json"
Space = Literal["encoder", "joint"]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of each source."""

    modalities: tuple[str, ...]  # roles of the run: "video", "audio"
    stride: float  # seconds between the starts of windows
    space: Space  # "encoder": pooled features; "joint": unit-length, comparable between modalities
    half: bool  # float16 instead of float32


@dataclass(slots=True)
class Extraction:
    """What came out."""

    out: Path
    sources: int = 0
    rows: dict[str, int] = field(default_factory=dict)  # modality -> windows
    skipped: int = 0  # sources whose parts were there already
    failed: dict[str, str] = field(default_factory=dict)  # id -> why it gave nothing, or not all that was asked


def extract(
    sources: Sequence[Source],
    pairing: Pairing,
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
        pairing: the encoders, their cuts and, for the joint space, the objective.
        out: folder, new or of an interrupted extraction with the same question.
        question: modalities, stride, space, precision.
        digest: of the model's weights and the sources, so that parts of different origin never mix.
        on_source: called after each source.

    Raises:
        InputError: the question makes no sense for this run, or `out` holds answers to another one.
    """
    _check(pairing, question)
    settings = {**asdict(question), "modalities": list(question.modalities), "objective": pairing.name, "digest": digest}
    _claim(out, settings)
    found = Extraction(out, sources=len(sources), rows=dict.fromkeys(question.modalities, 0))
    ordered = sorted(sources, key=lambda source: source.id)
    for number, start in enumerate(range(0, len(ordered), PART)):
        part = ordered[start : start + PART]
        paths = {role: out / role / f"{number:05d}.parquet" for role in question.modalities}
        if all(path.is_file() for path in paths.values()):
            found.skipped += len(part)
            for _ in part:
                on_source()
        else:
            _write_part(part, pairing, question, settings, paths, on_source)
        for role, path in paths.items():
            head = pq.read_metadata(path)
            found.rows[role] += head.num_rows
            found.failed |= json.loads((head.metadata or {})[b"failed"])
    write_aside(out / "failed.json", json.dumps(found.failed, indent=2, sort_keys=True).encode())
    return found


def windows(span: Span, *, seconds: float, stride: float) -> list[Span]:
    """Windows of `seconds`, `stride` apart, inside the span of one modality; a shorter span gives one window that fills it.

    Starts are whole multiples of `stride` after the span's start, so that windows of the same source line up between modalities
    where the streams begin together.
    """
    if span.seconds <= 0:
        return []
    if span.seconds < seconds:
        return [span]
    count = int((span.seconds - seconds) / stride + 1e-6) + 1
    return [Span(span.start + k * stride, span.start + k * stride + seconds) for k in range(count)]


def model_digest(pairing: Pairing) -> str:
    """SHA-256 of the weights that embeddings depend on."""
    modules: list[Any] = [*pairing.encoders.values(), pairing.objective]
    return weights_digest(modules)


def weights_digest(modules: Iterable[nn.Module]) -> str:
    """SHA-256 of all parameters and buffers."""
    digest = hashlib.sha256()
    for module in modules:
        for name, value in sorted(module.state_dict().items()):
            digest.update(name.encode())
            # Flat: a scalar, as batch norms count in, cannot be viewed as bytes.
            digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _check(pairing: Pairing, question: Question) -> None:
    known = (pairing.shape.video, pairing.shape.audio)
    wrong = [role for role in question.modalities if role not in known]
    if wrong or not question.modalities:
        raise InputError(f"modality {', '.join(wrong) or 'list is empty'}: this run has {' and '.join(known)}")
    if not question.stride > 0:
        raise InputError(f"stride is {question.stride:g} s; give seconds above 0")
    if question.space == "joint" and not pairing.localizes:
        raise InputError(f"objective {pairing.name} has no joint space; ask for --space encoder")


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
    pairing: Pairing,
    question: Question,
    settings: Mapping[str, Any],
    paths: Mapping[str, Path],
    on_source: Callable[[], None],
) -> None:
    failed: dict[str, dict[str, str]] = {role: {} for role in paths}
    schemas = {role: _schema(pairing, question, settings, role) for role in paths}

    def fill(parts: dict[str, Path]) -> None:
        with ExitStack() as stack:
            writers = {
                role: stack.enter_context(pq.ParquetWriter(file, schemas[role], compression="zstd"))
                for role, file in parts.items()
            }
            for source in part:
                for role, writer in writers.items():
                    reason = _write_source(source, pairing, question, role, schemas[role], writer)
                    if reason:
                        failed[role][source.id] = reason
                on_source()
            for role, writer in writers.items():
                writer.add_key_value_metadata({"failed": json.dumps(failed[role])})

    _all_aside(list(paths.items()), fill)


def _all_aside(
    targets: list[tuple[str, Path]], fill: Callable[[dict[str, Path]], None], made: dict[str, Path] | None = None
) -> None:
    """`make_aside` for several files that are filled together."""
    made = made or {}
    if not targets:
        fill(made)
        return
    (role, path), rest = targets[0], targets[1:]
    make_aside(path, lambda part: _all_aside(rest, fill, {**made, role: part}))


def _write_source(
    source: Source, pairing: Pairing, question: Question, role: str, schema: pa.Schema, writer: pq.ParquetWriter
) -> str | None:
    """Write one source's rows of one modality; the reason where there are none."""
    span = source.video if role == pairing.shape.video else source.audio
    if span is None:
        return f"no {role}"
    spans = windows(span, seconds=pairing.shape.seconds, stride=question.stride)
    tables: list[pa.Table] = []
    try:
        for chunk, tensor in _decoded(source, pairing, role, spans):
            vectors = _embed(pairing, question, role, tensor)
            tables.append(_table(source, role, chunk, vectors, schema))
    except MediaError as error:
        return str(error)
    for table in tables:  # after the last chunk has been decoded: a source is there in whole or not at all
        writer.write_table(table)
    return None


def _decoded(source: Source, pairing: Pairing, role: str, spans: Sequence[Span]) -> Iterator[tuple[Sequence[Span], Tensor]]:
    """Chunks of windows and their tensors; the next chunk is decoded while this one is encoded."""

    def read(chunk: Sequence[Span]) -> Tensor:
        requests = [_request(pairing, role, span) for span in chunk]
        answers = answer(source, requests)
        rows = [answers[request] for request in requests]
        if role == pairing.shape.audio:
            length = round(pairing.shape.rate * pairing.shape.seconds)
            rows = [torch.nn.functional.pad(row, (0, length - len(row))) for row in rows]
        return torch.stack(rows)

    chunks = [spans[i : i + CHUNK] for i in range(0, len(spans), CHUNK)]
    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead = [pool.submit(read, chunk) for chunk in chunks[:1]]
        for number, chunk in enumerate(chunks):
            tensor = ahead.pop().result()
            if number + 1 < len(chunks):
                ahead.append(pool.submit(read, chunks[number + 1]))
            yield chunk, tensor


def _request(pairing: Pairing, role: str, span: Span) -> Request:
    shape = pairing.shape
    if role == shape.audio:
        return Wave(span.start, span.seconds, shape.rate)
    middle = (span.start + span.end) / 2
    if pairing.modality == "frame":  # one picture for each T-th part of the window, in its middle
        times = [span.start + (k + 0.5) * span.seconds / shape.frames for k in range(shape.frames)]
    else:
        times = [middle + (k - (shape.frames - 1) / 2) * shape.spacing for k in range(shape.frames)]
    return Frames(tuple(max(0.0, min(time, span.end)) for time in times), shape.size)


def _embed(pairing: Pairing, question: Question, role: str, tensor: Tensor) -> np.ndarray:
    features = pairing.encode(role, tensor, batch=CHUNK)
    return features.pooled.numpy() if question.space == "encoder" else pairing.embed(role, features)


def _schema(pairing: Pairing, question: Question, settings: Mapping[str, Any], role: str) -> pa.Schema:
    encoder, shape = pairing.encoders[role], pairing.shape
    dim = _joint_dim(pairing, role) if question.space == "joint" else encoder.dim
    about = {
        **settings,
        "encoder": encoder.name,
        "arguments": encoder.arguments,
        "dim": dim,
        "seconds": shape.seconds,
        **({"rate": shape.rate} if role == shape.audio else {"size": list(shape.size), "frames": shape.frames}),
    }
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("path", pa.string(), nullable=False),
            pa.field("modality", pa.string(), nullable=False),
            pa.field("start", pa.float64(), nullable=False),
            pa.field("end", pa.float64(), nullable=False),
            pa.field("embedding", pa.list_(pa.float16() if question.half else pa.float32(), dim), nullable=False),
        ],
        metadata={"mmssl": json.dumps(about)},
    )


def _joint_dim(pairing: Pairing, role: str) -> int:
    shape = pairing.shape
    blank = (
        torch.zeros(1, round(shape.rate * shape.seconds))
        if role == shape.audio
        else torch.zeros(1, shape.frames, 3, *shape.size, dtype=torch.uint8)
    )
    return int(_embed(pairing, Question((role,), 1.0, "joint", False), role, blank).shape[1])


def _table(source: Source, role: str, spans: Sequence[Span], vectors: np.ndarray, schema: pa.Schema) -> pa.Table:
    kind = schema.field("embedding").type
    flat = pa.array(vectors.reshape(-1).astype(np.float16 if kind.value_type == pa.float16() else np.float32))
    columns = [
        pa.array([source.id] * len(spans)),
        pa.array([str(source.path)] * len(spans)),
        pa.array([role] * len(spans)),
        pa.array([span.start for span in spans], pa.float64()),
        pa.array([span.end for span in spans], pa.float64()),
        pa.FixedSizeListArray.from_arrays(flat, kind.list_size),
    ]
    return pa.Table.from_arrays(columns, schema=schema)
