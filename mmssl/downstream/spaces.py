"""The spaces that a run's objectives embed modalities into: which modalities each joins, how they are cut, what comes out.

Search and retrieval stand on this, so that what was stored and what is asked were cut and embedded in the same way. How an objective
cuts is read off a plan that its own views draw, never guessed.

An objective that scores a picture by its best cell learns nothing about the mean of the cells, where one sounding thing is lost among the
background. Such a picture is represented by a few of its cells as well, as unlike one another as can be (greedy k-centre: Gonzalez,
"Clustering to minimize the maximum intercluster distance", Theoretical Computer Science 38, 1985): a small thing is among the first.

N windows, T times, K cells kept of each window, D dimensions.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmssl.cuts.captions import WindowViews, joined_cues
from mmssl.cuts.pairs import window_levels
from mmssl.cuts.pictures import even_times
from mmssl.downstream.digest import weights_digest
from mmssl.downstream.windows import windows
from mmssl.encoders.base import Encoder, Reads
from mmssl.objectives.base import Embeds, EmbedsCells, Objective
from mmssl.rng import Purpose, rng_for
from mmssl.types import Cue, Features, Flow, Frames, InputError, Plan, Request, Source, Span, Text, Views, Wave

Kind = Literal["video", "audio", "text", "flow"]
KINDS: tuple[Kind, ...] = get_args(Kind)
WORDS: dict[Kind, str] = {"video": "pictures", "audio": "sound", "text": "text", "flow": "motion"}
QUERIES: dict[Kind, str] = {"video": "--image or --video", "audio": "--audio", "text": "--text", "flow": "--motion"}
CELLS = 8  # cells kept of a window's picture
DRAWS = 4  # plans drawn to tell pictures at even distances from pictures drawn at random
LENGTH_SLACK = 0.01  # how far from 1 the length of an embedding may be
ELSEWHERE = ("tokenizer", "weights", "config")  # arguments of encoders that say where a file lies, or came with it


@dataclass(frozen=True, slots=True)
class Cut:
    """How windows of one modality are cut; `shape` is a request whose times count from the middle of the window."""

    kind: Kind
    role: str
    shape: Request
    seconds: float  # of a window; 0.0 for text, whose windows are the captions

    def describe(self) -> str:
        """All of the cut that decides what the encoder is given, but for where the tokenizer lies."""
        shape = replace(self.shape, tokenizer="") if isinstance(self.shape, Text) else self.shape
        return f"{self.kind} {self.role} {self.seconds:.6f} {shape}"


@dataclass(frozen=True, slots=True)
class Embedded:
    """Embeddings of N windows of one modality, unit length."""

    vectors: NDArray[np.float32]  # (N, D)
    cells: NDArray[np.float32] | None = None  # (N, K, D), where the objective scores pictures by their best cell
    places: NDArray[np.float32] | None = None  # (N, K, 3): moment in the window, row, column of each cell's centre, 0 to 1


@dataclass(frozen=True, slots=True)
class JointSpace:
    """One objective, the encoders of its roles, and how windows of each are cut."""

    name: str
    objective: Objective
    encoders: Mapping[str, Encoder]  # those of its roles
    cuts: Mapping[Kind, Cut]
    device: torch.device
    gives: ClassVar[Literal["joint", "encoder"]] = "joint"  # what its vectors are

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The modalities that it joins."""
        return tuple(self.cuts)

    @property
    def views(self) -> Views:
        """The objective's own cuts."""
        return self.objective.views

    def check(self, kind: Kind) -> Cut:
        """The cut of a modality. Raises `InputError` where the space does not join it, and says what it joins."""
        if kind not in self.cuts:
            raise InputError(
                f"objective {self.name} joins {self.words()}, so nothing of it can be compared with {WORDS[kind]}; possible queries are "
                f"{self.queries()}"
            )
        return self.cuts[kind]

    def words(self) -> str:
        """The modalities in words."""
        return " and ".join(WORDS[kind] for kind in self.cuts)

    def queries(self) -> str:
        """The options of `mmssl search query` that this space can answer."""
        return ", ".join(QUERIES[kind] for kind in self.cuts)

    def other(self, kind: Kind) -> Kind:
        """The modality that `kind` is joined with."""
        others: list[Kind] = [other for other in self.cuts if other != kind]
        return others[0] if others else kind

    def spans(self, kind: Kind, source: Source, stride: float) -> list[Span]:
        """Windows of a source every `stride` seconds, and one more at the end where half a stride or more would be left out.

        For text the captions' own spans; see `captions`. Sound quieter than any that the objective was trained on is left out.
        """
        if kind == "text":
            return [Span(cue.start, cue.end) for cue in self.captions(source)]
        span = source.audio if kind == "audio" else source.video
        if span is None:
            return []
        seconds = self.cuts[kind].seconds
        found = windows(span, seconds=seconds, stride=stride)
        if found and span.end - found[-1].end >= stride / 2 - 1e-6:
            found.append(Span(span.end - seconds, span.end))
        return self._audible(source, found) if kind == "audio" else found

    def captions(self, source: Source) -> list[Cue]:
        """The captions of a source, in order of time, joined as the objective's views join them."""
        pause = float(getattr(self.views, "pause", 0.0))
        return list(joined_cues(tuple(cue for cue in source.cues if cue.text.strip()), pause))

    def request(self, kind: Kind, source: Source, span: Span) -> Request:
        """What to ask of a source for one window of pictures, sound or motion. Near the ends of a stream times are held within it."""
        shape = self.cuts[kind].shape
        if isinstance(shape, Wave):
            return replace(shape, start=span.start, seconds=min(span.seconds, shape.seconds))
        assert isinstance(shape, Frames | Flow)
        stream = source.video or span
        last = max(stream.start, stream.end - (shape.step if isinstance(shape, Flow) else 0.0))
        middle = (span.start + span.end) / 2
        times = tuple(min(max(middle + time, stream.start), last) for time in shape.times)
        return replace(shape, times=times, box=self.views.whole(source))

    def texts(self, texts: tuple[str, ...]) -> Text:
        """The request for token ids of texts."""
        shape = self.check("text").shape
        assert isinstance(shape, Text)
        return replace(shape, texts=texts)

    def fit(self, kind: Kind, answer: Tensor) -> Tensor:
        """A window's answer as the encoder takes it: sound that ends early is padded with silence."""
        shape = self.cuts[kind].shape
        if isinstance(shape, Wave):
            length = round(shape.rate * shape.seconds)
            return torch.nn.functional.pad(answer[:length], (0, length - min(length, len(answer))))
        return answer

    @torch.inference_mode()
    def embed(self, kind: Kind, windows_N: Tensor, *, cells: int = CELLS) -> Embedded:
        """Embed N windows of one modality.

        Args:
            kind: one of `kinds`.
            windows_N: answers to requests of this space, stacked: uint8 (N, T, 3, H, W), float32 (N, samples), int64 (N, L) or flow.
            cells: how many cells to keep of each picture, where the objective scores by cells; 0: none.

        Raises:
            InputError: embeddings that are not finite or not of unit length.
        """
        cut = self.check(kind)
        features = self.encoders[cut.role](windows_N.to(self.device))
        vectors = self._vectors(cut, features)
        if not cells:
            return Embedded(vectors)
        grid = self.objective.embed_cells(features) if kind == "video" and isinstance(self.objective, EmbedsCells) else None
        if grid is None:
            return Embedded(vectors)
        kept, numbers = spread_cells(grid.flatten(1, 3).float(), cells)
        return Embedded(vectors, kept.cpu().numpy(), self._places(cut, numbers.cpu().numpy(), tuple(grid.shape[1:4])))

    def vectors(self, kind: Kind, windows_N: Tensor) -> NDArray[np.float32]:
        """The vectors of `embed` alone, (N, D)."""
        return self.embed(kind, windows_N, cells=0).vectors

    @property
    def dim(self) -> int:
        """D, found by embedding nothing much."""
        cut = next(iter(self.cuts.values()))
        features = self.encoders[cut.role](blank(cut.shape).to(self.device))
        with torch.inference_mode():
            assert isinstance(self.objective, Embeds)
            return int(self.objective.embed(cut.role, features).shape[1])

    @property
    @torch.inference_mode()
    def by_cells(self) -> bool:
        """Whether the objective scores a picture by its best cell: then the picture's own vector is not what was trained."""
        if "video" not in self.cuts or not isinstance(self.objective, EmbedsCells):
            return False
        cut = self.cuts["video"]
        return self.objective.embed_cells(self.encoders[cut.role](blank(cut.shape).to(self.device))) is not None

    @property
    def digest(self) -> str:
        """SHA-256 of all that embeddings depend on: weights, architectures, vocabulary, cuts."""
        told: list[object] = [type(self.objective).__name__, [cut.describe() for cut in self.cuts.values()]]
        for role, encoder in self.encoders.items():
            arguments = {key: value for key, value in encoder.arguments.items() if key not in ELSEWHERE}
            vocabulary = encoder.vocabulary.digest.hex() if isinstance(encoder, Reads) else ""
            told.append([role, encoder.name, arguments, vocabulary])
        weights = weights_digest([*self.encoders.values(), self.objective])
        return hashlib.sha256(f"{json.dumps(told, sort_keys=True, default=str)} {weights}".encode()).hexdigest()

    def _audible(self, source: Source, spans: list[Span]) -> list[Span]:
        floor = getattr(self.views, "min_loudness", None)
        if floor is None or not source.loudness or not spans:
            return spans
        levels = window_levels(source.loudness, np.array([span.start for span in spans]), max(spans[0].seconds, 1e-3))
        return [span for span, level in zip(spans, levels, strict=True) if level >= floor]

    def _vectors(self, cut: Cut, features: Features) -> NDArray[np.float32]:
        assert isinstance(self.objective, Embeds)
        vectors = self.objective.embed(cut.role, features).float().cpu().numpy()
        lengths = np.linalg.norm(vectors, axis=1)
        if not np.isfinite(lengths).all():
            raise InputError(f"objective {self.name} embeds as not a number; the run has diverged, take an earlier --step")
        if (np.abs(lengths - 1.0) > LENGTH_SLACK).any():
            raise InputError(
                f"objective {self.name} embeds {WORDS[cut.kind]} with length {lengths[np.abs(lengths - 1.0).argmax()]:.3g} instead of 1; "
                "it compares what changes over time, and here nothing does"
            )
        return vectors

    def _places(self, cut: Cut, numbers_NK: NDArray[np.int64], grid: tuple[int, ...]) -> NDArray[np.float32]:
        """Where cells lie: moment in the window, row and column in the picture, as shares."""
        encoder, shape = self.encoders[cut.role], cut.shape
        assert isinstance(shape, Frames)
        height, width = (shape.size, shape.size) if isinstance(shape.size, int) else shape.size
        times, rows, columns = np.unravel_index(numbers_NK, grid)
        y, x = ((encoder.grid_offset + encoder.grid_stride * place + 0.5) for place in (rows, columns))
        # A clip encoder's grid has fewer times than the clip has pictures.
        asked = np.asarray(shape.times)[
            np.minimum(((times + 0.5) * len(shape.times) / grid[0]).astype(int), len(shape.times) - 1)
        ]
        moment = 0.5 + asked / cut.seconds if cut.seconds else np.full_like(asked, 0.5)
        return np.stack([moment, y / height, x / width], axis=-1).clip(0.0, 1.0).astype(np.float32)


def choose_space(
    objectives: Mapping[str, Objective], encoders: Mapping[str, Encoder], name: str | None = None, *, device: str = "cpu"
) -> JointSpace:
    """The space of objective `name`, or of the first objective of a run that has one; set up for inference on `device`.

    Raises:
        InputError: no such objective, or none that embeds two modalities into one space.
    """
    if name is not None and name not in objectives:
        raise InputError(f"the run has no objective {name!r}; it has {', '.join(objectives)}")
    reasons: list[str] = []
    for key in [name] if name is not None else list(objectives):
        try:
            return joint_space(key, objectives[key], encoders, device=device)
        except InputError as error:
            reasons.append(str(error))
    raise InputError(
        f"{'; '.join(reasons)}. Search needs an objective that embeds two modalities into one space: av_nce, avenet or avts (pictures and "
        "sound), mil_nce or subtitle_alignment (pictures and text), rgb_flow (pictures and motion)"
    )


def joint_space(name: str, objective: Objective, encoders: Mapping[str, Encoder], *, device: str = "cpu") -> JointSpace:
    """The space of one objective.

    Raises:
        InputError: it has none, and why.
    """
    if not isinstance(objective, Embeds):
        raise InputError(f"objective {name} has no joint space")
    place = torch.device(device)
    objective.to(place).eval()
    mine = {role: encoders[role].to(place).eval() for role in objective.roles}
    plans = [_plan(objective.views, number) for number in range(DRAWS)]
    cuts: dict[Kind, Cut] = {}
    for role in objective.roles:
        cut = _cut(role, plans, objective.views)
        cuts[cut.kind] = cut
    space = JointSpace(name, objective, mine, cuts, place)
    _ = space.dim  # an objective whose form has no space says so when it is asked to embed
    return space


def check_kind(name: str) -> Kind:
    """`name` as a modality. Raises `InputError` where it is none."""
    found: list[Kind] = [kind for kind in KINDS if kind == name]
    if not found:
        raise InputError(f"{name!r} is no modality; it is one of {', '.join(KINDS)}")
    return found[0]


def spread_cells(cells_NCD: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`count` cells of each of N pictures, as unlike one another as can be: (N, K, D) and their numbers (N, K).

    The first is the cell least like the mean, each further one the cell least like all before it. K is C where there are fewer.
    """
    n, c, _ = cells_NCD.shape
    rows = torch.arange(n, device=cells_NCD.device)
    nearest = torch.einsum("ncd,nd->nc", cells_NCD, cells_NCD.mean(dim=1))
    chosen: list[Tensor] = []
    for number in range(min(count, c)):
        pick = nearest.argmin(dim=1)
        chosen.append(pick)
        likeness = torch.einsum("ncd,nd->nc", cells_NCD, cells_NCD[rows, pick])
        nearest = likeness if number == 0 else torch.maximum(nearest, likeness)
        nearest[rows[:, None], torch.stack(chosen, dim=1)] = math.inf  # equal cells elsewhere may follow, the same one never
    numbers = torch.stack(chosen, dim=1)
    return cells_NCD[rows[:, None], numbers], numbers


def _plan(views: Views, number: int) -> Plan:
    """One draw of a plan for an imaginary ten-minute film that has everything."""
    span = Span(0.0, 600.0)
    # Captions so close that several lie in one window, and so far apart that they are not joined.
    apart = min(2.0, (getattr(views, "seconds", None) or 6.0) / 3)
    spoken = max(apart / 8, apart * 0.75 - float(getattr(views, "pause", 0.0)))
    cues = tuple(Cue(apart * k, apart * k + spoken, f"caption {k}.") for k in range(300))
    film = Source(
        "film", Path("film.mp4"), fps=25.0, width=1280, height=720, video=span, audio=span, cues=cues, loudness=(-20.0,) * 6000
    )
    return views.plan(film, rng_for(0, Purpose.EVALUATE, "shape", number))


def _cut(role: str, plans: Sequence[Plan], views: Views) -> Cut:
    shape = plans[0].requests[role]
    if isinstance(shape, Wave):
        return Cut("audio", role, replace(shape, start=0.0), shape.seconds)
    if isinstance(shape, Text):
        return Cut("text", role, replace(shape, texts=()), 0.0)
    kind: Kind = "video" if isinstance(shape, Frames) else "flow"
    if isinstance(views, WindowViews):  # the unit is one of its steps
        assert views.frames
        times = even_times(-views.hop / 2, views.hop, views.frames, views.frames / views.hop)
        return Cut(kind, role, replace(shape, times=times, box=None), views.hop)
    seconds = _seconds(plans[0], views)
    count = len(shape.times)
    steps = np.diff([plan.requests[role].times for plan in plans], axis=1)  # type: ignore[union-attr]  # cuts of films: `_cut` has sent sound and text away
    # Pictures drawn one in each part of the window are taken from the middles of the parts.
    fps = round(1.0 / float(steps.mean()), 6) if count > 1 and float(np.ptp(steps)) < 1e-6 else count / seconds
    return Cut(kind, role, replace(shape, times=even_times(-seconds / 2, seconds, count, fps), box=None), seconds)


def _seconds(plan: Plan, views: Views) -> float:
    """How long a window lasts: that of sound where there is sound, else the longest run of pictures, each shown until the next."""
    waves = [request.seconds for request in plan.requests.values() if isinstance(request, Wave)]
    if waves:
        return waves[0]
    runs = [request.times for request in plan.requests.values() if isinstance(request, Frames | Flow) and len(request.times) > 1]
    if runs:
        return round(max((times[-1] - times[0]) * len(times) / (len(times) - 1) for times in runs), 6)
    fps = getattr(views, "fps", None)
    return 1.0 / fps if fps else 1.0


def blank(shape: Request) -> Tensor:
    """Input of one window in which nothing happens."""
    if isinstance(shape, Wave):
        return torch.zeros(1, round(shape.rate * shape.seconds))
    if isinstance(shape, Text):
        return torch.ones(1, shape.length, dtype=torch.int64)
    size = (shape.size, shape.size) if isinstance(shape.size, int) else shape.size
    if isinstance(shape, Flow):
        return torch.zeros(1, len(shape.times), 2, *size)
    return torch.zeros(1, len(shape.times), 3, *size, dtype=torch.uint8)
