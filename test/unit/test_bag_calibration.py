"""Calibration in force at any time of a bag, however often /tf_static is repeated."""

from __future__ import annotations

import numpy as np
from bag_tools import START_NS

from condense_ros.bags import BagReader, BagWriter
from condense_ros.datasets import bag_calibration
from condense_ros.datasets.bag_calibration import BagCalibration
from condense_ros.geometry import se3
from condense_ros.wire import TF, StampedTransform, encode_tf

SECOND = 10**9


def test_repeated_static_transforms_do_not_fill_the_memory(tmp_path):
    """A driver that says its mounting every second, and moves it now and then."""
    with BagWriter(tmp_path / "bag") as writer:
        for k in range(60):
            T = se3(np.eye(3), [0.1 * (k // 10), 0, 0])
            stamp = START_NS + k * SECOND
            raw = encode_tf([StampedTransform(stamp, "base_link", "lidar", T)])
            assert writer.write("/tf_static", TF, raw, stamp, stamp)
    calibration = BagCalibration(BagReader(tmp_path / "bag"))
    for k in [*range(60), *range(59, -1, -1), 7, 42, 7]:
        stamp = START_NS + k * SECOND + SECOND // 2
        T = calibration.extrinsics("base_link", "lidar", stamp, stamp)
        assert T[0, 3] == 0.1 * (k // 10)
        assert len(calibration._buffers) <= bag_calibration.MAX_BUFFERS
