"""Light, weather and season of a town's sessions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from condense_ros.sim.scenery import Light


@dataclass(frozen=True)
class Day:
    """One session's weather and season.

    Attributes:
        name: of the weather.
        season: row of `plants.SEASONS`.
        leaves: share of their leaves that trees and bushes have.
        grown: hedges' height over their mean.
    """

    name: str
    light: Light
    season: int
    leaves: float
    grown: float


_GREY = (0.0, 0.0, 0.0)


def _toward(
    rng: np.random.Generator, low_deg: float, high_deg: float
) -> tuple[float, float, float]:
    up, around = np.radians(rng.uniform(low_deg, high_deg)), rng.uniform(0, 2 * np.pi)
    x, y = np.cos(up) * np.cos(around), np.cos(up) * np.sin(around)
    return (float(x), float(y), float(np.sin(up)))


def make_day(rng: np.random.Generator, session: int) -> Day:
    """Session 0 is a bright summer's day; the others go through overcast, rain, dusk, haze and low
    sun, in an order that depends on the town."""
    if session == 0:
        light = Light(sun=_toward(rng, 25, 60), clouds=float(rng.uniform(0.05, 0.5)))
        return Day("clear", light, int(rng.integers(2)), 1.0, 1.0)
    names = ("overcast", "wet", "dusk", "haze", "low sun")
    name = names[(session - 1 + int(rng.integers(2))) % len(names)]
    season = int(rng.integers(1, 4))
    leaves = float(rng.uniform(*((0.8, 1.0), (0.7, 0.95), (0.5, 0.8), (0.25, 0.6))[season]))
    light = {
        "overcast": Light(
            sun=_toward(rng, 30, 60),
            sun_rgb=_GREY,
            ambient_rgb=(0.85, 0.88, 0.93),
            horizon_rgb=(0.78, 0.8, 0.83),
            zenith_rgb=(0.66, 0.7, 0.76),
            clouds=1.0,
            haze_m=float(rng.uniform(250, 400)),
        ),
        "wet": Light(
            sun=_toward(rng, 30, 60),
            sun_rgb=_GREY,
            ambient_rgb=(0.6, 0.64, 0.7),
            horizon_rgb=(0.6, 0.63, 0.67),
            zenith_rgb=(0.42, 0.46, 0.52),
            clouds=1.0,
            haze_m=float(rng.uniform(160, 280)),
            wet=float(rng.uniform(0.6, 1.0)),
        ),
        "dusk": Light(
            sun=_toward(rng, 3, 9),
            sun_rgb=(0.55, 0.3, 0.14),
            ambient_rgb=(0.2, 0.22, 0.32),
            horizon_rgb=(0.75, 0.48, 0.34),
            zenith_rgb=(0.16, 0.2, 0.36),
            clouds=float(rng.uniform(0.2, 0.6)),
            haze_m=350.0,
        ),
        "haze": Light(
            sun=_toward(rng, 20, 50),
            sun_rgb=(0.7, 0.66, 0.6),
            ambient_rgb=(0.62, 0.64, 0.68),
            horizon_rgb=(0.82, 0.83, 0.84),
            zenith_rgb=(0.5, 0.58, 0.7),
            clouds=float(rng.uniform(0.3, 0.7)),
            haze_m=float(rng.uniform(90, 150)),
        ),
        "low sun": Light(
            sun=_toward(rng, 10, 22),
            sun_rgb=(1.3, 1.05, 0.72),
            ambient_rgb=(0.36, 0.42, 0.55),
            horizon_rgb=(0.86, 0.8, 0.7),
            clouds=float(rng.uniform(0.0, 0.3)),
        ),
    }[name]
    return Day(name, light, season, leaves, float(rng.uniform(0.72, 1.3)))
