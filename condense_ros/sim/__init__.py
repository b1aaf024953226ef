"""A simulated world: procedural towns, the sensors of a robot in them, and the truth.

Names load on first use: ray casting and its tables cost import time that `--help` must not pay.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from condense_ros.sim.driving.motion import (
        DriveConfig,
        Motion,
        drive,
        drive_motion,
        ground_poses,
    )
    from condense_ros.sim.driving.odometry import OdometryConfig, odometry_poses
    from condense_ros.sim.driving.spots import poses_beside, poses_never_visited
    from condense_ros.sim.folders.faults import Faults
    from condense_ros.sim.folders.plan import Plan, SimulationConfig, make_plan
    from condense_ros.sim.folders.writer import generate
    from condense_ros.sim.sensors.rig import CameraSpec, LidarSpec, Rig
    from condense_ros.sim.sensors.simulator import Simulator
    from condense_ros.sim.sensors.truth import (
        ImageTruth,
        SimulatedFrame,
        SimulatedImage,
        SimulatedSweep,
    )
    from condense_ros.sim.town.classes import ontology
    from condense_ros.sim.town.world import World, WorldConfig, shared_world
    from condense_ros.sim.worlds import build_world

_WHERE = {
    "ontology": "town.classes",
    "DriveConfig": "driving.motion",
    "Motion": "driving.motion",
    "drive": "driving.motion",
    "drive_motion": "driving.motion",
    "ground_poses": "driving.motion",
    "poses_beside": "driving.spots",
    "poses_never_visited": "driving.spots",
    "Faults": "folders.faults",
    "Plan": "folders.plan",
    "SimulationConfig": "folders.plan",
    "make_plan": "folders.plan",
    "generate": "folders.writer",
    "OdometryConfig": "driving.odometry",
    "odometry_poses": "driving.odometry",
    "CameraSpec": "sensors.rig",
    "LidarSpec": "sensors.rig",
    "Rig": "sensors.rig",
    "ImageTruth": "sensors.truth",
    "SimulatedFrame": "sensors.truth",
    "SimulatedImage": "sensors.truth",
    "SimulatedSweep": "sensors.truth",
    "Simulator": "sensors.simulator",
    "World": "town.world",
    "build_world": "worlds",
    "WorldConfig": "town.world",
    "shared_world": "town.world",
}
__all__ = [
    "CameraSpec",
    "DriveConfig",
    "Faults",
    "ImageTruth",
    "LidarSpec",
    "Motion",
    "OdometryConfig",
    "Plan",
    "Rig",
    "SimulatedFrame",
    "SimulatedImage",
    "SimulatedSweep",
    "SimulationConfig",
    "Simulator",
    "World",
    "WorldConfig",
    "build_world",
    "drive",
    "drive_motion",
    "generate",
    "ground_poses",
    "make_plan",
    "odometry_poses",
    "ontology",
    "poses_beside",
    "poses_never_visited",
    "shared_world",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
