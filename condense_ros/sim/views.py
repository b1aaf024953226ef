"""Pictures of a world for people: from above, and from any point."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from condense_ros.geometry import Array, CameraModel
from condense_ros.sim.camera import expose, shade
from condense_ros.sim.classes import ontology
from condense_ros.sim.raycast import RayScene
from condense_ros.sim.rig import CameraSpec
from condense_ros.sim.world import World

Image = npt.NDArray[np.uint8]


def bird_view(
    world: World,
    *,
    centre: tuple[float, float] | None = None,
    size_m: tuple[float, float] | None = None,
    pixel_m: float = 0.35,
    by: str = "class",
    paths: Sequence[Array] = (),
    scene: RayScene | None = None,
) -> Image:
    """The world from straight above (orthographic), x to the right and y up.

    Args:
        centre, size_m: the part to draw, metres; the whole town by default.
        by: "class" for class colours with shading, "photo" for textures under the sun.
        paths: polylines of poses (T, 4, 4) drawn on top, each in its own colour.
        scene: a ready scene of this world, to save building one.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    scene = scene or RayScene(world.mesh)
    low, high = world.network.nodes.min(axis=0) - 30, world.network.nodes.max(axis=0) + 30
    middle = np.array(centre if centre is not None else (low + high) / 2)
    extent = np.array(size_m if size_m is not None else high - low)
    width, height = (int(v) for v in np.ceil(extent / pixel_m))
    x = middle[0] + (np.arange(width) - (width - 1) / 2) * pixel_m
    y = middle[1] - (np.arange(height) - (height - 1) / 2) * pixel_m
    origin = np.stack([*np.meshgrid(x, y), np.full((height, width), 80.0)], -1).reshape(-1, 3)
    down = np.broadcast_to([0.0, 0.0, -1.0], origin.shape)
    if by == "photo":
        radiance, _ = shade(scene, world.sun, origin, down)
        camera = CameraSpec(exposure_jitter=0.0, noise=0.0)
        picture = expose(radiance, camera, np.random.default_rng(0))
    else:
        hits = scene.cast(origin, down)
        triangle = hits.triangle
        label = world.mesh.surfaces.semantic[world.mesh.surface[triangle]]
        light = 0.45 + 0.55 * np.abs(scene.normal[triangle] @ world.sun.astype(np.float32))
        colour = ontology.colourise(label) * np.where(triangle >= 0, light, 0)[:, None]
        picture = colour.astype(np.uint8)
    picture = np.ascontiguousarray(picture.reshape(height, width, 3))
    colours = ((255, 40, 40), (40, 120, 255), (255, 220, 0), (0, 200, 120))
    for number, poses in enumerate(paths):
        u = (poses[:, 0, 3] - middle[0]) / pixel_m + (width - 1) / 2
        v = (middle[1] - poses[:, 1, 3]) / pixel_m + (height - 1) / 2
        points = np.round(np.column_stack([u, v]) * 16).astype(np.int32)
        cv2.polylines(picture, [points], False, colours[number % 4], 2, cv2.LINE_AA, 4)
    return picture


def observer_view(
    world: World,
    eye: Sequence[float],
    target: Sequence[float],
    *,
    width: int = 960,
    height: int = 540,
    focal_px: float = 700.0,
    scene: RayScene | None = None,
) -> Image:
    """A picture (H, W, 3) uint8 RGB of the world from `eye` towards `target`, both metres."""
    scene = scene or RayScene(world.mesh)
    forward = np.asarray(target, np.float64) - np.asarray(eye, np.float64)
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    R_world_cam = np.column_stack([right, np.cross(forward, right), forward])
    K = np.array([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1]])
    rays = CameraModel(K, width, height).rays()
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    radiance, _ = shade(scene, world.sun, np.asarray(eye, np.float64), rays @ R_world_cam.T)
    camera = CameraSpec(exposure_jitter=0.0, noise=0.0)
    return expose(radiance, camera, np.random.default_rng(0)).reshape(height, width, 3)
