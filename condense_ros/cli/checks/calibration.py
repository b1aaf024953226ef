"""Whether a data set or bag carries the calibration that capture and pretraining need."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from condense_ros.cli.checks.finding import Finding
from condense_ros.errors import CondenseError
from condense_ros.frame import Frame


def _camera_findings(frame: Frame) -> list[Finding]:
    found = []
    for image in frame.images:
        camera = image.camera
        focal, centre = (camera.K[0, 0], camera.K[1, 1]), (camera.K[0, 2], camera.K[1, 2])
        inside = 0 < centre[0] < camera.width and 0 < centre[1] < camera.height
        text = f"{camera.width}x{camera.height}, f = {focal[0]:.0f}, {focal[1]:.0f} px"
        if min(focal) < 0.1 * camera.width or not inside:
            found.append(
                Finding(
                    f"camera {image.name}",
                    "error",
                    f"{text}, principal point {centre[0]:.0f}, {centre[1]:.0f}: implausible",
                    "calibrate the camera again, at the size it publishes",
                )
            )
            continue
        distance = float(np.linalg.norm(image.T_cam_lidar[:3, 3]))
        text += f", {distance:.2f} m from the lidar"
        if np.allclose(image.T_cam_lidar, np.eye(4)):
            found.append(
                Finding(
                    f"camera {image.name}",
                    "note",
                    f"{text}: the extrinsics are exactly the identity",
                    "right only where depth comes registered to colour; otherwise give the "
                    "measured T_cam_lidar",
                )
            )
        elif distance > 10:
            found.append(
                Finding(
                    f"camera {image.name}",
                    "error",
                    text,
                    "give the translation of T_cam_lidar in metres",
                )
            )
        else:
            found.append(Finding(f"camera {image.name}", "ok", text))
    return found


def calibration(path: Path) -> list[Finding]:
    """Intrinsics and extrinsics of every camera in the first frame of a data set or bag."""
    from condense_ros.datasets import open_dataset

    try:
        dataset = open_dataset(path)
        if len(dataset) == 0:
            return [
                Finding(
                    "calibration",
                    "error",
                    f"{path} holds no frame",
                    "record again; `condense bag info` shows what was dropped and why",
                )
            ]
        frame = dataset[0]
    except CondenseError as error:
        return [Finding("calibration", "error", error.problem, error.fix or "restore the data")]
    if not frame.images:
        return [
            Finding(
                "calibration",
                "warning",
                f"{path} has clouds but no images: nothing to pretrain from",
                "record with images and camera_info",
            )
        ]
    return _camera_findings(frame)
