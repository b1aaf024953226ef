"""Buildings: facades of bays with recessed windows and doors, balconies, oriels and roofs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from condense_ros.geometry import Array
from condense_ros.sim import classes
from condense_ros.sim.materials import Surface, paint, surface
from condense_ros.sim.mesh import MeshBuilder, boxes, pose2d, quads


@dataclass(frozen=True)
class Style:
    """What the houses of one row have in common: rows of equal houses are what makes places alias.

    Lengths in metres. `roof` is "gable", "flat" or "hip"; `extra` is "none", "balcony" or "oriel".
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
    depth_m: float
    wall: Surface
    trim: Surface
    glass: Surface
    roofing: Surface


def make_style(rng: np.random.Generator) -> Style:
    """A random house front: storeys, bays, windows, facade texture and roof."""
    floor = float(rng.uniform(2.7, 3.6))
    bay = float(rng.uniform(2.2, 3.8))
    texture = str(rng.choice(["brick", "plain", "mottle", "tiles", "stripes"]))
    a, b = paint(rng), paint(rng, 0, 1, 3, 10)
    size = {"brick": 0.28, "tiles": 0.9, "stripes": 0.3, "mottle": 2.0, "plain": 1.0}[texture]
    return Style(
        floors=int(rng.choice([1, 2, 3, 4, 5], p=[0.12, 0.36, 0.28, 0.16, 0.08])),
        floor_m=floor,
        bay_m=bay,
        window_w=float(rng.uniform(0.38, 0.62)) * bay,
        window_h=float(rng.uniform(0.42, 0.62)) * floor,
        sill_m=float(rng.uniform(0.18, 0.3)) * floor,
        recess_m=float(rng.uniform(0.08, 0.35)),
        roof=str(rng.choice(["gable", "flat", "hip"], p=[0.5, 0.3, 0.2])),
        roof_m=float(rng.uniform(1.8, 4.0)),
        extra=str(rng.choice(["none", "balcony", "oriel"], p=[0.5, 0.27, 0.23])),
        depth_m=float(rng.uniform(8, 12)),
        wall=surface(rng, classes.BUILDING, texture, a, b, scale_m=size),
        trim=surface(rng, classes.BUILDING, "plain", paint(rng, 0, 2, 10, 5, 8)),
        glass=surface(
            rng,
            classes.BUILDING,
            "mottle",
            paint(rng, 2, 12, 15),
            paint(rng, 12, 1),
            scale_m=1.5,
            reflectance=(0.03, 0.15),
            glass=0.6,
            contrast=0.4,
        ),
        roofing=surface(
            rng,
            classes.BUILDING,
            "stripes",
            paint(rng, 4, 2, 5, 1),
            paint(rng, 4, 2, 6),
            scale_m=0.3,
        ),
    )


def _panel(
    builder: MeshBuilder, T: Array, style: Style, x: Array, z: Array, hole: Array, recess: float
) -> None:
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
    builder.add(quads(np.concatenate(wall)), style.wall, T)
    builder.add(quads(np.concatenate(reveal)), style.trim, T)
    builder.add(quads(quad(hx0, hz0, hx1, hz1, recess)), style.glass, T)


def add_building(
    builder: MeshBuilder, T: Array, width: float, style: Style, rng: np.random.Generator
) -> None:
    """A house whose street front runs along x from 0 to `width` at y = 0; it stands on y > 0."""
    builder.begin()
    depth, floors = style.depth_m, style.floors
    eaves = floors * style.floor_m + 0.3
    door_bay = int(rng.integers(0, 100))
    fronts = [(np.eye(4), width, True), (pose2d(width, depth, np.pi), width, False)]
    fronts += [
        (pose2d(width, 0, np.pi / 2), depth, False),
        (pose2d(0, depth, -np.pi / 2), depth, False),
    ]
    for local, span, street in fronts:
        bays = max(1, round(span / style.bay_m))
        if not street and rng.random() < 0.4:
            # a blank side wall
            wall = np.array([[0, 0, -1.5], [span, 0, -1.5], [span, 0, eaves], [0, 0, eaves]])
            builder.add(quads(wall), style.wall, T @ local)
            continue
        bay = span / bays
        i, f = (g.ravel() for g in np.meshgrid(np.arange(bays), np.arange(floors), indexing="ij"))
        x0, z0 = i * bay, 0.3 + f * style.floor_m
        x = np.stack([x0, x0 + bay], axis=1)
        z = np.stack(
            [np.where(f == 0, -1.5, z0), np.where(f == floors - 1, eaves, z0 + style.floor_m)], 1
        )
        w = min(style.window_w, 0.85 * bay)
        hx0 = x0 + (bay - w) / 2
        hz0 = z0 + style.sill_m
        hz1 = np.minimum(hz0 + style.window_h, z0 + style.floor_m - 0.15)
        is_door = street & (f == 0) & (i == door_bay % bays)
        hz0, hz1 = np.where(is_door, 0.05, hz0), np.where(is_door, 0.3 + 2.15, hz1)
        _panel(
            builder, T @ local, style, x, z, np.stack([hx0, hx0 + w, hz0, hz1], 1), style.recess_m
        )
        # sills stand out of the wall
        sill = np.stack([hx0 - 0.08, np.full(len(x0), -0.1), hz0 - 0.1], axis=1)[~is_door]
        builder.add(boxes(sill, sill + [w + 0.16, 0.12, 0.08]), style.trim, T @ local)
        if street:
            _add_extras(builder, T, style, bays, bay, rng)
    _add_roof(builder, T, style, width, depth, eaves, rng)


def _add_extras(
    builder: MeshBuilder, T: Array, style: Style, bays: int, bay: float, rng: np.random.Generator
) -> None:
    if style.extra == "none" or style.floors < 2:
        return
    every = int(rng.integers(1, 4))
    first = int(rng.integers(0, every + 1))
    for i in range(first, bays, every + 1):
        x0, x1 = i * bay + 0.2, (i + 1) * bay - 0.2
        if style.extra == "oriel":
            low, high = 0.3 + style.floor_m, 0.3 + style.floors * style.floor_m - 0.4
            builder.add(boxes([x0, -0.9, low], [x1, 0.05, high]), style.wall, T)
            z = 0.3 + np.arange(1, style.floors) * style.floor_m + style.sill_m
            panes = np.column_stack([np.full(len(z), x0 + 0.25), np.full(len(z), -0.93), z])
            builder.add(boxes(panes, panes + [x1 - x0 - 0.5, 0.06, style.window_h]), style.glass, T)
            continue
        for floor in range(1, style.floors):
            slab = 0.3 + floor * style.floor_m
            builder.add(boxes([x0, -1.2, slab - 0.15], [x1, 0, slab]), style.trim, T)
            bars = np.arange(x0, x1, 0.13)
            foot = np.column_stack([bars, np.full(len(bars), -1.18), np.full(len(bars), slab)])
            builder.add(boxes(foot, foot + [0.03, 0.03, 1.0]), style.trim, T)
            builder.add(boxes([x0, -1.2, slab + 1.0], [x1, -1.14, slab + 1.06]), style.trim, T)


def _add_roof(
    builder: MeshBuilder,
    T: Array,
    style: Style,
    width: float,
    depth: float,
    eaves: float,
    rng: np.random.Generator,
) -> None:
    o, top = 0.35, eaves + style.roof_m
    if style.roof == "flat":
        flat = np.array(
            [[0, 0, eaves], [width, 0, eaves], [width, depth, eaves], [0, depth, eaves]]
        )
        builder.add(quads(flat), style.roofing, T)
        base = [[0, 0, eaves], [0, depth - 0.25, eaves], [0, 0, eaves], [width - 0.25, 0, eaves]]
        high = [[width, 0.25, 0], [width, depth, 0], [0.25, depth, 0], [width, depth, 0]]
        builder.add(boxes(base, np.array(high) + [0, 0, eaves + 0.6]), style.trim, T)
        return
    inset = min(width, depth) * 0.35 if style.roof == "hip" else -o
    ridge = np.array([[inset, depth / 2, top], [width - inset, depth / 2, top]])
    a, b = np.array([-o, -o, eaves]), np.array([width + o, -o, eaves])
    c, d = np.array([width + o, depth + o, eaves]), np.array([-o, depth + o, eaves])
    sides = np.array([[a, b, ridge[1], ridge[0]], [c, d, ridge[0], ridge[1]]])
    builder.add(quads(sides), style.roofing, T)
    ends = np.array([[b, c, ridge[1]], [d, a, ridge[0]]])
    builder.add(ends, style.roofing if style.roof == "hip" else style.wall, T)
    for _ in range(int(rng.integers(0, 3))):
        x = float(rng.uniform(0.1, 0.85)) * width
        low = [x, depth / 2 + 0.3, eaves + 0.3 * style.roof_m]
        builder.add(boxes(low, [x + 0.7, depth / 2 + 1.1, top + 0.9]), style.wall, T)
