"""Models of buildings: facades of bays with recessed windows and doors, relief, and roofs.

A house belongs to a style. Houses of one style and width are the same model, and rows of them are
what makes places alias.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from condense_ros.geometry import Array
from condense_ros.sim.designs import asset_rng
from condense_ros.sim.materials import Surface
from condense_ros.sim.mesh import boxes, pose2d, quads, tube
from condense_ros.sim.town import classes
from condense_ros.sim.town.assets import Assets, Model, Shapes


@dataclass(frozen=True)
class Style:
    """What the houses of one row have in common. Lengths in metres.

    `roof` is "gable", "flat" or "hip"; `extra` is "none", "balcony" or "oriel"; `relief` says which
    of plinth, string courses, shutters, mullions and shop windows the front has.
    """

    floors: int
    floor_m: float
    bay_m: float
    window_w: float
    window_h: float
    sill_m: float
    recess_m: float
    roof: str
    roof_m: float
    extra: str
    every: int
    depth_m: float
    relief: frozenset[str]


@lru_cache(maxsize=512)
def style(name: str) -> Style:
    """The style of a house asset."""
    rng = asset_rng(name)
    floor, bay = float(rng.uniform(2.7, 3.5)), float(rng.uniform(2.3, 3.7))
    parts = ("plinth", "courses", "shutters", "mullions", "shop", "pilasters", "canopy")
    chance = (0.7, 0.5, 0.3, 0.8, 0.25, 0.25, 0.5)
    relief = [part for part, p in zip(parts, chance, strict=True) if rng.random() < p]
    return Style(
        floors=int(rng.choice([1, 2, 3, 4, 5], p=[0.1, 0.36, 0.3, 0.16, 0.08])),
        floor_m=floor,
        bay_m=bay,
        window_w=float(rng.uniform(0.36, 0.58)) * bay,
        window_h=float(rng.uniform(0.42, 0.6)) * floor,
        sill_m=float(rng.uniform(0.2, 0.3)) * floor,
        recess_m=float(rng.uniform(0.1, 0.32)),
        roof=str(rng.choice(["gable", "flat", "hip"], p=[0.5, 0.3, 0.2])),
        roof_m=float(rng.uniform(1.8, 4.0)),
        extra=str(rng.choice(["none", "balcony", "oriel"], p=[0.45, 0.32, 0.23])),
        every=int(rng.integers(1, 4)),
        depth_m=float(rng.uniform(8, 12)),
        relief=frozenset(relief),
    )


def house_look(assets: Assets, name: str, tone: int) -> dict[str, Surface]:
    """Paints of a style's houses in one of its tones."""
    b, rng = classes.BUILDING, asset_rng(f"{name} paint {tone}")
    texture = str(rng.choice(["brick", "render", "concrete", "planks", "tiles", "mottle"]))
    size = {"brick": 0.28, "tiles": 0.9, "planks": 0.3, "mottle": 2.0}.get(texture, 1.0)
    return {
        "wall": assets.paint(rng, b, texture, (), (0, 1, 3, 10), scale_m=size),
        "trim": assets.paint(rng, b, "plain concrete wood", (0, 2, 10, 5, 8)),
        "door": assets.paint(rng, b, "planks wood plain", scale_m=0.2),
        "glass": assets.paint(
            rng,
            b,
            "mottle",
            (2, 12, 15),
            (12, 1),
            scale_m=1.5,
            reflectance=(0.03, 0.15),
            glass=0.6,
            contrast=0.4,
        ),
        "roof": assets.paint(rng, b, "stripes brick asphalt", (4, 2, 5, 1), (4, 2, 6), scale_m=0.3),
        "metal": assets.paint(rng, b, "plain", (1, 2, 8, 12, 4)),
    }


def _panel(shapes: Shapes, T: Array, x: Array, z: Array, hole: Array, recess: float) -> None:
    """Wall panels in the plane y = 0 (outside is -y), each with a recessed opening.

    x, z: (P, 2) extents of the panels; hole: (P, 4) x0, x1, z0, z1 of the openings.
    """
    n = len(x)

    def corner(px: Array, py: float, pz: Array) -> Array:
        return np.stack([px, np.full(n, py), pz], axis=1)

    def quad(x0: Array, z0: Array, x1: Array, z1: Array, y: float) -> Array:
        return np.stack(
            [corner(x0, y, z0), corner(x1, y, z0), corner(x1, y, z1), corner(x0, y, z1)], axis=1
        )

    hx0, hx1, hz0, hz1 = hole.T
    (x0, x1), (z0, z1) = x.T, z.T
    wall = [
        quad(x0, z0, hx0, z1, 0),
        quad(hx1, z0, x1, z1, 0),
        quad(hx0, z0, hx1, hz0, 0),
        quad(hx0, hz1, hx1, z1, 0),
    ]
    reveal = []
    for ax, az, bx, bz in (
        (hx0, hz0, hx1, hz0),
        (hx1, hz0, hx1, hz1),
        (hx1, hz1, hx0, hz1),
        (hx0, hz1, hx0, hz0),
    ):
        reveal.append(
            np.stack(
                [
                    corner(ax, 0, az),
                    corner(bx, 0, bz),
                    corner(bx, recess, bz),
                    corner(ax, recess, az),
                ],
                axis=1,
            )
        )
    walls = np.concatenate(wall)
    area = np.linalg.norm(np.cross(walls[:, 1] - walls[:, 0], walls[:, 3] - walls[:, 0]), axis=1)
    shapes.add("wall", quads(walls[area > 1e-6]), T)
    shapes.add("trim", quads(np.concatenate(reveal)), T)
    shapes.add("glass", quads(quad(hx0, hz0, hx1, hz1, recess)), T)


@lru_cache(maxsize=256)
def house(name: str, bays: int) -> Model:
    """A house whose street front runs along x at y = 0, from 0 to its width; it stands on y > 0.

    Args:
        bays: windows side by side; the house is `bays` times the style's `bay_m` wide.
    """
    look, rng, shapes = style(name), asset_rng(f"{name} bays {bays}"), Shapes()
    width, depth = bays * look.bay_m, look.depth_m
    eaves = look.floors * look.floor_m + 0.3
    door = int(rng.integers(bays))
    fronts = [(np.eye(4), width), (pose2d(width, depth, np.pi), width)]
    fronts += [(pose2d(width, 0, np.pi / 2), depth), (pose2d(0, depth, -np.pi / 2), depth)]
    for number, (T, span) in enumerate(fronts):
        if number and rng.random() < 0.4:
            blank = np.array([[0, 0, -1.5], [span, 0, -1.5], [span, 0, eaves], [0, 0, eaves]])
            shapes.add("wall", quads(blank), T)
            continue
        _facade(shapes, T, look, span, eaves, door if number == 0 else None)
    _relief(shapes, look, width, eaves, door)
    _extras(shapes, look, bays, door)
    _roof(shapes, look, width, depth, eaves, rng)
    return shapes.model()


def _facade(
    shapes: Shapes, T: Array, look: Style, span: float, eaves: float, door: int | None
) -> None:
    bays = max(1, round(span / look.bay_m))
    bay = span / bays
    i, f = (g.ravel() for g in np.meshgrid(np.arange(bays), np.arange(look.floors), indexing="ij"))
    x0, z0 = i * bay, 0.3 + f * look.floor_m
    x = np.stack([x0, x0 + bay], axis=1)
    top = np.where(f == look.floors - 1, eaves, z0 + look.floor_m)
    z = np.stack([np.where(f == 0, -1.5, z0), top], 1)
    w = np.full(len(i), min(look.window_w, 0.85 * bay))
    hz0 = z0 + look.sill_m
    hz1 = np.minimum(hz0 + look.window_h, z0 + look.floor_m - 0.25)
    is_door = (f == 0) & (i == door) if door is not None else np.zeros(len(i), bool)
    if door is not None and "shop" in look.relief:
        shop = (f == 0) & ~is_door
        w, hz0 = np.where(shop, 0.84 * bay, w), np.where(shop, 0.55, hz0)
        hz1 = np.where(shop, 0.3 + look.floor_m - 0.55, hz1)
    w = np.where(is_door, np.minimum(1.05, 0.8 * bay), w)
    hz0, hz1 = np.where(is_door, 0.05, hz0), np.where(is_door, 0.3 + 2.15, hz1)
    hx0 = x0 + (bay - w) / 2
    _panel(shapes, T, x, z, np.stack([hx0, hx0 + w, hz0, hz1], 1), look.recess_m)
    if door is None:
        return
    zero = np.zeros(len(i))
    sill = np.stack([hx0 - 0.08, zero - 0.12, hz0 - 0.1], axis=1)
    size = np.stack([w + 0.16, zero + 0.14, zero + 0.09], axis=1)
    shapes.add("trim", boxes(sill[~is_door], (sill + size)[~is_door]), T)
    lintel = np.stack([hx0 - 0.06, zero - 0.05, hz1], axis=1)
    shapes.add("trim", boxes(lintel, lintel + size * [1, 0.4, 1.6]), T)
    if "mullions" in look.relief:
        # frames stand a little proud of the panes
        r = look.recess_m
        post = np.stack([hx0 + w / 2 - 0.04, zero + r - 0.05, hz0], axis=1)
        shapes.add("trim", boxes(post, np.stack([hx0 + w / 2 + 0.04, zero + r, hz1], 1)), T)
        bar = np.stack([hx0, zero + r - 0.05, hz0 + 0.62 * (hz1 - hz0)], axis=1)
        shapes.add("trim", boxes(bar, bar + np.stack([w, zero + 0.05, zero + 0.07], 1)), T)
    if "shutters" in look.relief:
        upper = ~is_door & (w < 0.6 * bay)
        for side in (-1, 1):
            a = np.where(side < 0, hx0 - 0.42 * w, hx0 + w + 0.02)
            low = np.stack([a, zero - 0.05, hz0], 1)[upper]
            high = np.stack([a + 0.4 * w, zero, hz1], 1)[upper]
            shapes.add("door", boxes(low, high), T)
    leaf = np.stack([hx0, zero + look.recess_m - 0.06, hz0], 1)[is_door]
    shapes.add("door", boxes(leaf, np.stack([hx0 + w, zero + look.recess_m, hz1], 1)[is_door]), T)


def _relief(shapes: Shapes, look: Style, width: float, eaves: float, door: int) -> None:
    middle = (door + 0.5) * look.bay_m
    if "plinth" in look.relief:
        for a, b in ((0.0, middle - 0.62), (middle + 0.62, width)):
            if b - a > 0.1:
                shapes.add("trim", boxes([a, -0.07, -1.5], [b, 0.0, 0.52]))
    if "courses" in look.relief:
        z = 0.22 + np.arange(1, look.floors) * look.floor_m
        low = np.column_stack([np.zeros(len(z)), np.full(len(z), -0.08), z])
        shapes.add("trim", boxes(low, low + [width, 0.08, 0.16]))
    if "pilasters" in look.relief:
        x = np.arange(0, width + 0.1, look.bay_m)
        low = np.column_stack([np.clip(x - 0.14, 0, width - 0.28), np.full(len(x), -0.1), 0 * x])
        shapes.add("trim", boxes(low, low + [0.28, 0.1, eaves]))
    shapes.add("trim", boxes([0, -0.22, eaves - 0.28], [width, 0.0, eaves - 0.06]))
    shapes.add(
        "metal", tube(np.array([[0, -0.36, eaves - 0.02], [width, -0.36, eaves - 0.02]]), 0.07)
    )
    for at in (0.12, width - 0.12):
        shapes.add("metal", tube(np.array([[at, -0.12, 0.0], [at, -0.12, eaves - 0.1]]), 0.05, 6))
    step = [middle - 0.75, -0.55, -0.4], [middle + 0.75, 0.0, 0.06]
    shapes.add("trim", boxes(*step))
    if "canopy" in look.relief:
        head = min(2.75, 0.2 + look.floor_m)
        shapes.add("metal", boxes([middle - 0.9, -0.9, head], [middle + 0.9, 0, head + 0.1]))


def _extras(shapes: Shapes, look: Style, bays: int, door: int) -> None:
    if look.extra == "none" or look.floors < 2:
        return
    bay = look.bay_m
    for i in range(door % (look.every + 1), bays, look.every + 1):
        x0, x1 = i * bay + 0.2, (i + 1) * bay - 0.2
        if look.extra == "oriel":
            low, high = 0.3 + look.floor_m, 0.3 + look.floors * look.floor_m - 0.4
            shapes.add("wall", boxes([x0, -0.9, low], [x1, 0.05, high]))
            z = 0.3 + np.arange(1, look.floors) * look.floor_m + look.sill_m
            panes = np.column_stack([np.full(len(z), x0 + 0.25), np.full(len(z), -0.93), z])
            shapes.add("glass", boxes(panes, panes + [x1 - x0 - 0.5, 0.06, look.window_h]))
            panes[:, 0] -= 0.05
            shapes.add("trim", boxes(panes - [0, 0.05, 0.1], panes + [x1 - x0 - 0.4, 0.06, 0]))
            continue
        for floor in range(1, look.floors):
            slab = 0.3 + floor * look.floor_m
            shapes.add("trim", boxes([x0, -1.2, slab - 0.15], [x1, 0, slab]))
            bars = np.arange(x0, x1, 0.15)
            foot = np.column_stack([bars, np.full(len(bars), -1.18), np.full(len(bars), slab)])
            shapes.add("metal", boxes(foot, foot + [0.03, 0.03, 1.0]))
            shapes.add("metal", boxes([x0, -1.2, slab + 1.0], [x1, -1.14, slab + 1.06]))
            for x in (x0, x1):
                shapes.add("metal", boxes([x - 0.02, -1.2, slab], [x + 0.02, 0, slab + 1.05]))


def _roof(
    shapes: Shapes, look: Style, width: float, depth: float, eaves: float, rng: np.random.Generator
) -> None:
    o, top = 0.35, eaves + look.roof_m
    if look.roof == "flat":
        flat = np.array(
            [[0, 0, eaves], [width, 0, eaves], [width, depth, eaves], [0, depth, eaves]]
        )
        shapes.add("roof", quads(flat))
        base = [[0, 0, eaves], [0, depth - 0.25, eaves], [0, 0, eaves], [width - 0.25, 0, eaves]]
        high = [[width, 0.25, 0], [width, depth, 0], [0.25, depth, 0], [width, depth, 0]]
        shapes.add("trim", boxes(base, np.array(high) + [0, 0, eaves + 0.6]))
        return
    inset = min(width, depth) * 0.35 if look.roof == "hip" else -o
    ridge = np.array([[inset, depth / 2, top], [width - inset, depth / 2, top]])
    a, b = np.array([-o, -o, eaves]), np.array([width + o, -o, eaves])
    c, d = np.array([width + o, depth + o, eaves]), np.array([-o, depth + o, eaves])
    shapes.add("roof", quads(np.array([[a, b, ridge[1], ridge[0]], [c, d, ridge[0], ridge[1]]])))
    shapes.add(
        "roof" if look.roof == "hip" else "wall", np.array([[b, c, ridge[1]], [d, a, ridge[0]]])
    )
    for _ in range(int(rng.integers(0, 3))):
        x = float(rng.uniform(0.1, 0.85)) * width
        low = [x, depth / 2 + 0.3, eaves + 0.3 * look.roof_m]
        shapes.add("wall", boxes(low, [x + 0.7, depth / 2 + 1.1, top + 0.9]))
    if look.roof == "gable" and rng.random() < 0.5:
        # dormers: boxes that stand out of the lower half of the roof
        out, slope = 0.35 * depth / 2, look.roof_m / (depth / 2 + o)
        foot, back = eaves + slope * (out + o), depth / 2 - 0.4
        crest = min(foot + 1.25, top - 0.15)
        for at in np.arange(look.bay_m, width - 1.0, 2 * look.bay_m):
            shapes.add("wall", boxes([at - 0.6, out, foot - 0.4], [at + 0.6, back, crest]))
            shapes.add("metal", boxes([at - 0.7, out - 0.1, crest], [at + 0.7, back, crest + 0.08]))
            shapes.add(
                "glass", boxes([at - 0.4, out - 0.03, foot + 0.2], [at + 0.4, out, crest - 0.15])
            )
