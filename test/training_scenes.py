"""Small simulated drives and settings that the training tests share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from condense_ros.sim.folders.writer import SimulationConfig, generate
from condense_ros.sim.sensors.rig import CameraSpec, LidarSpec, Rig
from condense_ros.sim.town.world import WorldConfig

#: a 128x96 camera and a 16-beam LiDAR
RIG = Rig(
    (CameraSpec(width=128, height=96, fx=84.0, fy=84.0, cx=63.5, cy=47.5),),
    LidarSpec(beams=16, azimuth_steps=360),
)

#: the same with a second camera that looks back
TWO_CAMERAS = Rig(
    (
        replace(RIG.cameras[0], name="front"),
        replace(RIG.cameras[0], name="back", xyz_m=(-0.3, 0.0, 1.5), rpy_deg=(0.0, 0.0, 180.0)),
    ),
    RIG.lidar,
)

#: the demo recipe, but with a few cheap steps
TINY: dict[str, Any] = {
    "pixel_steps": 4,
    "pixel_batch": 2,
    "pixel_matches": 64,
    "pixel_crop_px": 32,
    "lift_steps": 4,
    "lift_batch": 2,
    "lift_pairs": 64,
    "lift_size_px": 64,
    "voxel_size_m": 0.4,
}

#: recipe olivine with a few cheap steps
TINY_OLIVINE: dict[str, Any] = {
    "pixel_steps": 2,
    "pixel_batch": 2,
    "pixel_matches": 64,
    "pixel_crop_px": 32,
    "steps": 4,
    "pairs": 96,
    "vmf_collection_steps": 2,
    "view_width_px": 64,
    "view_height_px": 32,
    "view_min_pairs": 32,
}


def small_drive(
    folder: Path,
    *,
    seed: int = 0,
    frames: int = 6,
    images: bool = True,
    truth: bool = False,
    rig: Rig = RIG,
    image_format: str = "jpg",
) -> Path:
    """Renders a short drive into `folder` (a few seconds)."""
    config = SimulationConfig(
        world_seed=seed,
        drive_seed=seed,
        duration_s=frames / 2,
        rate_hz=2.0,
        images=images,
        pixel_truth=truth,
        workers=1,
        layout=WorldConfig(columns=2, rows=2),
        rig=rig,
        image_format=image_format,
    )
    return generate(folder, config)
