"""A simulated world: procedural towns, the sensors of a robot in them, and the truth.

Names load on first use: ray casting and its tables cost import time that `--help` must not pay.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from condense_ros.sim.classes import ontology
    from condense_ros.sim.faults import Faults
    from condense_ros.sim.motion import DriveConfig, Motion, drive, drive_motion, ground_poses
    from condense_ros.sim.odometry import OdometryConfig, odometry_poses
    from condense_ros.sim.plan import Plan, SimulationConfig, make_plan
    from condense_ros.sim.rig import CameraSpec, LidarSpec, Rig
    from condense_ros.sim.simulator import Simulator
    from condense_ros.sim.spots import poses_beside, poses_never_visited
    from condense_ros.sim.truth import ImageTruth, SimulatedFrame, SimulatedImage, SimulatedSweep
    from condense_ros.sim.world import World, WorldConfig, shared_world
    from condense_ros.sim.worlds import build_world
    from condense_ros.sim.writer import generate

_WHERE = {
    "ontology": "classes",
    "DriveConfig": "motion",
    "Motion": "motion",
    "drive": "motion",
    "drive_motion": "motion",
    "ground_poses": "motion",
    "poses_beside": "spots",
    "poses_never_visited": "spots",
    "Faults": "faults",
    "Plan": "plan",
    "SimulationConfig": "plan",
    "make_plan": "plan",
    "generate": "writer",
    "OdometryConfig": "odometry",
    "odometry_poses": "odometry",
    "CameraSpec": "rig",
    "LidarSpec": "rig",
    "Rig": "rig",
    "ImageTruth": "truth",
    "SimulatedFrame": "truth",
    "SimulatedImage": "truth",
    "SimulatedSweep": "truth",
    "Simulator": "simulator",
    "World": "world",
    "build_world": "worlds",
    "WorldConfig": "world",
    "shared_world": "world",
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
