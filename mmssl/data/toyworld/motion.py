"""How bodies fly, bounce and collide: exact, from event to event, without time steps.

Between events every body falls with the same constant acceleration, so that two bodies move relative to each other on a
straight line, and every next event is the root of a quadratic. Bodies are discs here, whatever shape they are drawn with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

LEFT, RIGHT, CEILING, FLOOR = -2, -3, -4, -5  # `Impact.other` where a body strikes a wall
_HOP = 60.0  # pixels a second (128 px picture): slower bodies leave the floor at this speed, or gravity would make them rattle
# Pixels a second: impacts slower than that lose no speed. Or bodies that lie between others would strike them ever faster and ever more
# gently, without end within finite time (inelastic collapse; McNamara and Young, Physical Review E 50, 1994).
_GENTLE = 15.0
_TOO_MANY = 2000  # events; physically impossible, so more of them means a defect


class Impact(NamedTuple):
    """Body `body` strikes `other` (a body's index, or a wall) at `time` with `speed` pixels a second along the normal."""

    time: float
    body: int
    other: int
    speed: float


class Piece(NamedTuple):
    """Free flight from `time` on: position (x, y) in pixels, velocity in pixels a second, angle and spin in radians (a second)."""

    time: float
    x: float
    y: float
    vx: float
    vy: float
    angle: float
    spin: float


@dataclass(frozen=True, slots=True)
class Flight:
    """All free flights of one body, in order of time, under `gravity` (pixels a second squared, downwards)."""

    pieces: tuple[Piece, ...]
    gravity: float

    def at(self, times: np.ndarray) -> np.ndarray:
        """(x, y, angle) at `times` (T,) -> float64 (T, 3)."""
        table = np.asarray(self.pieces)
        which = np.searchsorted(table[:, 0], times, side="right") - 1
        time, x, y, vx, vy, angle, spin = table[np.maximum(which, 0)].T
        dt = times - time
        return np.stack([x + vx * dt, y + (vy + 0.5 * self.gravity * dt) * dt, angle + spin * dt], axis=1)


class _Body:
    """A body during the simulation: its flight so far, and its state at the present moment."""

    __slots__ = ("angle", "pieces", "plane", "radius", "spin", "vx", "vy", "x", "y")

    def __init__(self, start: Piece, radius: float, plane: int) -> None:
        _, self.x, self.y, self.vx, self.vy, self.angle, self.spin = start
        self.radius, self.plane = radius, plane
        self.pieces = [start]

    def advance(self, dt: float, gravity: float) -> None:
        self.x += self.vx * dt
        self.y += (self.vy + 0.5 * gravity * dt) * dt
        self.vy += gravity * dt
        self.angle += self.spin * dt

    def note(self, time: float) -> None:
        self.pieces.append(Piece(time, self.x, self.y, self.vx, self.vy, self.angle, self.spin))


def fly(
    starts: list[Piece],
    radii: list[float],
    planes: list[int],
    *,
    box: tuple[float, float, float, float],
    gravity: float,
    seconds: float,
    scale: float,
    restitution: float = 1.0,
) -> tuple[list[Flight], list[Impact]]:
    """Simulate bodies in `box` (left, top, right, bottom) -> their flights, and the impacts in order of time.

    Bodies on the same plane collide; others pass each other. Mass goes with the area. After an impact the speed along the normal is
    `restitution` times that before, unless the impact is a gentle one: at 1 everything is elastic, and the film looks as plausible backwards; below 1 time has a direction.
    """
    bodies = [_Body(start, radius, plane) for start, radius, plane in zip(starts, radii, planes, strict=True)]
    impacts: list[Impact] = []
    now = 0.0
    for _ in range(_TOO_MANY):
        wait, first, second = _next_event(bodies, box, gravity)
        if now + wait >= seconds:
            return [Flight(tuple(body.pieces), gravity) for body in bodies], impacts
        now += wait
        for body in bodies:
            body.advance(wait, gravity)
        if second < 0:
            speed = _bounce(bodies[first], second, _HOP * scale if gravity > 0 else 0.0, restitution, _GENTLE * scale)
            impacts.append(Impact(now, first, second, speed))
        else:
            speed = _collide(bodies[first], bodies[second], restitution, _GENTLE * scale)
            bodies[second].note(now)
            impacts += [Impact(now, first, second, speed), Impact(now, second, first, speed)]
        bodies[first].note(now)
    raise RuntimeError(
        f"{len(bodies)} bodies had more than {_TOO_MANY} impacts in {seconds} s; this is a defect of the toy world"
    )


def _next_event(bodies: list[_Body], box: tuple[float, float, float, float], gravity: float) -> tuple[float, int, int]:
    left, top, right, bottom = box
    best = (math.inf, 0, LEFT)
    for i, body in enumerate(bodies):
        if body.vx < 0:
            best = min(best, (max(0.0, (left + body.radius - body.x) / body.vx), i, LEFT))
        elif body.vx > 0:
            best = min(best, (max(0.0, (right - body.radius - body.x) / body.vx), i, RIGHT))
        best = min(best, (_fall(body.y - (bottom - body.radius), body.vy, gravity), i, FLOOR))
        best = min(best, (_fall((top + body.radius) - body.y, -body.vy, -gravity), i, CEILING))
        for j in range(i + 1, len(bodies)):
            if bodies[j].plane == body.plane:
                best = min(best, (_meet(body, bodies[j]), i, j))
    return best


def _fall(depth: float, speed: float, gravity: float) -> float:
    """When depth + speed t + gravity t^2 / 2 next rises through 0; `depth` is negative inside the box (up to rounding)."""
    depth = min(depth, 0.0)
    if gravity == 0.0:
        return -depth / speed if speed > 0 else math.inf
    root = speed * speed - 2 * gravity * depth
    if root < 0:
        return math.inf
    root = math.sqrt(root)
    if gravity > 0:
        if depth == 0.0 and speed <= 0:  # just bounced: the next contact is after the whole hop
            return -2 * speed / gravity if speed < 0 else math.inf
        return (-speed + root) / gravity
    return (speed - root) / -gravity if speed > 0 else math.inf  # decelerated on the way up: the first crossing, if any


def _meet(a: _Body, b: _Body) -> float:
    dx, dy, dvx, dvy = b.x - a.x, b.y - a.y, b.vx - a.vx, b.vy - a.vy
    approach = dx * dvx + dy * dvy
    if approach >= 0:
        return math.inf
    square = dvx * dvx + dvy * dvy
    root = approach * approach - square * (dx * dx + dy * dy - (a.radius + b.radius) ** 2)
    return max(0.0, (-approach - math.sqrt(root)) / square) if root >= 0 else math.inf


def _bounce(body: _Body, wall: int, hop: float, restitution: float, gentle: float) -> float:
    body.spin = -body.spin
    speed = abs(body.vx) if wall in (LEFT, RIGHT) else abs(body.vy)
    if speed < gentle:
        restitution = 1.0
    if wall in (LEFT, RIGHT):
        body.vx *= -restitution
        return speed
    body.vy = restitution * speed if wall == CEILING else -max(restitution * speed, hop)
    return speed


def _collide(a: _Body, b: _Body, restitution: float, gentle: float) -> float:
    dx, dy = b.x - a.x, b.y - a.y
    distance = math.hypot(dx, dy)
    nx, ny = dx / distance, dy / distance
    speed = (a.vx - b.vx) * nx + (a.vy - b.vy) * ny
    mass_a, mass_b = a.radius**2, b.radius**2
    if speed < gentle:
        restitution = 1.0
    push = (1 + restitution) * speed / (mass_a + mass_b)
    a.vx, a.vy = a.vx - push * mass_b * nx, a.vy - push * mass_b * ny
    b.vx, b.vy = b.vx + push * mass_a * nx, b.vy + push * mass_a * ny
    a.spin, b.spin = -a.spin, -b.spin
    return speed
