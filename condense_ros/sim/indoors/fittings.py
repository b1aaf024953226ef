"""Fittings and small things of rooms: lamps, plants, boxes, pictures, radiators, stairs.

Frames as in `furniture_office`.
"""

from __future__ import annotations

import numpy as np

from condense_ros.sim.designs import Parts, block, stuff
from condense_ros.sim.indoors import classes_building as c
from condense_ros.sim.indoors.furniture_office import METAL, SOFT
from condense_ros.sim.mesh import leaves, revolve, tube


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
    metal, shade = stuff(rng, c.LAMP, ("plain", "wood")), stuff(rng, c.LAMP, SOFT, 0, 3, 10, 11, 6)
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
    cloth = stuff(rng, c.CURTAIN, SOFT, scale_m=0.3)
    low, high = (np.column_stack([x, y, np.full(13, z)]) for z in (0.12, 2.25))
    fold = np.stack([low[:-1], low[1:], high[1:], high[:-1]], axis=1)
    return [(fold[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3, 3), cloth)]


def clutter(rng: np.random.Generator) -> Parts:
    """A waste bin, a bag, a fire extinguisher, a bucket, a coat stand or a printer."""
    kind = int(rng.integers(6))
    body = stuff(rng, c.CLUTTER, ("plain", "mottle", "stripes"), scale_m=0.15)
    dark = stuff(rng, c.CLUTTER, ("plain",), *METAL)
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
            parts.append((coat, stuff(rng, c.CLUTTER, SOFT)))
        return parts
    return [
        (block(0, 0, 0, 0.5, 0.55, 0.6), body),
        (block(0, 0, 0.62, 0.46, 0.5, 0.35), dark),
        (block(0.1, 0, 0.97, 0.2, 0.4, 0.06), body),
    ]


def stairs(rng: np.random.Generator) -> Parts:
    """A flight of stairs, its foot to the front, with a landing and a hand rail."""
    tread = stuff(rng, c.STAIRS, ("concrete", "planks", "tiles", "plain"), scale_m=0.5)
    rail = stuff(rng, c.STAIRS, ("plain", "wood"), *METAL)
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
