"""Draws the pictures of the simulated worlds that the documentation shows.

    python tools/draw_worlds.py building terrain --out docs/images

One picture per kind: an observer's view from above (roofs of a building taken off), then what a
robot sees on its drive: camera, classes of the pixels, and one sweep by class from above.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from condense_ros.geometry import Array
from condense_ros.sim.driving.motion import drive
from condense_ros.sim.mesh import Mesh
from condense_ros.sim.scenery import EPOCH_NS, Scenery
from condense_ros.sim.sensors.rig import CameraSpec, LidarSpec, Rig
from condense_ros.sim.sensors.simulator import Simulator
from condense_ros.sim.worlds import KINDS, build_world

Pixels = npt.NDArray[np.uint8]
WIDTH, SMALL = 960, (320, 200)


def observer(world: Scenery) -> Pixels:
    """The world from above, as a person in the air would see it."""
    above = copy.copy(world)
    nodes = world.network.nodes
    middle = (nodes.min(axis=0) + nodes.max(axis=0)) / 2
    size = float(np.ptp(nodes, axis=0).max())
    # from the south, looking down at this angle, from where the network fills the picture
    pitch, away = {"building": (66.0, 0.78), "town": (38.0, 0.55)}.get(world.kind, (35.0, 0.75))
    if world.kind == "building":
        above.mesh = _without(world.mesh, [world.ontology.index(n) for n in ("ceiling", "lamp")])
        light = replace(world.light, sun=(0.24, -0.32, 0.917), sun_rgb=(0.9, 0.86, 0.78))
        above.light = replace(light, ambient_rgb=(0.5, 0.5, 0.52), lamps=())
    if world.kind == "town":
        # from this high haze hides the streets
        above.light = replace(world.light, haze_m=3000.0)
    down, back = np.sin(np.radians(pitch)), np.cos(np.radians(pitch))
    eye = np.array([middle[0], middle[1] - away * size * back, away * size * down])
    pose = np.eye(4)
    pose[:3, 3] = eye
    camera = CameraSpec(
        name="observer", width=WIDTH, height=440, fx=620.0, fy=620.0, cx=WIDTH / 2 - 0.5, cy=219.5,
        xyz_m=(0.0, 0.0, 0.0), rpy_deg=(0.0, pitch, 90.0), noise=0.0,
    )  # fmt: skip
    rig = Rig(cameras=(camera,), lidar=LidarSpec(beams=1, azimuth_steps=8))
    return Simulator(above, rig).frame(pose, EPOCH_NS).images[0].pixels


def _without(mesh: Mesh, classes: list[int]) -> Mesh:
    keep = ~np.isin(mesh.surfaces.semantic[mesh.surface], classes)
    return Mesh(mesh.triangles[keep], mesh.surface[keep], mesh.instance[keep], mesh.surfaces)


def from_robot(world: Scenery, count: int) -> list[Pixels]:
    """`count` camera pictures along a drive; of the last also classes and the sweep."""
    w, h = SMALL
    indoors = world.kind == "building"
    up, f = (1.0, 165.0) if indoors else (1.7, 190.0)
    camera = CameraSpec(width=w, height=h, fx=f, fy=f, cx=w / 2 - 0.5, cy=h / 2 - 0.5,
                        xyz_m=(0.1, 0.0, up), noise=0.0)  # fmt: skip
    lidar = LidarSpec(xyz_m=(0.0, 0.0, up + 0.1), min_range_m=0.3)
    simulator = Simulator(world, Rig(cameras=(camera,), lidar=lidar))
    poses = drive(world, 360.0, 0.1, 1)

    def kinds(k: int) -> int:
        """How many classes fill more than a hundredth of the picture each."""
        semantic = simulator.truth(poses[k], EPOCH_NS + k * 10**10)["front"].semantic
        return int((np.bincount(semantic.ravel(), minlength=256) > semantic.size / 100).sum())

    # of each part of the drive the view with the most in it
    pick = [max(part.tolist(), key=kinds) for part in np.array_split(np.arange(len(poses)), count)]
    found = []
    for k in pick:
        frame = simulator.frame(poses[k], EPOCH_NS + k * 10**10)
        found.append(frame.images[0].pixels)
    assert frame.labels is not None
    truth = simulator.truth(poses[k], EPOCH_NS + k * 10**10)["front"]
    classes = world.ontology.colourise(truth.semantic)
    sweep = _sweep(frame.cloud.xyz, world.ontology.colourise(frame.labels), 8 if indoors else 40)
    return [*found, classes, sweep]


def _sweep(xyz: npt.NDArray[np.floating], colours: Pixels, range_m: float) -> Pixels:
    """Points from above, x up, nearer to the sky over farther from it."""
    w, h = SMALL
    scale = h / (2 * range_m)
    image = np.full((h, w, 3), 24, np.uint8)
    xy: Array = np.column_stack([w / 2 - xyz[:, 1] * scale, h / 2 - xyz[:, 0] * scale])
    inside = (xy >= 0).all(axis=1) & (xy[:, 0] < w) & (xy[:, 1] < h)
    order = np.argsort(xyz[inside, 2], kind="stable")
    u, v = xy[inside][order].astype(int).T
    image[v, u] = colours[inside][order]
    return image


def draw(kind: str, seed: int, session: int, out: Path) -> Path:
    """Writes `world_KIND.png` into a folder and returns its path."""
    world = build_world(kind, seed, session)
    small = from_robot(world, 4)
    rows = [np.concatenate(small[k : k + 3], axis=1) for k in (0, 3)]
    picture = np.concatenate([observer(world), *rows], axis=0)
    path = out / f"world_{kind}.png"
    coded = cv2.imencode(".png", picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]
    path.write_bytes(coded.tobytes())
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="+", choices=KINDS)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--session", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    for kind in arguments.kinds:
        print(draw(kind, arguments.seed, arguments.session, arguments.out))


if __name__ == "__main__":
    main()
