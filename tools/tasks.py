"""How each objective is proven: the figure that counts, the level that was asked of it before it was measured, and how its link is cut."""

from __future__ import annotations

from typing import NamedTuple


class Task(NamedTuple):
    """One row of the table."""

    level: float  # what the figure must reach on the whole toy world
    figure: str = "judged.accuracy"  # where it stands in the evaluation
    cut: str | None = None  # the toy world's switch that leaves nothing to learn
    cut_overrides: tuple[str, ...] = ()  # or what cuts the link in the config
    real: tuple[str, ...] = ()  # folders of the development media
    real_overrides: tuple[str, ...] = ()
    config: str = ""  # in configs/tiny, where it is not the objective's name

    @property
    def how(self) -> str:
        """How the link is cut, for the table."""
        return ", ".join(f"`{text}`" for text in (self.cut, *self.cut_overrides) if text)


A_FIFTH = ("streams.0.holdout=0.2", "streams.0.batch=16")

TASKS = {
    "l3": Task(0.60, "accuracy", "sound_from_other_clip"),
    "avenet": Task(0.60, "accuracy", "sound_from_other_clip"),
    "avol": Task(0.75, "accuracy", "sound_from_other_clip"),
    "av_nce": Task(0.75, "accuracy", "sound_from_other_clip"),
    "avts": Task(0.70, "synchronisation", "sound_shifted"),
}
