"""Furniture and fittings of rooms, each made from its asset's generator.

Frames: x to the front (where one stands to use it), z up, the floor or the wall mount at z = 0 or
at the height where the thing hangs.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from condense_ros.geometry import Array
from condense_ros.sim import classes_building as c
from condense_ros.sim.designs import Parts, block, stuff
from condense_ros.sim.figures import person
from condense_ros.sim.materials import Surface
from condense_ros.sim.mesh import leaves, revolve, tube

_HARD = ("plain", "wood", "planks", "mottle", "plain")
_SOFT = ("cloth", "plain", "stripes", "checker", "mottle")
_METAL = (0, 1, 2, 10, 12, 15)


def _legs(x: float, y: float, top: float, thick: float) -> Array:
    sx, sy = np.array([-1, -1, 1, 1]) * (x - thick), np.array([-1, 1, -1, 1]) * (y - thick)
    return block(sx, sy, 0, thick, thick, top)


def desk(rng: np.random.Generator) -> Parts:
    """A desk one sits at from +x, with a drawer unit under it."""
    deep, wide, high = rng.uniform(0.65, 0.8), rng.uniform(1.3, 1.8), rng.uniform(0.71, 0.76)
    top, frame = stuff(rng, c.DESK, _HARD, scale_m=0.4), stuff(rng, c.DESK, ("plain",), *_METAL)
    parts: Parts = [(block(0, 0, high - 0.03, deep, wide, 0.03), top)]
    if rng.random() < 0.5:
        parts.append((_legs(deep / 2, wide / 2, high - 0.03, 0.05), frame))
    else:
        sides = np.array([-1, 1]) * (wide / 2 - 0.02)
        parts.append((block(0, sides, 0, deep * 0.9, 0.03, high - 0.03), top))
        parts.append((block(-deep * 0.4, 0, 0.25, 0.02, wide - 0.06, high - 0.3), top))
    drawers = stuff(rng, c.CABINET, _HARD)
    side = float(rng.choice([-1, 1])) * (wide / 2 - 0.28)
    parts.append((block(0, side, 0.05, deep * 0.8, 0.42, 0.52), drawers))
    handles = block(deep * 0.41, side, np.array([0.2, 0.36, 0.5]), 0.02, 0.16, 0.02)
    parts.append((handles, frame))
    return parts


def office_chair(rng: np.random.Generator) -> Parts:
    """A swivel chair on five castors."""
    seat = stuff(rng, c.CHAIR, _SOFT, scale_m=0.15)
    frame = stuff(rng, c.CHAIR, ("plain",), *_METAL)
    parts: Parts = [(revolve(np.array([[0.03, 0.06], [0.025, 0.44]]), 6), frame)]
    for angle in np.arange(5) * 1.2566:
        end = np.array([0.3 * np.cos(angle), 0.3 * np.sin(angle), 0.05])
        parts.append((tube(np.array([[0, 0, 0.09], end]), 0.022, 4), frame))
        parts.append((block(end[0], end[1], 0, 0.05, 0.05, 0.06), frame))
    parts.append((block(0, 0, 0.44, 0.48, 0.48, 0.07), seat))
    high = float(rng.uniform(0.4, 0.65))
    parts.append((tube(np.array([[-0.2, 0, 0.44], [-0.28, 0, 0.75]]), 0.025, 4), frame))
    parts.append((block(-0.27, 0, 0.56, 0.05, 0.44, high), seat))
    if rng.random() < 0.6:
        for y in (-0.27, 0.27):
            parts.append((block(0, y, 0.64, 0.26, 0.05, 0.03), frame))
            parts.append((block(0, y, 0.48, 0.04, 0.03, 0.16), frame))
    return parts


def chair(rng: np.random.Generator) -> Parts:
    """A chair on four legs."""
    wood = stuff(rng, c.CHAIR, _HARD, scale_m=0.2)
    seat = stuff(rng, c.CHAIR, _SOFT, scale_m=0.12) if rng.random() < 0.6 else wood
    high = float(rng.uniform(0.36, 0.55))
    parts: Parts = [
        (_legs(0.21, 0.21, 0.44, 0.035), wood),
        (block(0, 0, 0.43, 0.43, 0.43, 0.04), seat),
    ]
    parts.append((block(-0.2, np.array([-0.19, 0.19]), 0.45, 0.03, 0.03, high), wood))
    if rng.random() < 0.5:
        slats = np.linspace(0.6, 0.4 + high, 3)
        parts.append((block(-0.2, 0, slats, 0.02, 0.38, 0.06), wood))
    else:
        parts.append((block(-0.2, 0, 0.55, 0.03, 0.4, high - 0.12), seat))
    return parts


def table(rng: np.random.Generator, long_m: float, wide_m: float, high: float = 0.74) -> Parts:
    """A table, rectangular and long along x, or round where it is nearly square."""
    top, frame = stuff(rng, c.TABLE, _HARD, scale_m=0.5), stuff(rng, c.TABLE, _HARD)
    if long_m / wide_m < 1.2 and rng.random() < 0.6:
        r = wide_m / 2
        disc = np.array([[r - 0.01, high - 0.03], [r, high - 0.015], [r - 0.01, high]])
        column = np.array([[0.28, 0], [0.26, 0.03], [0.05, 0.06], [0.05, high - 0.02]])
        return [(revolve(disc, 20), top), (revolve(column, 8), frame)]
    parts: Parts = [(block(0, 0, high - 0.035, long_m, wide_m, 0.035), top)]
    if rng.random() < 0.6:
        parts.append((_legs(long_m / 2, wide_m / 2, high - 0.035, 0.06), frame))
    else:
        x = np.array([-1, 1]) * long_m * 0.3
        parts.append((block(x, 0, 0.04, 0.08, 0.08, high - 0.08), frame))
        parts.append((block(x, 0, 0, 0.1, wide_m * 0.7, 0.04), frame))
    return parts


def shelf(rng: np.random.Generator) -> Parts:
    """A rack of boards, open to the front, with books, folders and a few boxes."""
    deep, wide, high = rng.uniform(0.28, 0.36), rng.uniform(0.8, 1.2), rng.uniform(1.5, 2.1)
    wood = stuff(rng, c.SHELF, _HARD, scale_m=0.25)
    levels = np.linspace(0.06, high - 0.03, int(rng.integers(5, 7)))
    parts: Parts = [
        (block(0, 0, levels, deep, wide, 0.025), wood),
        (block(0, np.array([-1, 1]) * wide / 2, 0, deep, 0.025, high), wood),
    ]
    if rng.random() < 0.6:
        parts.append((block(-deep / 2, 0, 0, 0.01, wide, high), wood))
    for z, above in pairwise(levels):
        start = -wide / 2 + 0.03
        while start < wide / 2 - 0.15:
            run = min(float(rng.uniform(0.15, 0.5)), wide / 2 - 0.03 - start)
            draw = rng.random()
            if draw < 0.7:
                parts.append(_books(rng, deep, start, run, z + 0.025, above - z - 0.05))
            elif draw < 0.8:
                stuffed = stuff(rng, c.BOX, ("plain", "mottle", "stripes"))
                tall = (above - z) * float(rng.uniform(0.4, 0.8))
                at = block(0, start + run / 2, z + 0.025, deep * 0.8, run * 0.8, tall)
                parts.append((at, stuffed))
            start += run + float(rng.uniform(0.0, 0.1))
    return parts


def _books(
    rng: np.random.Generator, deep: float, start: float, run: float, z: float, room: float
) -> tuple[Array, Surface]:
    """One row of upright books between y = start and start + run."""
    count = max(2, int(run / 0.045))
    y = start + (np.arange(count) + 0.5) * run / count
    tall = room * rng.uniform(0.6, 0.95, count)
    thick = run / count * rng.uniform(0.7, 0.96, count)
    depth = deep * rng.uniform(0.55, 0.8, count)
    spines = stuff(rng, c.BOOKS, ("stripes", "checker", "plain", "mottle"), scale_m=0.08)
    return block(depth / 2 - deep / 2 + 0.02, y, z, depth, thick, tall), spines


def cabinet(rng: np.random.Generator) -> Parts:
    """A cupboard or sideboard with doors and handles."""
    high = float(rng.choice([0.85, 1.2, 1.95]) * rng.uniform(0.92, 1.08))
    return _cupboard(rng, rng.uniform(0.38, 0.5), rng.uniform(0.8, 1.3), high)


def wardrobe(rng: np.random.Generator) -> Parts:
    """A wardrobe of a bedroom."""
    return _cupboard(rng, rng.uniform(0.55, 0.62), rng.uniform(1.0, 1.7), rng.uniform(1.9, 2.25))


def _cupboard(rng: np.random.Generator, deep: float, wide: float, high: float) -> Parts:
    body, metal = (
        stuff(rng, c.CABINET, _HARD, scale_m=0.4),
        stuff(rng, c.CABINET, ("plain",), *_METAL),
    )
    front = body if rng.random() < 0.5 else stuff(rng, c.CABINET, _HARD, scale_m=0.4)
    parts: Parts = [(block(-0.02, 0, 0, deep - 0.04, wide - 0.02, high), body)]
    doors = max(2, round(wide / 0.5))
    y = (np.arange(doors) + 0.5) * wide / doors - wide / 2
    parts.append((block(deep / 2 - 0.03, y, 0.08, 0.02, wide / doors - 0.012, high - 0.1), front))
    grip = y + np.where(np.arange(doors) % 2 == 0, 1, -1) * (wide / doors / 2 - 0.06)
    parts.append((block(deep / 2 - 0.01, grip, high * 0.45, 0.02, 0.02, 0.16), metal))
    return parts


def sofa(rng: np.random.Generator) -> Parts:
    """A sofa for one to three."""
    wide = float(rng.choice([0.95, 1.6, 2.1])) * float(rng.uniform(0.95, 1.05))
    cloth = stuff(rng, c.SOFA, _SOFT, scale_m=0.2)
    cushion = stuff(rng, c.SOFA, _SOFT, scale_m=0.2)
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
    parts.append((_legs(0.36, wide / 2 - 0.04, 0.1, 0.05), stuff(rng, c.SOFA, ("plain",))))
    return parts


def bed(rng: np.random.Generator) -> Parts:
    """A bed whose head is at -x."""
    wide = float(rng.choice([0.95, 1.45, 1.65]))
    frame = stuff(rng, c.BED, _HARD, scale_m=0.3)
    sheet, cover = stuff(rng, c.BED, _SOFT, 0, 10, 3), stuff(rng, c.BED, _SOFT, scale_m=0.3)
    parts: Parts = [
        (block(0, 0, 0.1, 2.05, wide, 0.2), frame),
        (block(-1.02, 0, 0, 0.05, wide, float(rng.uniform(0.7, 1.1))), frame),
        (block(0.01, 0, 0.3, 1.96, wide - 0.06, 0.18), sheet),
        (block(0.3, 0, 0.34, 1.4, wide + 0.02, 0.2), cover),
        (_legs(1.0, wide / 2, 0.12, 0.08), frame),
    ]
    pillows = 1 if wide < 1 else 2
    y = ((np.arange(pillows) + 0.5) / pillows - 0.5) * wide
    parts.append((block(-0.72, y, 0.47, 0.42, 0.6, 0.12), sheet))
    return parts


def bedside(rng: np.random.Generator) -> Parts:
    """A low chest beside a bed, with a lamp on it."""
    high = float(rng.uniform(0.45, 0.6))
    parts = _cupboard(rng, 0.4, 0.45, high)
    shade = stuff(rng, c.LAMP, _SOFT, 0, 3, 10, 11)
    foot = stuff(rng, c.LAMP, ("plain",))
    parts.append((revolve(np.array([[0.07, 0], [0.02, 0.03], [0.02, 0.22]]) + [0, high], 6), foot))
    parts.append((revolve(np.array([[0.13, 0.2], [0.08, 0.4]]) + [0, high], 10), shade))
    return parts


def fridge(rng: np.random.Generator) -> Parts:
    high = float(rng.choice([0.86, 1.5, 1.85]))
    body = stuff(rng, c.REFRIGERATOR, ("plain",), 0, 10, 1, 2, 6, 12)
    metal = stuff(rng, c.REFRIGERATOR, ("plain",), *_METAL)
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
    parts = _cupboard(rng, 0.58, wide, 0.86)
    top = stuff(rng, c.TABLE, _HARD, scale_m=0.4)
    steel = stuff(rng, c.SINK, ("plain", "mottle"), *_METAL)
    y = wide / 2 - 0.45
    parts.append((block(0, 0, 0.86, 0.62, wide, 0.04), top))
    parts.append((block(0, y, 0.9, np.r_[0.44, 0.4], np.r_[0.6, 0.5], np.r_[0.008, 0.012]), steel))
    tap = np.array([[-0.2, y, 0.9], [-0.2, y, 1.15], [-0.02, y, 1.13]])
    parts.append((tube(tap, 0.015, 5), steel))
    hob = stuff(rng, c.CLUTTER, ("plain",), 2, 15)
    parts.append((block(0, -y, 0.9, 0.5, 0.56, 0.012), hob))
    pot = np.array([[0.1, 0.912], [0.11, 0.96], [0.11, 1.03]])
    parts.append((revolve(pot, 10) + [0.1, -y + 0.12, 0], stuff(rng, c.CLUTTER, ("plain",))))
    above, n = stuff(rng, c.CABINET, _HARD, scale_m=0.4), max(3, round(wide / 0.5))
    ys = ((np.arange(n) + 0.5) / n - 0.5) * wide
    parts.append((block(-0.12, ys, 1.42, 0.34, wide / n - 0.012, 0.68), above))
    return parts


def basin(rng: np.random.Generator) -> Parts:
    """A wash basin with its tap and a mirror above."""
    white = stuff(rng, c.SINK, ("plain",), 0, 10, 3)
    metal = stuff(rng, c.SINK, ("plain",), *_METAL)
    mirror = stuff(
        rng, c.PICTURE, ("mottle",), 12, 10, 0, scale_m=1.0, reflectance=(0.03, 0.1), glass=0.5
    )
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
         stuff(rng, c.BATHTUB, ("plain",), *_METAL)),
    ]  # fmt: skip


def monitor(rng: np.random.Generator) -> Parts:
    """A screen on a foot that stands on a desk."""
    wide = float(rng.uniform(0.48, 0.68))
    case = stuff(rng, c.SCREEN, ("plain",), *_METAL)
    face = stuff(
        rng,
        c.SCREEN,
        ("plain", "checker", "stripes", "tiles"),
        scale_m=0.1,
        reflectance=(0.03, 0.2),
    )
    return [
        (block(0, 0, 0, 0.2, 0.24, 0.015), case),
        (block(-0.04, 0, 0.01, 0.03, 0.06, 0.2), case),
        (block(0, 0, 0.12, 0.03, wide, wide * 0.58), case),
        (block(0.016, 0, 0.132, 0.006, wide - 0.03, wide * 0.58 - 0.03), face),
    ]


def television(rng: np.random.Generator) -> Parts:
    """A television on a low board."""
    wide = float(rng.uniform(0.9, 1.35))
    parts = _cupboard(rng, 0.4, wide + 0.4, 0.45)
    case = stuff(rng, c.SCREEN, ("plain",), 2, 15, 1)
    face = stuff(
        rng, c.SCREEN, ("mottle", "plain"), 2, 15, 7, scale_m=0.5, reflectance=(0.03, 0.15)
    )
    parts.append((block(-0.05, 0, 0.45, 0.2, 0.5, 0.03), case))
    parts.append((block(-0.05, 0, 0.5, 0.04, wide, wide * 0.58), case))
    parts.append((block(-0.028, 0, 0.52, 0.006, wide - 0.04, wide * 0.58 - 0.04), face))
    return parts


def keyboard(rng: np.random.Generator) -> Parts:
    """Keyboard, papers and a cup."""
    paper = stuff(rng, c.CLUTTER, ("stripes", "plain"), 0, 10, scale_m=0.02)
    cup = np.array([[0.035, 0], [0.04, 0.09]])
    y = float(rng.uniform(0.3, 0.5)) * float(rng.choice([-1, 1]))
    return [
        (
            block(0, 0, 0, 0.15, 0.42, 0.02),
            stuff(rng, c.CLUTTER, ("checker", "plain"), scale_m=0.02),
        ),
        (block(0.05, y, 0, 0.3, 0.21, 0.012), paper),
        (revolve(cup, 8) + [-0.15, y, 0], stuff(rng, c.CLUTTER, ("plain", "stripes"))),
    ]


def desk_lamp(rng: np.random.Generator) -> Parts:
    metal, shade = stuff(rng, c.LAMP, ("plain",)), stuff(rng, c.LAMP, ("plain",))
    arm = np.array([[0, 0, 0.02], [-0.1, 0, 0.28], [0.12, 0, 0.45]])
    return [
        (revolve(np.array([[0.08, 0], [0.08, 0.02]]), 8), metal),
        (tube(arm, 0.012, 5), metal),
        (revolve(np.array([[0.08, 0.38], [0.03, 0.47]]), 8) + [0.14, 0, 0], shade),
    ]


def floor_lamp(rng: np.random.Generator) -> Parts:
    high = float(rng.uniform(1.4, 1.8))
    metal, shade = stuff(rng, c.LAMP, ("plain", "wood")), stuff(rng, c.LAMP, _SOFT, 0, 3, 10, 11, 6)
    foot = np.array([[0.15, 0], [0.14, 0.03], [0.015, 0.05], [0.015, high - 0.1]])
    cone = np.array([[0.2, high - 0.28], [0.13, high]])
    return [(revolve(foot, 8), metal), (revolve(cone, 12), shade)]


def ceiling_panel(rng: np.random.Generator) -> Parts:
    """A panel lamp under a ceiling at z = 0."""
    size = rng.choice([[0.6, 0.6], [1.2, 0.3], [1.2, 0.15]])
    case, face = (
        stuff(rng, c.LAMP, ("plain",), 0, 10, 1),
        stuff(rng, c.LAMP, ("plain", "tiles"), 10, 0, scale_m=0.1),
    )
    x, y = float(size[0]), float(size[1])
    return [
        (block(0, 0, -0.05, x, y, 0.049), case),
        (block(0, 0, -0.06, x - 0.05, y - 0.05, 0.012), face),
    ]


def pendant(rng: np.random.Generator) -> Parts:
    """A lamp hanging from a ceiling at z = 0."""
    drop, r = float(rng.uniform(0.3, 0.6)), float(rng.uniform(0.14, 0.26))
    shade = stuff(rng, c.LAMP, ("plain", "cloth", "stripes"))
    cord = tube(np.array([[0, 0, -drop], [0, 0, -0.001]]), 0.008, 4)
    bell = np.array([[r, -drop - 0.18], [0.7 * r, -drop - 0.02], [0.04, -drop]])
    return [(cord, shade), (revolve(bell, 12), shade)]


def plant(rng: np.random.Generator) -> Parts:
    """A pot plant, 0.4 to 1.7 m high."""
    high, pot = float(rng.uniform(0.4, 1.7)), float(rng.uniform(0.13, 0.2))
    clay = stuff(rng, c.PLANT, ("plain", "stripes", "mottle"))
    leaf = stuff(rng, c.PLANT, ("leaf",), 8, 9, 13, 11, scale_m=0.3)
    stem = stuff(rng, c.PLANT, ("mottle",), 5, 13, 9)
    base = 1.6 * pot
    parts: Parts = [
        (revolve(np.array([[0.75 * pot, 0], [pot, base], [0.85 * pot, base]]), 10), clay)
    ]
    parts.append(
        (tube(np.array([[0, 0, base - 0.02], [0.02, 0.01, base + 0.75 * high]]), 0.015, 5), stem)
    )
    n = int(50 + 70 * high)
    angle, up = rng.uniform(0, 2 * np.pi, n), rng.uniform(0.15, 1, n)
    reach = np.sqrt(rng.uniform(0.05, 1, n)) * (0.14 + 0.16 * high) * (1.2 - 0.6 * up)
    centres = np.column_stack([reach * np.cos(angle), reach * np.sin(angle), base + up * high])
    parts.append((leaves(centres, rng.uniform(0.08, 0.2, n), rng), leaf))
    return parts


def box(rng: np.random.Generator) -> Parts:
    """A cardboard or plastic box, some with a second on top."""
    size = rng.uniform([0.25, 0.3, 0.2], [0.5, 0.6, 0.45])
    card = stuff(rng, c.BOX, ("plain", "mottle", "stripes"), scale_m=0.2)
    parts: Parts = [(block(0, 0, 0, size[0], size[1], size[2]), card)]
    tape = block(0, 0, size[2], 0.06, size[1], 0.002)
    parts.append((tape, stuff(rng, c.BOX, ("plain",))))
    if rng.random() < 0.4:
        less = size * rng.uniform(0.6, 0.95, 3)
        parts.append(
            (
                block(0, 0, size[2], less[0], less[1], less[2]),
                stuff(rng, c.BOX, ("plain", "mottle")),
            )
        )
    return parts


def picture(rng: np.random.Generator) -> Parts:
    """A framed picture, poster or notice board; it hangs on a wall at x = 0, centre at z = 1.5."""
    wide, high = rng.uniform(0.35, 1.3), rng.uniform(0.35, 0.9)
    frame = stuff(rng, c.PICTURE, ("plain", "wood"))
    image = stuff(rng, c.PICTURE, ("mottle", "checker", "stripes", "tiles", "leaf"), scale_m=0.25)
    return [
        (block(0.012, 0, 1.55 - high / 2, 0.024, wide, high), frame),
        (block(0.026, 0, 1.58 - high / 2, 0.006, wide - 0.06, high - 0.06), image),
    ]


def whiteboard(rng: np.random.Generator) -> Parts:
    """A white board of a meeting room on a wall at x = 0."""
    wide = float(rng.uniform(1.4, 2.2))
    white, rail = (
        stuff(rng, c.PICTURE, ("plain",), 0, 10, 8),
        stuff(rng, c.PICTURE, ("plain",), *_METAL),
    )
    return [
        (block(0.015, 0, 0.95, 0.03, wide, 1.1), white),
        (block(0.05, 0, 0.92, 0.08, wide * 0.9, 0.02), rail),
    ]


def radiator(rng: np.random.Generator) -> Parts:
    """Fins under a window; the wall at x = 0."""
    wide, high = float(rng.uniform(0.9, 1.4)), float(rng.uniform(0.5, 0.62))
    white = stuff(rng, c.RADIATOR, ("plain",), 0, 10, 3, 1)
    fins = np.arange(-wide / 2, wide / 2, 0.06)
    return [
        (block(0.07, fins, 0.12, 0.1, 0.035, high), white),
        (block(0.06, 0, np.array([0.18, high + 0.02]), 0.05, wide, 0.03), white),
    ]


def curtain(rng: np.random.Generator) -> Parts:
    """One drawn curtain, folded, along a wall at x = 0; 2.2 m high."""
    wide = float(rng.uniform(0.35, 0.6))
    y = np.linspace(-wide / 2, wide / 2, 13)
    x = 0.1 + 0.035 * np.where(np.arange(13) % 2, 1, -1)
    cloth = stuff(rng, c.CURTAIN, _SOFT, scale_m=0.3)
    low, high = (np.column_stack([x, y, np.full(13, z)]) for z in (0.12, 2.25))
    fold = np.stack([low[:-1], low[1:], high[1:], high[:-1]], axis=1)
    return [(fold[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3, 3), cloth)]


def clutter(rng: np.random.Generator) -> Parts:
    """A waste bin, a bag, a fire extinguisher, a bucket, a coat stand or a printer."""
    kind = int(rng.integers(6))
    body = stuff(rng, c.CLUTTER, ("plain", "mottle", "stripes"), scale_m=0.15)
    dark = stuff(rng, c.CLUTTER, ("plain",), *_METAL)
    if kind == 0:
        return [(revolve(np.array([[0.12, 0], [0.16, 0.36], [0.14, 0.36]]), 10), body)]
    if kind == 1:
        bag = tube(
            np.array([[0, -0.22, 0.16], [0, 0, 0.19], [0, 0.22, 0.16]]), [0.13, 0.17, 0.13], 8
        )
        return [(bag, body)]
    if kind == 2:
        bottle = np.array([[0.08, 0.0], [0.08, 0.45], [0.03, 0.52], [0.03, 0.58]])
        hose = tube(np.array([[0.03, 0, 0.55], [0.12, 0, 0.45], [0.11, 0, 0.2]]), 0.012, 4)
        return [(revolve(bottle, 10), body), (hose, dark)]
    if kind == 3:
        return [(revolve(np.array([[0.12, 0], [0.15, 0.28], [0.13, 0.28]]), 10), body),
                (tube(np.array([[0.1, 0, 0.02], [0.02, 0.02, 1.2]]), 0.014, 5), dark)]  # fmt: skip
    if kind == 4:
        parts: Parts = [(tube(np.array([[0, 0, 0.03], [0, 0, 1.75]]), 0.022, 6), dark)]
        parts.append((revolve(np.array([[0.2, 0], [0.19, 0.03]]), 8), dark))
        for angle in np.arange(3) * 2.1:
            out = np.array([np.cos(angle), np.sin(angle), 0])
            coat = tube(
                np.array([[0, 0, 1.68], [0, 0, 1.3], [0, 0, 0.85]]) + 0.12 * out,
                [0.05, 0.11, 0.1],
                6,
            )
            parts.append((coat, stuff(rng, c.CLUTTER, _SOFT)))
        return parts
    return [
        (block(0, 0, 0, 0.5, 0.55, 0.6), body),
        (block(0, 0, 0.62, 0.46, 0.5, 0.35), dark),
        (block(0.1, 0, 0.97, 0.2, 0.4, 0.06), body),
    ]


def stairs(rng: np.random.Generator) -> Parts:
    """A flight of stairs, its foot to the front, with a landing and a hand rail."""
    tread = stuff(rng, c.STAIRS, ("concrete", "planks", "tiles", "plain"), scale_m=0.5)
    rail = stuff(rng, c.STAIRS, ("plain", "wood"), *_METAL)
    steps = np.arange(9)
    parts: Parts = [
        (block(1.6 - 0.28 * steps, 0, 0, 0.28, 1.9, 0.17 * (steps + 1)), tread),
        (block(-1.245, 0, 0, 0.99, 1.9, 1.53 + 0.17), tread),
    ]
    for y in (-0.92, 0.92):
        hand = np.array([[1.6, y, 1.05], [-0.7, y, 2.45]])
        parts.append((tube(hand, 0.025, 6), rail))
        posts = np.linspace(0, 1, 5)[:, None]
        for x, _, z in hand[0] + posts * (hand[1] - hand[0]):
            parts.append((block(x, y, z - 0.95, 0.03, 0.03, 0.95), rail))
    return parts


#: makers of all furniture by kind
MAKERS: dict[str, Callable[[np.random.Generator], Parts]] = {
    "desk": desk,
    "office_chair": office_chair,
    "chair": chair,
    "meeting_table": lambda rng: table(rng, rng.uniform(1.9, 2.3), rng.uniform(0.9, 1.05)),
    "dining_table": lambda rng: table(rng, rng.uniform(0.9, 1.3), rng.uniform(0.85, 0.95)),
    "coffee_table": lambda rng: table(
        rng, rng.uniform(0.7, 1.0), rng.uniform(0.55, 0.65), rng.uniform(0.38, 0.48)
    ),
    "shelf": shelf,
    "cabinet": cabinet,
    "wardrobe": wardrobe,
    "sofa": sofa,
    "bed": bed,
    "bedside": bedside,
    "fridge": fridge,
    "kitchenette": kitchenette,
    "basin": basin,
    "toilet": toilet,
    "bathtub": bathtub,
    "monitor": monitor,
    "television": television,
    "keyboard": keyboard,
    "desk_lamp": desk_lamp,
    "floor_lamp": floor_lamp,
    "ceiling_panel": ceiling_panel,
    "pendant": pendant,
    "plant": plant,
    "box": box,
    "picture": picture,
    "whiteboard": whiteboard,
    "radiator": radiator,
    "curtain": curtain,
    "clutter": clutter,
    "stairs": stairs,
    "person_standing": person(c.PERSON, "standing"),
    "person_sitting": person(c.PERSON, "sitting"),
    "person_walking": person(c.PERSON, "walking"),
}
