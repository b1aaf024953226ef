"""Models of cars, vans, lorries and bicycles, and how they are painted."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from condense_ros.sim.designs import asset_rng
from condense_ros.sim.materials import Surface
from condense_ros.sim.mesh import boxes, extrude, tube
from condense_ros.sim.town import classes
from condense_ros.sim.town.assets import Assets, Model, Shapes
from condense_ros.sim.town.people import add_body


def _wheels(shapes: Shapes, x: tuple[float, float], width: float, radius: float) -> None:
    angle = np.arange(12) * (2 * np.pi / 12)
    outline = np.column_stack([radius * np.cos(angle), radius * np.sin(angle) + radius])
    for at in x:
        for y in (-width / 2 + 0.1, width / 2 - 0.1):
            shapes.add("rubber", extrude(outline + [at, 0], y - 0.12, y + 0.12))
            hub = (outline - [0, radius]) * 0.6 + [at, radius]
            shapes.add("lamp", extrude(hub, y - 0.13, y + 0.13))


@lru_cache(maxsize=512)
def car(name: str) -> Model:
    """A car: small, saloon, estate or off-road; 3.5 to 4.9 m long."""
    rng, shapes = asset_rng(name), Shapes()
    kind = int(rng.choice(4, p=[0.35, 0.25, 0.2, 0.2]))
    length = float(rng.uniform(*((3.5, 4.1), (4.4, 4.9), (4.3, 4.8), (4.3, 4.8))[kind]))
    width = float(rng.uniform(1.64, 1.9))
    height = float(rng.uniform(*((1.42, 1.56), (1.38, 1.46), (1.44, 1.54), (1.6, 1.8))[kind]))
    low = float(rng.uniform(0.18, 0.24)) + 0.12 * (kind == 3)
    belt = float(rng.uniform(0.56, 0.61)) * height
    bonnet = float(rng.uniform(0.45, 0.6))
    x = np.array([-1, -0.97, 0.95, 1, 0.99, 0.93, bonnet, -0.95, -1.0]) * length / 2
    z = np.array(
        [low + 0.1, low, low, low + 0.12, 0.68 * belt, 0.82 * belt, belt, belt, 0.85 * belt]
    )
    side = width / 2 * np.array([0.94, 0.92, 0.9, 0.9, 0.92, 0.9, 0.97, 0.97, 0.95])
    shapes.add("body", extrude(np.column_stack([x, z]), -side, side))
    # sills and wheel arches stand out a little
    half = width / 2
    shapes.add("body", boxes([-0.22 * length, -half, low], [0.2 * length, half, low + 0.16]))
    axles = (-0.29 * length, 0.3 * length)
    for axle in axles:
        arch = [axle - 0.36, -half, 0.55], [axle + 0.36, half, 0.68]
        shapes.add("body", boxes(*arch))
    back = {0: -0.93, 1: -0.6, 2: -0.96, 3: -0.94}[kind]
    rear_rake = {0: 0.2, 1: 0.3, 2: 0.12, 3: 0.12}[kind] * float(rng.uniform(0.8, 1.2))
    rake = float(rng.uniform(0.3, 0.42)) * (0.75 if kind == 3 else 1.0)
    cabin = np.array(
        [(back, belt - 0.02), (bonnet, belt - 0.02), (bonnet - rake, height - 0.04),
         (back + rear_rake, height - 0.04)]
    ) * [length / 2, 1]  # fmt: skip
    glass_side = np.array([0.93, 0.93, 0.74, 0.74]) * half
    shapes.add("glass", extrude(cabin, -glass_side, glass_side))
    roof = np.array([cabin[3] - [0.04, 0.03], cabin[2] + [0.04, -0.03], cabin[2] + [-0.12, 0.04],
                     cabin[3] + [0.12, 0.04]])  # fmt: skip
    shapes.add("body", extrude(roof, -0.75 * half, 0.75 * half))
    # pillars
    for share in (0.05, 0.5, 0.95):
        foot = cabin[0] + share * (cabin[1] - cabin[0])
        head = cabin[3] + share * (cabin[2] - cabin[3])
        post = np.array([foot - [0.05, 0], foot + [0.05, 0], head + [0.05, 0], head - [0.05, 0]])
        wide = np.array([0.945, 0.945, 0.755, 0.755]) * half
        shapes.add("body", extrude(post, -wide, wide))
    for sign in (-1, 1):
        m = np.array([bonnet * length / 2 - 0.35, sign * (half + 0.07), belt + 0.07])
        shapes.add("body", boxes(m - [0.06, 0.1, 0.07], m + [0.08, 0.1, 0.08]))
        for at in (-length / 2, length / 2):
            face = np.array([at, sign * 0.72 * half, 0.74 * belt])
            shapes.add("lamp", boxes(face - [0.03, 0.16, 0.07], face + [0.03, 0.16, 0.07]))
    for at in (-length / 2, length / 2):
        shapes.add("lamp", boxes([at - 0.02, -0.26, 0.42], [at + 0.02, 0.26, 0.53]))
        shapes.add("rubber", boxes([at - 0.05, -0.85 * half, low], [at + 0.05, 0.85 * half, 0.4]))
    if kind >= 2 and rng.random() < 0.5:
        for sign in (-1, 1):
            rail = np.array([[cabin[3, 0], sign * 0.6 * half, height + 0.06],
                             [cabin[2, 0], sign * 0.6 * half, height + 0.06]])  # fmt: skip
            shapes.add("rubber", tube(rail, 0.025, 4))
    _wheels(shapes, axles, width, float(rng.uniform(0.29, 0.33)) + 0.05 * (kind == 3))
    return shapes.model()


@lru_cache(maxsize=256)
def van(name: str) -> Model:
    """A delivery van, a minibus or a lorry with a box; 4.8 to 7 m long, 1.95 to 3.4 m high."""
    rng, shapes = asset_rng(name), Shapes()
    kind = int(rng.choice(3, p=[0.5, 0.2, 0.3]))
    length = float(rng.uniform(*((4.9, 6.2), (4.8, 5.5), (6.0, 7.0))[kind]))
    width = float(rng.uniform(1.95, 2.12))
    height = float(rng.uniform(*((2.2, 2.75), (1.95, 2.2), (2.2, 2.4))[kind]))
    half, low, belt = width / 2, 0.36, 1.2
    nose = float(rng.uniform(0.72, 0.82))
    end = -1.0 if kind < 2 else 0.25
    outline = np.array(
        [(end, low), (1, low), (1, 0.85), (0.95, belt), (nose, height * 0.93),
         (nose - 0.1, height), (end + 0.01, height), (end, height - 0.15)]
    ) * [length / 2, 1]  # fmt: skip
    side = half * np.array([0.97, 0.97, 0.97, 0.97, 0.9, 0.88, 0.9, 0.92])
    shapes.add("body", extrude(outline, -side, side))
    if kind == 2:
        top = float(rng.uniform(2.9, 3.4))
        shapes.add("box", boxes([-length / 2, -1.08, 0.85], [0.22 * length / 2, 1.08, top]))
        for x in np.linspace(-0.95, 0.18, 6) * length / 2:
            shapes.add("box", boxes([x - 0.03, -1.11, 0.85], [x + 0.03, 1.11, top]))
        shapes.add("rubber", boxes([-length / 2, -0.5, 0.5], [0, 0.5, 0.85]))
        shapes.add("rubber", boxes([-length / 2, -1.0, 0.45], [-length / 2 + 0.08, 1.0, 0.6]))
    pane = np.array([(nose * 1.003 + 0.012, height * 0.9), (0.972, belt + 0.08),
                     (0.965, belt + 0.04), (nose, height * 0.88)]) * [length / 2, 1]  # fmt: skip
    shapes.add("glass", extrude(pane, -0.42 * width, 0.42 * width))
    windows = (
        [(0.5, 0.86)] if kind != 1 else [(0.5, 0.84), (0.05, 0.44), (-0.4, 0.0), (-0.9, -0.46)]
    )
    for a, b in windows:
        slope = nose - 0.06 if b > 0.8 else b
        door = np.array([(a, belt + 0.1), (b, belt + 0.1), (slope, height * 0.87),
                         (a, height * 0.87)]) * [length / 2, 1]  # fmt: skip
        for sign in (-1, 1):
            y = sign * half * np.array([0.965, 0.965, 0.915, 0.915])
            shapes.add("glass", extrude(door, y - 0.012, y + 0.012))
    for sign in (-1, 1):
        m = np.array([0.84 * length / 2, sign * (half + 0.12), belt + 0.2])
        shapes.add("rubber", boxes(m - [0.06, 0.1, 0.16], m + [0.06, 0.1, 0.2]))
        shapes.add("rubber", boxes([-0.9 * length / 2, sign * half - 0.02, 0.62],
                                   [0.85 * length / 2, sign * half + 0.02, 0.72]))  # fmt: skip
        for at in (-length / 2, length / 2):
            face = np.array([at, sign * 0.74 * half, 0.85])
            shapes.add("lamp", boxes(face - [0.03, 0.13, 0.12], face + [0.03, 0.13, 0.12]))
    for at in (-length / 2, length / 2):
        shapes.add("rubber", boxes([at - 0.06, -0.95 * half, low], [at + 0.06, 0.95 * half, 0.55]))
    if kind == 0 and rng.random() < 0.4:
        shapes.add("rubber", boxes([-0.8 * length / 2, -0.7, height], [0.3, -0.6, height + 0.15]))
        shapes.add("rubber", boxes([-0.8 * length / 2, 0.6, height], [0.3, 0.7, height + 0.15]))
    _wheels(shapes, (-0.28 * length, 0.31 * length), width, 0.36 if kind < 2 else 0.42)
    return shapes.model()


def _bicycle(shapes: Shapes, rng: np.random.Generator) -> None:
    r = float(rng.uniform(0.31, 0.36))
    angle = np.linspace(0, 2 * np.pi, 13)
    for x in (-0.53, 0.53):
        rim = np.column_stack([x + r * np.cos(angle), np.zeros(13), r + r * np.sin(angle)])
        shapes.add("rubber", tube(rim, 0.032, 3))
        for spoke in np.arange(3) * np.pi / 3:
            d = r * np.array([np.cos(spoke), 0, np.sin(spoke)])
            shapes.add("frame", tube(np.array([[x, 0, r] - d, [x, 0, r] + d]), 0.011, 3))
        guard = np.column_stack(
            [x + 1.12 * r * np.cos(angle[1:7]), 0 * angle[1:7], r + 1.12 * r * np.sin(angle[1:7])]
        )
        shapes.add("frame", tube(guard, 0.035, 3))
    at = {"rear": (-0.53, r), "front": (0.53, r), "pedal": (-0.05, 0.3), "seat": (-0.2, 0.92),
          "head": (0.38, 0.85), "bar": (0.34, 1.04)}  # fmt: skip
    for a, b in (("rear", "pedal"), ("pedal", "head"), ("seat", "head"), ("pedal", "seat"),
                 ("rear", "seat"), ("front", "bar")):  # fmt: skip
        path = np.array([[at[a][0], 0, at[a][1]], [at[b][0], 0, at[b][1]]])
        shapes.add("frame", tube(path, 0.026, 4))
    shapes.add(
        "frame", tube(np.array([[0.3, -0.3, 1.05], [0.36, 0, 1.04], [0.3, 0.3, 1.05]]), 0.02, 4)
    )
    shapes.add("rubber", tube(np.array([[-0.36, 0, 0.95], [-0.06, 0, 0.95]]), [0.09, 0.03], 6))
    for side in (-1, 1):
        shapes.add(
            "rubber", boxes([-0.1, side * 0.12 - 0.05, 0.2], [0.02, side * 0.12 + 0.05, 0.24])
        )
    if rng.random() < 0.7:
        shapes.add("bag", boxes([0.42, -0.19, 0.75], [0.76, 0.19, 1.02]))
    if rng.random() < 0.6:
        for side in (-1, 1):
            y = side * 0.16
            shapes.add("bag", boxes([-0.78, y - 0.08, 0.35], [-0.42, y + 0.08, 0.72]))
        shapes.add("frame", boxes([-0.8, -0.1, 0.72], [-0.35, 0.1, 0.76]))


@lru_cache(maxsize=256)
def bicycle(name: str, ridden: bool = False) -> Model:
    """A bicycle, with or without its rider."""
    rng, shapes = asset_rng(name), Shapes()
    _bicycle(shapes, rng)
    if ridden:
        add_body(shapes, rng, "ride")
    return shapes.model()


def car_look(assets: Assets, rng: np.random.Generator, semantic: int) -> dict[str, Surface]:
    """Paints of a car or van."""
    return {
        "body": assets.paint(
            rng, semantic, "plain", reflectance=(0.05, 0.8), shine=0.35, contrast=0.12
        ),
        "box": assets.paint(
            rng, semantic, "plain stripes cloth", scale_m=0.6, reflectance=(0.1, 0.8)
        ),
        "glass": assets.paint(
            rng, semantic, "mottle", (2, 12, 15, 1), reflectance=(0.03, 0.12), glass=0.6
        ),
        "rubber": assets.paint(rng, semantic, "plain", (15, 2), reflectance=(0.03, 0.12)),
        "lamp": assets.paint(
            rng, semantic, "plain", (6, 10, 0), reflectance=(0.5, 0.95), retro=(0.0, 0.5)
        ),
    }


def bicycle_look(assets: Assets, rng: np.random.Generator) -> dict[str, Surface]:
    """Paints of a bicycle and its rider."""
    b = classes.BICYCLE
    return {
        "frame": assets.paint(rng, b, "plain", reflectance=(0.1, 0.7)),
        "rubber": assets.paint(rng, b, "plain", (15, 2), reflectance=(0.05, 0.3)),
        "bag": assets.paint(rng, b, "plain mottle checker", scale_m=0.1),
        "coat": assets.paint(rng, b, "cloth plain stripes checker", scale_m=0.12),
        "trousers": assets.paint(rng, b, "plain"),
        "skin": assets.paint(rng, b, "plain", (14, 3, 5)),
    }
