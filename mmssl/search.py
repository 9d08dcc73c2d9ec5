"""Search with a trained run: a store of its embeddings of a folder, and answers from it. What `mmssl search` and the page call."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmssl import __version__
from mmssl.data.index import open_corpus
from mmssl.downstream.probe.retrieval import compared_kinds, evaluate_retrieval
from mmssl.downstream.probe.retrieval_protocols import find_protocol
from mmssl.downstream.search.ann import check_ann
from mmssl.downstream.search.answers import Answer, find
from mmssl.downstream.search.filters import EVERYTHING, Filter
from mmssl.downstream.search.index import Origin, Synced, check_same, sync
from mmssl.downstream.search.query import Query, image_query, media_query, parse_place, text_query
from mmssl.downstream.search.store import Store, open_store
from mmssl.downstream.spaces import JointSpace, Kind, check_kind, choose_space
from mmssl.run import load_run
from mmssl.types import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence


def search_index(
    run: Path,
    folder: Path,
    db: Path,
    *,
    modalities: Sequence[str] = (),
    stride: float = 1.0,
    cells: int = 8,
    ann: str = "auto",
    objective: str | None = None,
    step: int | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> Synced:
    """Make the store `db` hold a run's embeddings of a folder: new files are added, changed ones replaced, gone ones deleted.

    Args:
        run: folder of a trained run.
        folder: of media, or a manifest.
        db: the store, new or made by the same model of the same folder.
        modalities: "video", "audio", "text", "flow"; none: those that the objective joins.
        stride: seconds from one window to the next.
        cells: kept of each picture where the objective scores pictures by their best cell.
        ann: approximate index: "auto" (where the table is large), "none", "ivf_flat", "ivf_pq", "ivf_hnsw_sq".
        objective: of the run; None: the first that joins two modalities.
        step: of the checkpoint; None: the newest.
        device: for the model.
        progress: show a bar.

    Raises:
        InputError: as `load_run`, `choose_space`, `open_corpus` and `sync`.
    """
    kinds: list[Kind] = [check_kind(name) for name in modalities]
    how = check_ann(ann)
    loaded = load_run(run, step=step, device=device)
    space = choose_space(loaded.objectives, loaded.encoders, objective, device=device)
    for kind in kinds:
        space.check(kind)
    manifest = open_corpus(folder, progress=progress)
    columns = (TextColumn("embedding"), BarColumn(), MofNCompleteColumn(), TextColumn("files"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not progress, transient=True) as bar:
        task = bar.add_task("files", total=None)
        return sync(
            space,
            manifest,
            db,
            Origin(run, loaded.step, manifest.root, __version__),
            kinds=kinds,
            stride=stride,
            cells=cells,
            ann=how,
            on_plan=lambda total: bar.update(task, total=total),
            on_source=lambda: bar.advance(task),
        )


class Searcher:
    """A store, and the model that it was made by, kept open for several queries.

    Args:
        db: the store.
        run: where the run is now, if it has moved.
        device: for the model.

    Raises:
        InputError: no store there, the run is gone, or its weights are not those that made the store.
    """

    def __init__(self, db: Path, *, run: Path | None = None, device: str = "cpu") -> None:
        self.store: Store = open_store(db)
        about = self.store.about
        place = Path(about["run"]) if run is None else run
        if run is None and not place.is_dir():
            raise InputError(f"{db} was made by the run {place}, which is not there; give its new place with --run")
        loaded = load_run(place, step=int(about["step"]), device=device)
        self.space: JointSpace = choose_space(loaded.objectives, loaded.encoders, about["objective"], device=device)
        now = {"dim": self.space.dim, "digest": self.space.digest}
        now |= {"objective": self.space.name, "step": loaded.step, "run": str(place)}
        check_same(self.store, now, otherwise="give the run that made it with --run, or index again into another folder")

    def query(
        self,
        *,
        text: str | None = None,
        audio: str | None = None,
        image: Path | None = None,
        video: str | None = None,
        motion: str | None = None,
    ) -> Query:
        """Embed a query, exactly one. Files of sound and film may have a range: `clip.mp4:12-15`.

        Raises:
            InputError: none or several given, one that the model cannot embed, or a file that cannot be used.
        """
        if sum(given is not None for given in (text, audio, image, video, motion)) != 1:
            raise InputError(f"give exactly one query; this index can be asked by {self.space.queries()}")
        if text is not None:
            return text_query(self.space, text)
        if image is not None:
            return image_query(self.space, image)
        asked: dict[Kind, str | None] = {"audio": audio, "video": video, "flow": motion}
        given: list[tuple[Kind, str]] = [(kind, place) for kind, place in asked.items() if place is not None]
        kind, place = given[0]
        path, span = parse_place(place)
        return media_query(self.space, kind, path, span, stride=float(self.store.about["stride"]))

    def find(
        self,
        query: Query,
        *,
        into: str | None = None,
        k: int = 10,
        per_file: int = 1,
        narrowed: Filter = EVERYTHING,
        exact: bool = False,
    ) -> Answer:
        """The windows nearest to a query; see `mmssl.downstream.search.answers.find`."""
        kind = None if into is None else check_kind(into)
        return find(self.store, self.space, query, kind=kind, k=k, per_file=per_file, narrowed=narrowed, exact=exact)


def retrieval_run(
    run: Path,
    protocol: str,
    annotations: Path,
    folder: Path,
    *,
    modalities: Sequence[str] = (),
    windows: int = 4,
    allow_missing: bool = False,
    objective: str | None = None,
    step: int | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> dict[str, Any]:
    """Figures of a run by a published retrieval protocol; see `mmssl.downstream.probe.retrieval`.

    Args:
        run: folder.
        protocol: name, as in `PROTOCOLS`.
        annotations: the file that the protocol is given out as.
        folder: of the clips, or a manifest.
        modalities: two to compare instead of the protocol's.
        windows: of each clip.
        allow_missing: go on without clips that are not there; the figures then do not bear the protocol's name.
        objective, step, device, progress: as in `search_index`.

    Raises:
        InputError: as `load_run`, `choose_space`, `open_corpus` and `evaluate_retrieval`.
    """
    asked = find_protocol(protocol)
    kinds: list[Kind] = [check_kind(name) for name in modalities]
    if kinds and len(kinds) != 2:
        raise InputError(f"--modality names {len(kinds)} modalities; retrieval compares two")
    if windows < 1:
        raise InputError(f"--windows is {windows}; a clip is at least one window")
    items = asked.read(annotations)
    loaded = load_run(run, step=step, device=device)
    space = choose_space(loaded.objectives, loaded.encoders, objective, device=device)
    wanted = (kinds[0], kinds[1]) if kinds else None
    compared_kinds(space, asked, wanted)  # before the folder is read
    corpus = open_corpus(folder, progress=progress)
    columns = (TextColumn("embedding"), BarColumn(), MofNCompleteColumn(), TextColumn("clips"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not progress, transient=True) as bar:
        task = bar.add_task("clips", total=None)
        found = evaluate_retrieval(
            space,
            asked,
            items,
            corpus,
            kinds=wanted,
            windows=windows,
            allow_missing=allow_missing,
            seed=loaded.config.seed,
            on_plan=lambda total: bar.update(task, total=total),
            on_source=lambda: bar.advance(task),
        )
    return {"run": str(run), "step": loaded.step, "objective": space.name, "model": space.digest, **found}


__all__ = ["Answer", "Filter", "Query", "Searcher", "Synced", "check_kind", "retrieval_run", "search_index"]
