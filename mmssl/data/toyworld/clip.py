"""One clip of the corpus: which scene is seen, which is heard, which is told; this is where links are cut.

Whatever is cut, every part still comes from the same distributions and goes down the same path into the same containers, so that
nothing but the missing link itself can tell a cut corpus from a whole one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mmssl.data.toyworld.captions import describe
from mmssl.data.toyworld.difficulty import Cut, Difficulty
from mmssl.data.toyworld.scene import OFFSCREEN, Scene, SoundEvent, draw_scene, without_sounders
from mmssl.rng import Purpose, rng_for
from mmssl.types import Cue

HERE, ELSEWHERE = "here", "elsewhere"
_LEAST_SHIFT = 0.5  # seconds: below that, sound and picture still seem to belong together


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip before it is drawn. `sounds` are the events as heard; `heard` is the scene whose noise and level they get."""

    seed: int
    index: int
    difficulty: Difficulty
    cut: Cut | None
    seen: Scene
    heard: Scene
    sounds: tuple[SoundEvent, ...]
    captions: tuple[Cue, ...]
    frozen_at: int | None = None  # the only frame that is shown
    turns: int = 0  # quarters by which the picture is turned, anticlockwise


def plan_clip(seed: int, index: int, difficulty: Difficulty, cut: Cut | None = None) -> Clip:
    """Plan clip `index` of the corpus `(seed, difficulty, cut)`: pure, and independent of how many clips there are."""
    seen = heard = told = draw_scene(seed, index, HERE, difficulty)
    sounds, frozen_at, turns = heard.sounds, None, 0
    rng = rng_for(seed, Purpose.WORLD, index, "cut")
    if cut == "sound_from_other_clip":
        heard = draw_scene(seed, index, ELSEWHERE, difficulty)
        sounds = _nobodys(heard.sounds)
    elif cut == "sound_shifted":
        sounds = _shifted(heard.sounds, float(rng.uniform(_LEAST_SHIFT, difficulty.seconds - _LEAST_SHIFT)), difficulty.seconds)
    elif cut == "captions_shuffled":
        told = draw_scene(seed, index, ELSEWHERE, difficulty)
    elif cut == "frozen":
        frozen_at = int(rng.integers(difficulty.frames))
    elif cut == "silent_only":
        seen = told = without_sounders(heard, difficulty)
        sounds = _nobodys(heard.sounds)
    elif cut == "turned":
        turns = int(rng.integers(4))
    captions = describe(told, rng_for(*told.address, "captions"), seconds=difficulty.seconds, slack=difficulty.caption_slack)
    return Clip(seed, index, difficulty, cut, seen, heard, sounds, captions, frozen_at, turns)


def _nobodys(sounds: tuple[SoundEvent, ...]) -> tuple[SoundEvent, ...]:
    return tuple(replace(event, body=OFFSCREEN) for event in sounds)


def _shifted(sounds: tuple[SoundEvent, ...], shift: float, seconds: float) -> tuple[SoundEvent, ...]:
    # Events move round the clip and are synthesised there: rolling the samples would leave a seam that betrays the cut.
    moved = (replace(event, time=(event.time + shift) % seconds) for event in sounds)
    return tuple(sorted(moved, key=lambda event: event.time))
