"""What happens in one scene: objects, flights, impacts, camera, background. Drawn from an address; no pixels, no samples."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from mmssl.data.toyworld.difficulty import Difficulty
from mmssl.data.toyworld.materials import HUES, MATERIALS, SHAPES, SILENT, SOUNDING
from mmssl.data.toyworld.motion import Flight, Impact, Piece, fly
from mmssl.rng import Purpose, rng_for

OFFSCREEN = -1  # `SoundEvent.body` of what sounds from outside the view
_QUIET_START, _QUIET_END = 0.1, 0.35  # seconds at the ends of a clip whose impacts do not count as discoverable
_SELDOM, _OFTEN = 0.75, 2.0  # strikes a second that a sounder should have
_CLOSE = 0.08  # seconds: strikes of one sounder that are closer than that are heard as one
_PLANES = 3  # of depth: objects collide with those on their own and pass those on others
_TRIES = 24  # throws, of which the best is taken


@dataclass(frozen=True, slots=True)
class Thing:
    """How one object looks: indices into `MATERIALS`, `SHAPES` and `HUES`, radius in pixels, plane of depth (0 is in front)."""

    material: int
    shape: int
    hue: int
    radius: float
    plane: int

    @property
    def sounds(self) -> bool:
        """Whether it can be heard when it is struck."""
        return MATERIALS[self.material].sounds

    @property
    def words(self) -> str:
        """For captions: "red wooden square"."""
        return f"{HUES[self.hue]} {MATERIALS[self.material].adjective} {SHAPES[self.shape]}"


@dataclass(frozen=True, slots=True)
class SoundEvent:
    """A strike that is heard: when, which body (`OFFSCREEN`: none in view), material, radius, strength 0 to 1, pan -1 to 1."""

    time: float
    body: int
    material: int
    radius: float
    strength: float
    pan: float


@dataclass(frozen=True, slots=True)
class Sway:
    """A smooth path (x, y): drift, and two sines for each axis; rows of `waves` are amplitude, frequency in hertz, phase."""

    drift: tuple[float, float]
    waves: tuple[tuple[float, float, float], ...]

    def at(self, times: np.ndarray) -> np.ndarray:
        """Offset in pixels at `times` (T,) -> float64 (T, 2)."""
        amplitude, hertz, phase = np.asarray(self.waves).T[:, :, None]
        waves = amplitude * np.sin(2 * np.pi * hertz * times + phase)  # (4, T)
        return np.stack([waves[0] + waves[1] + self.drift[0] * times, waves[2] + waves[3] + self.drift[1] * times], axis=1)


@dataclass(frozen=True, slots=True)
class Scene:
    """One scene in view coordinates: x to the right, y downwards, pixel centres at integers."""

    things: tuple[Thing, ...]
    flights: tuple[Flight, ...]
    impacts: tuple[Impact, ...]
    camera: Sway  # shifts objects and background alike
    drift: Sway  # shifts the background alone
    sounds: tuple[SoundEvent, ...]  # in order of time; empty where the clip is muted
    muted: bool
    address: tuple[int | str, ...]  # for what else is random about it (textures, noise): rng_for(*address, what)


def draw_scene(seed: int, index: int, stage: str, difficulty: Difficulty) -> Scene:
    """Draw scene `index` of world `seed`. Another `stage` of the same index is an independent scene."""
    address = (seed, Purpose.WORLD, index, stage)
    things = _draw_things(rng_for(*address, "things"), difficulty)
    camera = _draw_sway(rng_for(*address, "camera"), difficulty.camera * difficulty.scale, 0.0)
    drift = _draw_sway(rng_for(*address, "background"), 2.0 * difficulty.scale, 7.0 * difficulty.scale)
    flights, impacts = _throw(rng_for(*address, "motion"), things, difficulty)
    rng = rng_for(*address, "sounds")
    muted = bool(rng.random() < difficulty.muted)
    sounds = _heard(things, flights, impacts, camera, difficulty) + _offscreen(rng, things, difficulty)
    sounds = () if muted else tuple(sorted(sounds, key=lambda event: event.time))
    return Scene(things, tuple(flights), tuple(impacts), camera, drift, sounds, muted, address)


def without_sounders(scene: Scene, difficulty: Difficulty) -> Scene:
    """The scene with a silent object in the place of each sounder, of the same radius, thrown anew; its sounds are nobody's."""
    rng = rng_for(*scene.address, "replaced")
    things = tuple(
        _draw_thing(rng, int(rng.choice(SILENT)), thing.radius, difficulty) if thing.sounds else thing for thing in scene.things
    )
    flights, impacts = _throw(rng, things, difficulty)
    return Scene(things, tuple(flights), tuple(impacts), scene.camera, scene.drift, scene.sounds, scene.muted, scene.address)


def _draw_things(rng: np.random.Generator, difficulty: Difficulty) -> tuple[Thing, ...]:
    sounders = [int(m) for m in rng.choice(SOUNDING, size=difficulty.sounders, replace=False)]
    silent = [int(m) for m in rng.choice(SILENT, size=int(rng.integers(difficulty.silent_min, difficulty.silent_max + 1)))]
    twin, materials = bool(rng.random() < difficulty.twins), sounders + silent
    things = []
    for material in materials:
        radius = float(rng.uniform(difficulty.radius_min, difficulty.radius_max)) * difficulty.scale
        things.append(_draw_thing(rng, material, radius, difficulty))
    if twin and silent:
        of, which = int(rng.integers(len(sounders))), len(sounders) + int(rng.integers(len(silent)))
        model = things[which]
        things[which] = Thing(model.material, model.shape, things[of].hue, model.radius, model.plane)
    return tuple(things[i] for i in rng.permutation(len(things)))


def _draw_thing(rng: np.random.Generator, material: int, radius: float, difficulty: Difficulty) -> Thing:
    own = MATERIALS[material]
    shape = _usual(rng, own.shape, len(SHAPES), difficulty.shape_agreement)
    hue = _usual(rng, own.hue, len(HUES), difficulty.hue_agreement)
    return Thing(material, shape, hue, radius, int(rng.integers(_PLANES)))


def _usual(rng: np.random.Generator, usual: int, count: int, agreement: float) -> int:
    other = (usual + int(rng.integers(1, count))) % count
    return usual if rng.random() < agreement else other


def _draw_sway(rng: np.random.Generator, amplitude: float, speed: float) -> Sway:
    direction, waves = rng.uniform(0, 2 * math.pi), []
    for share in (0.65, 0.35, 0.65, 0.35):
        hertz = rng.uniform(0.1, 0.25) if share > 0.5 else rng.uniform(0.3, 0.6)
        waves.append((share * amplitude * rng.uniform(0.5, 1.0), float(hertz), float(rng.uniform(0, 2 * math.pi))))
    speed *= float(rng.uniform(0.2, 1.0))
    return Sway((speed * math.cos(direction), speed * math.sin(direction)), tuple(waves))


def _throw(rng: np.random.Generator, things: tuple[Thing, ...], difficulty: Difficulty) -> tuple[list[Flight], list[Impact]]:
    """Throw the objects until each sounder is struck often enough to be found, and seldom enough to tell its strikes apart."""
    margin = (difficulty.camera + 2.0) * difficulty.scale
    box = (margin, margin, difficulty.size - 1 - margin, difficulty.size - 1 - margin)
    gravity = float(rng.uniform(60, 150)) * difficulty.scale if rng.random() < difficulty.falling else 0.0
    radii, planes = [thing.radius for thing in things], [thing.plane for thing in things]
    best: tuple[float, list[Flight], list[Impact]] = (math.inf, [], [])
    for _ in range(_TRIES):
        starts = _starts(rng, things, box, difficulty.scale)
        flights, impacts = fly(
            starts,
            radii,
            planes,
            box=box,
            gravity=gravity,
            seconds=difficulty.seconds,
            scale=difficulty.scale,
            restitution=difficulty.restitution,
        )
        faults = sum(
            _faults([i.time for i in impacts if i.body == k], difficulty) for k, thing in enumerate(things) if thing.sounds
        )
        if faults < best[0]:
            best = (faults, flights, impacts)
        if faults == 0:
            break
    return best[1], best[2]


def _faults(strikes: list[float], difficulty: Difficulty) -> float:
    """How far the strikes of a sounder are from a rhythm that can be heard: missing ones, ones too many, ones too close."""
    counted = sum(_QUIET_START <= time <= difficulty.seconds - _QUIET_END for time in strikes)
    close = sum(after - before < _CLOSE for before, after in itertools.pairwise(strikes))
    few, many = max(1.0, _SELDOM * difficulty.seconds), max(2.0, _OFTEN * difficulty.seconds)
    return 3 * max(0.0, math.floor(few) - counted) + max(0.0, len(strikes) - math.ceil(many)) + close


def _starts(
    rng: np.random.Generator, things: tuple[Thing, ...], box: tuple[float, float, float, float], scale: float
) -> list[Piece]:
    placed: list[Piece] = []
    for k, thing in enumerate(things):
        spot = (0.0, 0.0)
        # Bodies on one plane must not start inside each other; where the view is too full for that, the last try decides and
        # they separate by themselves (only approaching bodies collide).
        for _ in range(50):
            spot = (
                float(rng.uniform(box[0] + thing.radius, box[2] - thing.radius)),
                float(rng.uniform(box[1] + thing.radius, box[3] - thing.radius)),
            )
            near = (
                math.hypot(spot[0] - placed[j].x, spot[1] - placed[j].y) < thing.radius + things[j].radius
                for j in range(k)
                if things[j].plane == thing.plane
            )
            if not any(near):
                break
        speed, heading = float(rng.uniform(45, 95)) * scale, float(rng.uniform(0, 2 * math.pi))
        spin = float(rng.uniform(0.4, 2.0) * rng.choice((-1, 1)))
        placed.append(
            Piece(0.0, *spot, speed * math.cos(heading), speed * math.sin(heading), float(rng.uniform(-0.5, 0.5)), spin)
        )
    return placed


def _heard(
    things: tuple[Thing, ...], flights: list[Flight], impacts: list[Impact], camera: Sway, difficulty: Difficulty
) -> list[SoundEvent]:
    events = []
    for impact in impacts:
        thing = things[impact.body]
        if not thing.sounds:
            continue
        moment = np.asarray([impact.time])
        x = float(flights[impact.body].at(moment)[0, 0] + camera.at(moment)[0, 0])
        strength = min(1.0, 0.35 + 0.65 * impact.speed / (100 * difficulty.scale))
        pan = max(-1.0, min(1.0, 2 * x / difficulty.size - 1))
        events.append(SoundEvent(impact.time, impact.body, thing.material, thing.radius / difficulty.scale, strength, pan))
    return events


def _offscreen(rng: np.random.Generator, things: tuple[Thing, ...], difficulty: Difficulty) -> list[SoundEvent]:
    present = {thing.material for thing in things}
    material = int(rng.choice([m for m in SOUNDING if m not in present]))
    radius, side, level = (
        float(rng.uniform(difficulty.radius_min, difficulty.radius_max)),
        float(rng.choice((-1, 1))),
        float(rng.uniform(0.35, 0.8)),
    )
    count = int(rng.integers(1, max(2, round(difficulty.seconds)) + 1))
    times = np.sort(rng.uniform(_QUIET_START, difficulty.seconds - _QUIET_END, size=count))
    if rng.random() >= difficulty.offscreen:
        return []
    return [SoundEvent(float(time), OFFSCREEN, material, radius, level * float(rng.uniform(0.6, 1.0)), side) for time in times]
