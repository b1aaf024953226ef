"""Furniture of homes: sofas, beds, televisions, kitchens and bathrooms.

Frames as in `furniture_office`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from condense_ros.sim.designs import Parts, block, stuff
from condense_ros.sim.indoors import classes_building as c
from condense_ros.sim.indoors.furniture_office import HARD, METAL, SOFT, cupboard, legs
from condense_ros.sim.mesh import revolve, tube


def sofa(rng: np.random.Generator) -> Parts:
    """A sofa for one to three."""
    wide = float(rng.choice([0.95, 1.6, 2.1])) * float(rng.uniform(0.95, 1.05))
    cloth = stuff(rng, c.SOFA, SOFT, scale_m=0.2)
    cushion = stuff(rng, c.SOFA, SOFT, scale_m=0.2)
    arm, back = float(rng.uniform(0.12, 0.22)), float(rng.uniform(0.75, 0.95))
    parts: Parts = [
        (block(0, 0, 0.08, 0.82, wide, 0.2), cloth),
        (block(-0.33, 0, 0.08, 0.2, wide, back - 0.08), cloth),
        (block(0.02, np.array([-1, 1]) * (wide - arm) / 2, 0.08, 0.82, arm, 0.5), cloth),
    ]
    seats = max(1, round((wide - 2 * arm) / 0.7))
    y = ((np.arange(seats) + 0.5) / seats - 0.5) * (wide - 2 * arm)
    parts.append((block(0.08, y, 0.28, 0.66, (wide - 2 * arm) / seats - 0.02, 0.16), cloth))
    pillow = block(-0.14, float(rng.choice(y)), 0.44, 0.14, 0.42, 0.36)
    parts.append((pillow, cushion))
    parts.append((legs(0.36, wide / 2 - 0.04, 0.1, 0.05), stuff(rng, c.SOFA, ("plain",))))
    return parts


def bed(rng: np.random.Generator) -> Parts:
    """A bed whose head is at -x."""
    wide = float(rng.choice([0.95, 1.45, 1.65]))
    frame = stuff(rng, c.BED, HARD, scale_m=0.3)
    sheet, cover = stuff(rng, c.BED, SOFT, 0, 10, 3), stuff(rng, c.BED, SOFT, scale_m=0.3)
    parts: Parts = [
        (block(0, 0, 0.1, 2.05, wide, 0.2), frame),
        (block(-1.02, 0, 0, 0.05, wide, float(rng.uniform(0.7, 1.1))), frame),
        (block(0.01, 0, 0.3, 1.96, wide - 0.06, 0.18), sheet),
        (block(0.3, 0, 0.34, 1.4, wide + 0.02, 0.2), cover),
        (legs(1.0, wide / 2, 0.12, 0.08), frame),
    ]
    pillows = 1 if wide < 1 else 2
    y = ((np.arange(pillows) + 0.5) / pillows - 0.5) * wide
    parts.append((block(-0.72, y, 0.47, 0.42, 0.6, 0.12), sheet))
    return parts


def bedside(rng: np.random.Generator) -> Parts:
    """A low chest beside a bed, with a lamp on it."""
    high = float(rng.uniform(0.45, 0.6))
    parts = cupboard(rng, 0.4, 0.45, high)
    shade = stuff(rng, c.LAMP, SOFT, 0, 3, 10, 11)
    foot = stuff(rng, c.LAMP, ("plain",))
    parts.append((revolve(np.array([[0.07, 0], [0.02, 0.03], [0.02, 0.22]]) + [0, high], 6), foot))
    parts.append((revolve(np.array([[0.13, 0.2], [0.08, 0.4]]) + [0, high], 10), shade))
    return parts


def television(rng: np.random.Generator) -> Parts:
    """A television on a low board."""
    wide = float(rng.uniform(0.9, 1.35))
    parts = cupboard(rng, 0.4, wide + 0.4, 0.45)
    case = stuff(rng, c.SCREEN, ("plain",), 2, 15, 1)
    face = stuff(
        rng, c.SCREEN, ("mottle", "plain"), 2, 15, 7, scale_m=0.5, reflectance=(0.03, 0.15)
    )
    parts.append((block(-0.05, 0, 0.45, 0.2, 0.5, 0.03), case))
    parts.append((block(-0.05, 0, 0.5, 0.04, wide, wide * 0.58), case))
    parts.append((block(-0.028, 0, 0.52, 0.006, wide - 0.04, wide * 0.58 - 0.04), face))
    return parts


def fridge(rng: np.random.Generator) -> Parts:
    high = float(rng.choice([0.86, 1.5, 1.85]))
    body = stuff(rng, c.REFRIGERATOR, ("plain",), 0, 10, 1, 2, 6, 12)
    metal = stuff(rng, c.REFRIGERATOR, ("plain",), *METAL)
    split = high * float(rng.uniform(0.3, 0.65))
    z, tall = np.array([0.05, split + 0.01]), np.array([split - 0.05, high - split - 0.02])
    return [
        (block(-0.03, 0, 0.02, 0.58, 0.6, high - 0.02), body),
        (block(0.29, 0, z, 0.05, 0.6, tall), body),
        (block(0.33, 0.24, np.array([split - 0.3, split + 0.08]), 0.03, 0.03, 0.22), metal),
    ]


def kitchenette(rng: np.random.Generator) -> Parts:
    """A kitchen counter with sink, hob, tap and cupboards above."""
    wide = float(rng.uniform(1.9, 2.5))
    parts = cupboard(rng, 0.58, wide, 0.86)
    top = stuff(rng, c.TABLE, HARD, scale_m=0.4)
    steel = stuff(rng, c.SINK, ("plain", "mottle"), *METAL)
    y = wide / 2 - 0.45
    parts.append((block(0, 0, 0.86, 0.62, wide, 0.04), top))
    parts.append((block(0, y, 0.9, np.r_[0.44, 0.4], np.r_[0.6, 0.5], np.r_[0.008, 0.012]), steel))
    tap = np.array([[-0.2, y, 0.9], [-0.2, y, 1.15], [-0.02, y, 1.13]])
    parts.append((tube(tap, 0.015, 5), steel))
    hob = stuff(rng, c.CLUTTER, ("plain",), 2, 15)
    parts.append((block(0, -y, 0.9, 0.5, 0.56, 0.012), hob))
    pot = np.array([[0.1, 0.912], [0.11, 0.96], [0.11, 1.03]])
    parts.append((revolve(pot, 10) + [0.1, -y + 0.12, 0], stuff(rng, c.CLUTTER, ("plain",))))
    above, n = stuff(rng, c.CABINET, HARD, scale_m=0.4), max(3, round(wide / 0.5))
    ys = ((np.arange(n) + 0.5) / n - 0.5) * wide
    parts.append((block(-0.12, ys, 1.42, 0.34, wide / n - 0.012, 0.68), above))
    return parts


def basin(rng: np.random.Generator) -> Parts:
    """A wash basin with its tap and a mirror above."""
    white = stuff(rng, c.SINK, ("plain",), 0, 10, 3)
    metal = stuff(rng, c.SINK, ("plain",), *METAL)
    glass = stuff(rng, c.PICTURE, ("mottle",), 12, 10, 0, scale_m=1.0, reflectance=(0.03, 0.1))
    mirror = replace(glass, shine=0.8)
    bowl = np.array([[0.08, 0.66], [0.22, 0.78], [0.26, 0.86], [0.24, 0.87], [0.15, 0.8]])
    parts: Parts = [(revolve(bowl, 12) * [0.8, 1, 1], white)]
    parts.append(
        (revolve(np.array([[0.1, 0], [0.07, 0.4], [0.08, 0.68]]), 8) - [0.05, 0, 0], white)
    )
    parts.append(
        (tube(np.array([[-0.19, 0, 0.84], [-0.18, 0, 0.98], [-0.06, 0, 0.97]]), 0.015, 5), metal)
    )
    parts.append((block(-0.24, 0, 1.15, 0.02, 0.55, 0.7), mirror))
    return parts


def toilet(rng: np.random.Generator) -> Parts:
    white = stuff(rng, c.TOILET, ("plain",), 0, 10, 3, 12)
    bowl = np.array([[0.12, 0], [0.1, 0.2], [0.19, 0.36], [0.2, 0.4], [0.12, 0.41]])
    return [
        (revolve(bowl, 12) * [1.2, 0.95, 1] + [0.12, 0, 0], white),
        (block(-0.22, 0, 0.36, 0.18, 0.38, 0.4), white),
        (block(-0.1, 0, 0, 0.2, 0.2, 0.38), white),
        (block(-0.1, 0, 0.42, 0.03, 0.36, 0.38), stuff(rng, c.TOILET, ("plain",))),
    ]


def bathtub(rng: np.random.Generator) -> Parts:
    """A tub along y, open above."""
    white, deep, wide = stuff(rng, c.BATHTUB, ("plain", "tiles"), 0, 10, 3, 12), 0.75, 1.6
    rim = np.array([-1, 1])
    return [
        (block(0, 0, 0.02, deep, wide, 0.14), white),
        (block(rim * (deep / 2 - 0.04), 0, 0.02, 0.08, wide, 0.54), white),
        (block(0, rim * (wide / 2 - 0.05), 0.02, deep, 0.1, 0.54), white),
        (tube(np.array([[-0.3, 0.7, 0.5], [-0.3, 0.7, 1.9], [-0.1, 0.7, 2.0]]), 0.015, 5),
         stuff(rng, c.BATHTUB, ("plain",), *METAL)),
    ]  # fmt: skip
