"""An observer's picture of a world: from above and aslant, and what a robot sees in it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from condense_ros.errors import SimulationError
from condense_ros.files import write_atomically
from condense_ros.geometry import Array, rotation_rpy, se3
from condense_ros.sim.driving.motion import drive
from condense_ros.sim.mesh import Mesh
from condense_ros.sim.scenery import EPOCH_NS, Scenery
from condense_ros.sim.sensors.rig import CameraSpec, Rig
from condense_ros.sim.sensors.simulator import Simulator

Pixels = npt.NDArray[np.uint8]
#: walls of buildings are cut at this height, so that the rooms can be looked into, metres
_CUT_M = 2.0
_WIDTH, _HEIGHT, _GAP = 960, 720, 8
#: pixels are averaged over this many squared
_FINER = 2


def world_picture(world: Scenery, out: Path, *, seed: int = 0, at_s: float = 5.0) -> Path:
    """Writes a picture: an observer's view on the left, three views of a robot on the right.

    Args:
        seed: of the drive that the robot is on.
        at_s: how long it has been driving.

    Raises:
        SimulationError: `out` is neither .png nor .jpg, or its folder cannot be written.
        StorageFull: no room.
    """
    if out.suffix.lower() not in (".png", ".jpg"):
        raise SimulationError(f"{out} is no .png or .jpg file", "name the picture NAME.png")
    T_world_base = drive(world, at_s + 0.2, 10.0, seed)[-1]
    indoor = world.kind == "building"
    small = (_HEIGHT - 2 * _GAP) // 3
    wide = small * 4 // 3
    rig = Rig((_eye("above", _WIDTH, _HEIGHT, 820.0), _eye("robot", wide, small, 0.62 * wide)))
    simulator = Simulator(world, rig)
    above = Simulator(_cut(world, float(T_world_base[2, 3]) + _CUT_M), rig) if indoor else simulator
    column = np.full((_HEIGHT, wide, 3), 255, np.uint8)
    for k, yaw in enumerate((0.0, 90.0, 180.0)):
        # from 1.5 m, indoors 1.2 m
        turned = se3(rotation_rpy(0, 0, np.radians(yaw)), (0.0, 0.0, 1.2 if indoor else 1.5))
        top = k * (small + _GAP)
        column[top : top + small] = _shoot(simulator, "robot", T_world_base @ turned)
    gap = np.full((_HEIGHT, _GAP, 3), 255, np.uint8)
    observed = _shoot(above, "above", _observer(T_world_base, indoor))
    sheet = cv2.cvtColor(np.concatenate([observed, gap, column], axis=1), cv2.COLOR_RGB2BGR)
    options = [cv2.IMWRITE_JPEG_QUALITY, 88] if out.suffix.lower() != ".png" else []
    data = cv2.imencode(out.suffix.lower(), sheet, options)[1].tobytes()
    try:
        write_atomically(out, data)
    except OSError as error:
        raise SimulationError(f"cannot write {out}: {error}", "choose another folder") from error
    return out


def _observer(T_world_base: Array, indoor: bool) -> Array:
    """(4, 4) pose in the world of an eye behind and above the robot."""
    distance = 16.0 if indoor else 60.0
    yaw = float(np.arctan2(T_world_base[1, 0], T_world_base[0, 0])) + 0.5
    slant = np.radians(62.0 if indoor else 33.0)
    towards = np.array([np.cos(yaw) * np.cos(slant), np.sin(yaw) * np.cos(slant), -np.sin(slant)])
    return se3(rotation_rpy(0.0, slant, yaw), T_world_base[:3, 3] - distance * towards)


def _eye(name: str, width: int, height: int, focal: float) -> CameraSpec:
    width, height, focal = _FINER * width, _FINER * height, _FINER * focal
    return CameraSpec(
        name=name, width=width, height=height, fx=focal, fy=focal,
        cx=(width - 1) / 2, cy=(height - 1) / 2, xyz_m=(0.0, 0.0, 0.0),
        noise=0.0, exposure_jitter=0.0,
    )  # fmt: skip


def _shoot(simulator: Simulator, eye: str, T_world_eye: Array) -> Pixels:
    pixels = simulator.picture(eye, T_world_eye, EPOCH_NS).image.pixels
    size = pixels.shape[1] // _FINER, pixels.shape[0] // _FINER
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _cut(world: Scenery, height_m: float) -> Any:
    """The world without what lies above a height; walls are cut at it."""
    mesh = world.mesh
    low = mesh.triangles[:, :, 2].min(axis=1) < height_m
    triangles = mesh.triangles[low].copy()
    np.minimum(triangles[:, :, 2], height_m, out=triangles[:, :, 2])
    opened = copy.copy(world)
    parts = Mesh(triangles, mesh.surface[low], mesh.instance[low], mesh.surfaces)
    object.__setattr__(opened, "mesh", parts)
    return opened
