"""Parts of `condense calib` that need no recording."""

from __future__ import annotations

import numpy as np
import pytest

from condense_ros.cli.commands.calib import _deskewed
from condense_ros.deskew import exp_se3
from condense_ros.errors import DatasetError
from condense_ros.frame import Frame, PointCloud
from condense_ros.geometry import inverse, transform

TWIST = np.array([8.0, 0, 0, 0, 0, 0.6])


class Drive(list):
    name = "drive"


def drive(posed: bool = True) -> Drive:
    """Three sweeps of 0.1 s that see the same points from a moving vehicle."""
    rng = np.random.default_rng(1)
    world, time_s = rng.uniform(-20, 20, (50, 3)), rng.uniform(0, 0.0999, 50)
    frames = Drive()
    for k in range(3):
        start = 0.1 * k
        seen = np.array(
            [
                transform(inverse(exp_se3(TWIST * (start + t))), p[None])[0]
                for t, p in zip(time_s, world, strict=True)
            ]
        )
        pose = exp_se3(TWIST * start) if posed else None
        frames.append(
            Frame(10**9 + k * 10**8, PointCloud(seen, time_s=time_s), T_world_lidar=pose, index=k)
        )
    return frames


@pytest.mark.parametrize("number", [0, 1, 2])
def test_sweeps_are_carried_along_the_poses_around_them(number: int) -> None:
    dataset = drive()
    frame = _deskewed(dataset, number)
    assert frame.cloud.time_s is None
    first = dataset[0].cloud.xyz
    assert np.abs(dataset[2].cloud.xyz - first).max() > 0.5
    # all at their stamps: the world points of the three sweeps are the same
    world = transform(frame.T_world_lidar, frame.cloud.xyz)
    zero = transform(np.eye(4), _deskewed(dataset, 0).cloud.xyz)
    assert np.abs(world - zero).max() < 1e-4


def test_deskew_needs_poses() -> None:
    with pytest.raises(DatasetError, match="without poses"):
        _deskewed(drive(posed=False), 1)
