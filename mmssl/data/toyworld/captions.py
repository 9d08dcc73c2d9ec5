"""What is said about a scene, and when: an opening sentence and some of the impacts, with slack, never two at once."""

from __future__ import annotations

import numpy as np

from mmssl.data.toyworld.motion import CEILING, FLOOR, LEFT, RIGHT
from mmssl.data.toyworld.scene import Scene
from mmssl.types import Cue

_COUNTS = ("nothing", "one thing", "two things", "three things", "four things", "five things", "six things", "seven things")
_PLACES = {
    LEFT: ("hits the left wall", "bounces off the left side"),
    RIGHT: ("hits the right wall", "bounces off the right side"),
    CEILING: ("hits the ceiling", "bounces off the top"),
    FLOOR: ("hits the floor", "bounces off the ground"),
}
_MEETINGS = ("bumps into", "collides with", "strikes")
_SHORTEST, _GAP = 0.6, 0.04  # seconds


def describe(scene: Scene, rng: np.random.Generator, *, seconds: float, slack: float) -> tuple[Cue, ...]:
    """Cues of a scene in order of time. Each begins within `slack` seconds of what it tells, where room allows."""
    room = [(0.0, _opening(scene, rng))]
    for impact in sorted(scene.impacts, key=lambda _: rng.random()):
        if impact.other < 0 or impact.body < impact.other or rng.random() < 0.5:
            sentence = _sentence(scene, impact.body, impact.other, rng)
            start = max(0.0, impact.time + float(rng.uniform(-slack, slack)))
            if all(abs(start - other) >= _SHORTEST + _GAP for other, _ in room) and start + _SHORTEST <= seconds:
                room.append((start, sentence))
    room.sort()
    cues = []
    for k, (start, text) in enumerate(room):
        limit = room[k + 1][0] - _GAP if k + 1 < len(room) else seconds
        end = min(limit, start + _SHORTEST + 0.05 * len(text) * float(rng.uniform(0.7, 1.0)))
        cues.append(Cue(round(start, 3), round(max(end, start + 0.1), 3), text))
    return tuple(cues)


def write_srt(cues: tuple[Cue, ...]) -> str:
    """SubRip text of cues."""
    blocks = [f"{k}\n{_stamp(cue.start)} --> {_stamp(cue.end)}\n{cue.text}\n" for k, cue in enumerate(cues, start=1)]
    return "\n".join(blocks)


def _opening(scene: Scene, rng: np.random.Generator) -> str:
    first = scene.things[int(rng.integers(len(scene.things)))]
    others = _COUNTS[min(len(scene.things) - 1, len(_COUNTS) - 1)]
    if len(scene.things) == 1:
        return f"{_article(first.words)} flies about alone"
    return f"{_article(first.words)} and {others} more fly about"


def _sentence(scene: Scene, body: int, other: int, rng: np.random.Generator) -> str:
    subject = f"the {scene.things[body].words}"
    if other < 0:
        return f"{subject} {_PLACES[other][int(rng.integers(len(_PLACES[other])))]}"
    return f"{subject} {_MEETINGS[int(rng.integers(len(_MEETINGS)))]} the {scene.things[other].words}"


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _stamp(time: float) -> str:
    milliseconds = round(time * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d},{rest % 1000:03d}"
