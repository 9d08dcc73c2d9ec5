"""The twelve materials: how each one looks, and how it rings when it is struck.

Sound follows modal synthesis: a struck body is a sum of exponentially decaying partials whose frequencies keep fixed ratios
and whose base falls as the body grows (van den Doel, Kry, Pai, "FoleyAutomatic", SIGGRAPH 2001, section 3). The ratios are those of
textbook bodies (bar, membrane, bell) where there is one, and merely distinct otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

HUES = ("red", "orange", "yellow", "lime", "green", "mint", "cyan", "azure", "blue", "purple", "magenta", "pink")
SHAPES = ("disc", "square", "triangle", "diamond", "star", "cross", "heart", "capsule", "gear", "hexagon", "dome", "drop")
REFERENCE_RADIUS = 17.5  # pixels of a 128 px picture: an object of this size sounds at its material's `base_hz`


@dataclass(frozen=True, slots=True)
class Mode:
    """One partial: frequency as a multiple of the base, amplitude, and the time in which it falls to 1/e, in seconds."""

    ratio: float
    gain: float
    decay: float


@dataclass(frozen=True, slots=True)
class Material:
    """A material's usual hue and shape (indices into `HUES` and `SHAPES`) and its sound; no modes: it is silent.

    A material's texture is its own; it is drawn in `picture.py` under the material's name.
    """

    name: str
    adjective: str
    hue: int
    shape: int
    base_hz: float = 0.0
    click: float = 0.0  # amplitude of the noise burst at the strike
    modes: tuple[Mode, ...] = ()

    @property
    def sounds(self) -> bool:
        """Whether a strike can be heard."""
        return bool(self.modes)


def _modes(ratios: tuple[float, ...], gains: tuple[float, ...], decays: tuple[float, ...]) -> tuple[Mode, ...]:
    return tuple(Mode(*mode) for mode in zip(ratios, gains, decays, strict=True))


# Silent materials lie between the sounding ones on the circle of hues, so that "warm colours sound" is no rule.
MATERIALS: tuple[Material, ...] = (
    Material("wood", "wooden", 1, 1, 420.0, 0.3, _modes((1, 2.57, 4.9), (1, 0.6, 0.35), (0.075, 0.05, 0.03))),
    Material("glass", "glass", 6, 11, 1900.0, 0.1, _modes((1, 1.72, 2.61, 3.3), (1, 0.7, 0.5, 0.3), (0.34, 0.28, 0.2, 0.14))),
    Material("steel", "steel", 8, 8, 880.0, 0.1, _modes((1, 2.756, 5.404, 7.1), (1, 0.8, 0.55, 0.3), (0.42, 0.36, 0.28, 0.2))),
    Material("stone", "stone", 9, 9, 1450.0, 0.9, _modes((1, 1.31, 1.94, 2.73), (1, 0.8, 0.6, 0.4), (0.022, 0.02, 0.016, 0.012))),
    Material(
        "drum",
        "drumskin",
        0,
        0,
        115.0,
        0.15,
        _modes((1, 1.594, 2.136, 2.296, 2.653), (1, 0.7, 0.5, 0.4, 0.3), (0.26, 0.2, 0.16, 0.14, 0.12)),
    ),
    Material(
        "bell",
        "brass",
        2,
        10,
        560.0,
        0.05,
        _modes(
            (0.5, 1, 1.183, 1.506, 2, 2.514, 3.011), (0.5, 1, 0.7, 0.5, 0.8, 0.4, 0.3), (0.5, 0.45, 0.4, 0.36, 0.32, 0.26, 0.2)
        ),
    ),
    Material("plastic", "plastic", 4, 7, 720.0, 0.2, _modes((1, 2, 3, 4), (1, 0.3, 0.5, 0.2), (0.1, 0.06, 0.05, 0.03))),
    Material("clay", "clay", 11, 3, 300.0, 0.25, _modes((1, 3.46, 6.21, 8.9), (1, 0.9, 0.6, 0.3), (0.17, 0.13, 0.1, 0.06))),
    Material("wool", "woollen", 3, 6),
    Material("sponge", "sponge", 5, 5),
    Material("felt", "felt", 7, 2),
    Material("paper", "paper", 10, 4),
)
SOUNDING = tuple(index for index, material in enumerate(MATERIALS) if material.sounds)
SILENT = tuple(index for index, material in enumerate(MATERIALS) if not material.sounds)
