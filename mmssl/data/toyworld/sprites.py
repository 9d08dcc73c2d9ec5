"""The look of single objects and of backgrounds: shapes, material textures, colour; drawn once for each clip.

A sprite is drawn with `OVERSAMPLE` pixels for each pixel of the view and is centred on its shape's centre of mass, so that an object's
position is the centroid of its mask.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

from mmssl.data.toyworld.materials import HUES, MATERIALS, SHAPES
from mmssl.data.toyworld.scene import Thing

OVERSAMPLE = 1.5
_MASTER = 192  # side of the master drawings of shapes and textures, pixels; the unit circle has radius _MASTER / 2 - 8
_REACH = _MASTER / 2 - 8


class Sprite(NamedTuple):
    """`ink` uint8 (n, n, 3): RGB times opacity; `clear` uint8 (n, n, 3): 255 minus opacity. The centre is pixel (n - 1) / 2."""

    ink: np.ndarray
    clear: np.ndarray


def draw_sprite(thing: Thing, rng: np.random.Generator) -> Sprite:
    """The sprite of one object."""
    side = 2 * math.ceil(OVERSAMPLE * (thing.radius + 2)) + 1
    zoom = OVERSAMPLE * thing.radius / _REACH
    place = np.array([[zoom, 0, (side - 1) / 2 - zoom * (_MASTER - 1) / 2], [0, zoom, (side - 1) / 2 - zoom * (_MASTER - 1) / 2]])
    opacity, rim = shape_master(thing.shape)
    light = texture_master(thing.material)
    bright, dark = _tones(thing.hue, rng)
    ink = dark + (bright - dark) * light[..., None]
    ink *= (1 - 0.75 * rim)[..., None]  # a dark rim keeps an object visible on any background
    ink = ink * (opacity[..., None] / 255)
    # Two steps, or shrinking the master would alias: blur to the target's resolution, then sample.
    blur = max(0.3, 0.4 / zoom)
    ink, opacity = (cv2.GaussianBlur(image.astype(np.float32), (0, 0), blur) for image in (ink, opacity))
    ink, opacity = (cv2.warpAffine(image, place, (side, side), flags=cv2.INTER_LINEAR) for image in (ink, opacity))
    clear = np.repeat(255 - np.rint(opacity)[..., None], 3, axis=2)
    return Sprite(np.rint(ink).astype(np.uint8), clear.astype(np.uint8))


def draw_background(side: int, contrast: float, rng: np.random.Generator) -> np.ndarray:
    """A textured picture of many scales, uint8 (side, side, 3); contrast 0 is plain grey, 1 is as colourful as the objects."""
    canvas = np.zeros((side, side, 3), np.float32)
    cells, weight, roughness = 3, 1.0, float(rng.uniform(0.55, 0.85))
    while cells < side / 2:
        grid = rng.standard_normal((cells, cells, 3), dtype=np.float32)
        grid = 0.6 * grid.mean(axis=2, keepdims=True) * math.sqrt(3) + 0.5 * grid  # mostly lightness, some colour
        canvas += np.float32(weight) * cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)
        cells, weight = cells * 2, weight * roughness
    canvas *= 58.0 * contrast / max(float(canvas.std()), 1e-6)
    canvas += rng.uniform(-35, 35, 3).astype(np.float32) * np.float32(contrast) + np.float32(rng.uniform(95, 155))
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _tones(hue: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The bright and the dark tone of a hue, float32 RGB, with a little jitter."""
    degrees = (hue / len(HUES) * 360 + float(rng.uniform(-6, 6))) % 360
    saturation, value = float(rng.uniform(0.75, 1.0)), float(rng.uniform(0.85, 1.0))
    tones = np.array([[[degrees, 0.75 * saturation, value], [degrees, saturation, 0.38 * value]]], np.float32)
    bright, dark = cv2.cvtColor(tones, cv2.COLOR_HSV2RGB)[0] * 255
    return bright, dark


@cache
def shape_master(shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Opacity (0 to 255) and rim (0 to 1) of a shape in the unit circle, float32 (master, master) each."""
    points = _outline(SHAPES[shape])
    fine = 8
    mask = np.zeros((_MASTER, _MASTER), np.uint8)
    for _ in range(2):  # the second time centred on its mass and grown to touch the unit circle
        mask[:] = 0
        pixels = np.rint((points * _REACH + (_MASTER - 1) / 2) * (1 << fine)).astype(np.int32)
        cv2.fillPoly(mask, [pixels], 255, lineType=cv2.LINE_AA, shift=fine)
        moments = cv2.moments(mask)
        centre = np.array([moments["m10"], moments["m01"]]) / moments["m00"]
        points = points - (centre - (_MASTER - 1) / 2) / _REACH
        points = points / np.hypot(*points.T).max()
    distance = cv2.distanceTransform((mask > 127).astype(np.uint8), cv2.DIST_L2, 5)
    rim = np.clip(1.5 - distance / (0.055 * _REACH), 0, 1) * (mask > 0)
    return mask.astype(np.float32), rim.astype(np.float32)


def _outline(name: str) -> np.ndarray:
    """Corners of a shape, float64 (n, 2), y downwards, near the unit circle (scaled and centred by the caller)."""
    turn = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    x, y = np.sin(turn), -np.cos(turn)
    if name in ("square", "triangle", "hexagon"):
        sides = {"square": 4, "triangle": 3, "hexagon": 6}[name]
        corner = np.arange(sides) * 2 * np.pi / sides + (np.pi / 4 if name == "square" else 0)
        return np.stack([np.sin(corner), -np.cos(corner)], axis=1)
    if name in ("star", "gear"):
        points, inner = (5, 0.45) if name == "star" else (8, 0.74)
        step = np.arange(2 * points if name == "star" else 4 * points)
        reach = np.where(step % 2 == 0, 1.0, inner) if name == "star" else np.where(step % 4 < 2, 1.0, inner)
        corner = step * 2 * np.pi / len(step)
        return np.stack([reach * np.sin(corner), -reach * np.cos(corner)], axis=1)
    if name == "diamond":
        return np.array([(0, -1), (0.6, 0), (0, 1), (-0.6, 0)])
    if name == "cross":
        a = 0.34
        return np.array(
            [(-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a), (a, 1), (-a, 1), (-a, a), (-1, a), (-1, -a), (-a, -a)]
        )
    if name == "heart":
        return (
            np.stack(
                [16 * np.sin(turn) ** 3, -(13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn))],
                axis=1,
            )
            / 17
        )
    if name == "capsule":
        return np.stack([0.5 * x, 0.5 * y + 0.5 * np.where(y < 0, -1, 1)], axis=1)
    if name == "dome":
        return np.stack([x, np.minimum(y, 0.25)], axis=1)
    if name == "drop":
        return np.stack([0.75 * np.sin(turn) * np.sin(turn / 2), -np.cos(turn / 1.0) * -1.0 + 0 * x], axis=1)
    return np.stack([x, y], axis=1)  # disc


@cache
def texture_master(material: int) -> np.ndarray:
    """Lightness (0 dark to 1 bright) of a material over the unit circle, float32 (master, master)."""
    v, u = (np.mgrid[:_MASTER, :_MASTER] - (_MASTER - 1) / 2) / _REACH
    radius = np.hypot(u, v)
    draw = {
        "wood": lambda: _wave(6.5 * (u + 0.18 * np.sin(2.6 * v)) + 0.6 * _smooth(u, 5)),
        "glass": lambda: np.where(np.abs(np.mod(u + v + 0.3, 1.4) - 0.25) < 0.2, 1.0, 0.12 + 0.2 * (v < -0.2)),
        "steel": lambda: 0.5 * (np.sin(12 * np.pi * u * 0.5) > 0) + 0.5 * (np.sin(12 * np.pi * v * 0.5) > 0),
        "stone": lambda: (_smooth(u, 14) > 0.2) * 0.55 + (_smooth(u, 30) > 0.3) * 0.45,
        "drum": lambda: (np.mod(radius * 2.6 + 0.1, 1.0) < 0.55) * 1.0,
        "bell": lambda: np.clip(1.15 - 1.3 * np.abs(u + 0.35), 0, 1),
        "plastic": lambda: np.where(
            (np.mod(u * 2.2 + 0.5, 1) - 0.5) ** 2 + (np.mod(v * 2.2 + 0.5, 1) - 0.5) ** 2 < 0.09, 0.0, 1.0
        ),
        "clay": lambda: (np.abs(np.mod(v * 3 + 1.2 * np.abs(np.mod(u * 1.6, 1) - 0.5), 1) - 0.5) < 0.25) * 1.0,
        "wool": lambda: _wave(5 * radius + np.arctan2(v, u) * 5 / (2 * np.pi)),
        "sponge": lambda: 1.0 - (_smooth(u, 20) > 0.55) * 0.95,
        "felt": lambda: np.clip(0.55 + 0.25 * _smooth(u, 5), 0, 1),
        "paper": lambda: np.where(np.abs(np.mod(v * 2.6 + 0.5, 1) - 0.5) < 0.14, 0.0, 1.0),
    }
    return draw[MATERIALS[material].name]().astype(np.float32)


def _wave(phase: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.sin(2 * np.pi * phase)


def _smooth(like: np.ndarray, cells: int) -> np.ndarray:
    """Smooth noise of standard deviation 1 with `cells` cells over the master; the same for everyone."""
    grid = np.random.Generator(np.random.PCG64(cells)).standard_normal((cells, cells), dtype=np.float32)
    noise = cv2.resize(grid, like.shape, interpolation=cv2.INTER_CUBIC)
    return noise / noise.std()
