"""From a clip to its pictures, its label maps and the affine motion of everything in them."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from mmssl.data.toyworld.clip import Clip
from mmssl.data.toyworld.sprites import OVERSAMPLE, Sprite, draw_background, draw_sprite
from mmssl.rng import rng_for

_BACKGROUND = 176  # side of what is drawn of the background, before it is mirrored, pixels of a 128 px picture


class Pictures(NamedTuple):
    """What is shown. T frames, K objects, a square of H = W pixels."""

    frames: np.ndarray  # uint8 (T, H, W, 3), RGB
    labels: np.ndarray  # uint8 (T, H, W): 0 background, k + 1 where object k is what is seen
    layers: np.ndarray  # float64 (T, 1 + K, 2, 3): affine map from the background's / object k's own coordinates to the view
    positions: np.ndarray  # float64 (T, K, 2): centres (x, y) in pixels


def draw_pictures(clip: Clip) -> Pictures:
    """Draw all frames of a clip; a frozen clip shows one moment throughout."""
    difficulty, scene = clip.difficulty, clip.seen
    size, things = difficulty.size, scene.things
    times = np.arange(difficulty.frames) / difficulty.fps
    if clip.frozen_at is not None:
        times[:] = times[clip.frozen_at]
    layers = _layers(clip, times)
    rng = rng_for(*scene.address, "looks")
    background = _endless(draw_background(round(_BACKGROUND * difficulty.scale), difficulty.background_contrast, rng), size)
    sprites = [draw_sprite(thing, rng) for thing in things]
    order = sorted(range(len(things)), key=lambda k: (-things[k].plane, k))  # farthest first
    frames = np.empty((len(times), size, size, 3), np.uint8)
    labels = np.zeros((len(times), size, size), np.uint8)
    for i in range(len(times)):
        _look(background, layers[i, 0, :, 2], frames[i])
        for k in order:
            _paste(frames[i], labels[i], k, sprites[k], layers[i, k + 1])
    return _turned(Pictures(frames, labels, layers, layers[:, 1:, :, 2]), clip.turns)


def _turned(pictures: Pictures, quarters: int) -> Pictures:
    """All of it turned anticlockwise by quarters."""
    if not quarters:
        return pictures
    last = pictures.labels.shape[1] - 1
    quarter = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, last], [0.0, 0.0, 1.0]])  # (x, y) -> (y, last - x)
    turn = np.linalg.matrix_power(quarter, quarters)[:2]
    layers = turn[:, :2] @ pictures.layers
    layers[..., 2] += turn[:, 2]
    frames, labels = (np.ascontiguousarray(np.rot90(part, quarters, axes=(1, 2))) for part in (pictures.frames, pictures.labels))
    return Pictures(frames, labels, layers, layers[:, 1:, :, 2])


def _layers(clip: Clip, times: np.ndarray) -> np.ndarray:
    scene = clip.seen
    camera, drift = scene.camera.at(times), scene.drift.at(times)
    layers = np.zeros((len(times), 1 + len(scene.things), 2, 3))
    layers[:, 0, :, :2] = np.eye(2)
    layers[:, 0, :, 2] = camera + drift
    for k, flight in enumerate(scene.flights, start=1):
        x, y, angle = flight.at(times).T
        cos, sin = np.cos(angle), np.sin(angle)
        layers[:, k] = np.stack([np.stack([cos, -sin, x + camera[:, 0]], -1), np.stack([sin, cos, y + camera[:, 1]], -1)], 1)
    return layers


def _endless(background: np.ndarray, size: int) -> np.ndarray:
    """Mirror a background (P, P, 3) into one with the period 2 P - 2, with a border of `size` + 1 repeated."""
    far = background.shape[0] - 2
    return cv2.copyMakeBorder(background, 0, far + size + 1, 0, far + size + 1, cv2.BORDER_REFLECT_101)


def _look(background: np.ndarray, shift: np.ndarray, frame: np.ndarray) -> None:
    """Show an endless background moved by `shift` (x, y): bilinear, as two blends of whole pictures (a third of a warp's time)."""
    size = frame.shape[0]
    period = background.shape[0] - size - 1
    x, y = (-shift) % period
    left, top = int(x), int(y)
    part = background[top : top + size + 1, left : left + size + 1]
    rows = cv2.addWeighted(part[:-1], 1 - (y - top), part[1:], y - top, 0)
    cv2.addWeighted(rows[:, :-1], 1 - (x - left), rows[:, 1:], x - left, 0, dst=frame)


def _paste(frame: np.ndarray, labels: np.ndarray, k: int, sprite: Sprite, layer: np.ndarray) -> None:
    """Paint one sprite over `frame` and its label over `labels`, touching only the pixels that it can cover."""
    side, size = sprite.ink.shape[0], frame.shape[0]
    reach, (cx, cy) = side / (2 * OVERSAMPLE) + 1, layer[:, 2]
    left, top = max(0, int(cx - reach)), max(0, int(cy - reach))
    right, bottom = min(size, int(cx + reach) + 2), min(size, int(cy + reach) + 2)
    if left >= right or top >= bottom:
        return
    place = np.empty((2, 3))
    place[:, :2] = layer[:, :2] / OVERSAMPLE
    place[:, 2] = layer[:, 2] - place[:, :2].sum(axis=1) * ((side - 1) / 2) - (left, top)
    box = (right - left, bottom - top)
    ink = cv2.warpAffine(sprite.ink, place, box, flags=cv2.INTER_LINEAR)
    clear = cv2.warpAffine(
        sprite.clear, place, box, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(255, 255, 255)
    )
    region = frame[top:bottom, left:right]
    cv2.add(cv2.multiply(region, clear, scale=1 / 255), ink, dst=ink)
    region[:] = ink
    np.putmask(labels[top:bottom, left:right], clear[..., 0] < 128, k + 1)
