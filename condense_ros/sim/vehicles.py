"""Cars, vans and bicycles."""

from __future__ import annotations

import numpy as np

from condense_ros.geometry import Array
from condense_ros.sim import classes
from condense_ros.sim.materials import Surface, paint, surface
from condense_ros.sim.mesh import MeshBuilder, extrude, pose2d, tube


def _wheels(
    builder: MeshBuilder, T: Array, length: float, width: float, radius: float, rubber: Surface
) -> None:
    angle = np.arange(10) * (2 * np.pi / 10)
    outline = np.column_stack([radius * np.cos(angle), radius * np.sin(angle) + radius])
    for x in (-0.29 * length, 0.3 * length):
        for y in (-width / 2 + 0.11, width / 2 - 0.11):
            builder.add(extrude(outline + [x, 0], y - 0.11, y + 0.11), rubber, T)


def add_car(builder: MeshBuilder, T: Array, rng: np.random.Generator, kind: str = "car") -> None:
    """A parked car or van, 3.5 to 6 m long, centred on its own origin, nose along +x."""
    builder.begin()
    semantic = classes.VAN if kind == "van" else classes.CAR
    body = surface(rng, semantic, "plain", paint(rng), reflectance=(0.05, 0.8), contrast=0.12)
    glass = surface(
        rng, semantic, "mottle", paint(rng, 2, 12, 15), paint(rng, 1), scale_m=1.0,
        reflectance=(0.03, 0.12), glass=0.7,
    )  # fmt: skip
    rubber = surface(rng, semantic, "plain", paint(rng, 15, 2), reflectance=(0.03, 0.1))
    lamp = surface(rng, semantic, "plain", paint(rng, 6, 10), reflectance=(0.6, 0.95))
    if kind == "van":
        length, width = float(rng.uniform(4.8, 6.2)), float(rng.uniform(1.9, 2.1))
        height, belt, low = float(rng.uniform(1.9, 2.6)), 1.15, 0.32
        nose = float(rng.uniform(0.75, 0.9))
        outline = [
            (-1, low),
            (1, low),
            (1, 0.8),
            (0.96, belt),
            (nose, height * 0.93),
            (nose - 0.12, height),
            (-0.97, height),
            (-1, height - 0.2),
        ]
        cabin = None
    else:
        length, width = float(rng.uniform(3.5, 4.9)), float(rng.uniform(1.65, 1.9))
        height, belt = float(rng.uniform(1.38, 1.75)), float(rng.uniform(0.82, 0.98))
        low = float(rng.uniform(0.2, 0.34))
        outline = [
            (-1, low + 0.1),
            (-0.95, low),
            (0.93, low),
            (1, low + 0.12),
            (0.99, belt - 0.25),
            (0.92, belt - 0.12),
            (0.5, belt),
            (-0.93, belt),
            (-1, belt - 0.1),
        ]
        back = float(rng.choice([-0.95, -0.86, -0.62]))
        front, rake = float(rng.uniform(0.42, 0.55)), float(rng.uniform(0.22, 0.4))
        cabin = np.array(
            [
                (back, belt - 0.02),
                (front, belt - 0.02),
                (front - rake, height - 0.03),
                (back + 0.15, height - 0.03),
            ]
        )
    scaled = np.array(outline) * [length / 2, 1]
    builder.add(extrude(scaled, -width / 2, width / 2), body, T)
    if cabin is not None:
        scaled = cabin * [length / 2, 1]
        side = np.array([0.97, 0.97, 0.78, 0.78]) * width / 2
        builder.add(extrude(scaled, -side, side), glass, T)
        roof = np.array(
            [
                scaled[3] - [0.05, 0],
                scaled[2] + [0.05, 0],
                scaled[2] + [-0.1, 0.05],
                scaled[3] + [0.1, 0.05],
            ]
        )
        builder.add(extrude(roof, -0.8 * width / 2, 0.8 * width / 2), body, T)
    else:
        pane = np.array(
            [
                (nose * 1.003 + 0.008, height * 0.9),
                (0.975, belt + 0.08),
                (0.97, belt + 0.05),
                (nose, height * 0.88),
            ]
        )
        builder.add(extrude(pane * [length / 2, 1], -0.42 * width, 0.42 * width), glass, T)
        for side_y in (-1, 1):
            door = np.array(
                [
                    (0.45, belt + 0.1),
                    (0.85, belt + 0.1),
                    (nose - 0.08, height * 0.88),
                    (0.45, height * 0.88),
                ]
            )
            y = side_y * width / 2
            builder.add(extrude(door * [length / 2, 1], y - 0.01, y + 0.01), glass, T)
    for x in (-length / 2, length / 2):
        for y in (-0.36 * width, 0.36 * width):
            face = np.array([(x - 0.02, 0.6), (x + 0.02, 0.6), (x + 0.02, 0.75), (x - 0.02, 0.75)])
            builder.add(extrude(face, y - 0.13, y + 0.13), lamp, T)
    _wheels(builder, T, length, width, float(rng.uniform(0.29, 0.36)), rubber)


def add_bicycle(builder: MeshBuilder, T: Array, rng: np.random.Generator) -> None:
    """A parked bicycle, nose along +x."""
    builder.begin()
    T = T @ pose2d(0, 0, 0)
    frame = surface(rng, classes.BICYCLE, "plain", paint(rng), reflectance=(0.1, 0.7))
    rubber = surface(rng, classes.BICYCLE, "plain", paint(rng, 15, 2))
    r = float(rng.uniform(0.3, 0.36))
    angle = np.linspace(0, 2 * np.pi, 15)
    for x in (-0.52, 0.52):
        rim = np.column_stack([x + r * np.cos(angle), np.zeros(15), r + r * np.sin(angle)])
        builder.add(tube(rim, 0.025, 4), rubber, T)
        for spoke in (0.3, 1.35, 2.4):
            d = r * np.array([np.cos(spoke), 0, np.sin(spoke)])
            builder.add(tube(np.array([[x, 0, r] - d, [x, 0, r] + d]), 0.008, 3), frame, T)
    points = {
        "rear": (-0.52, r),
        "front": (0.52, r),
        "pedal": (-0.05, 0.3),
        "seat": (-0.2, 0.92),
        "head": (0.38, 0.85),
        "bar": (0.36, 1.02),
    }
    for a, b in (
        ("rear", "pedal"),
        ("pedal", "head"),
        ("seat", "head"),
        ("pedal", "seat"),
        ("rear", "seat"),
        ("front", "bar"),
    ):
        path = np.array([[points[a][0], 0, points[a][1]], [points[b][0], 0, points[b][1]]])
        builder.add(tube(path, 0.02, 4), frame, T)
    builder.add(tube(np.array([[0.36, -0.28, 1.03], [0.36, 0.28, 1.03]]), 0.016, 4), frame, T)
    builder.add(tube(np.array([[-0.32, 0, 0.95], [-0.08, 0, 0.95]]), 0.06, 5), rubber, T)
