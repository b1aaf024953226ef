"""The clouds that the engine is measured on: simulated sweeps by name, or files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from condense_ros.errors import ConfigError
from condense_ros.frame import PointCloud

#: name -> model of the LiDAR that sweeps the simulated street
SENSORS = {"64beam": "hdl64e", "32beam": "hdl32e"}
#: a town of a few streets takes a second to build, and a sweep of 90 m sees no farther
_COLUMNS, _ROWS, _SEED, _SECONDS = 3, 2, 0, 3.0


def load_cloud(name: str) -> PointCloud:
    """The cloud of a name or file, with intensities; always the same points.

    Where a file has no intensities they are 0: how long a network takes does not depend on them.

    Raises:
        ConfigError: neither a known name nor an existing file.
        DatasetError: a file that is no cloud.
    """
    if name in SENSORS:
        cloud = _street(SENSORS[name])
    else:
        if not Path(name).exists():
            raise ConfigError(
                f"cloud {name!r} is no file", f"give {' or '.join(SENSORS)}, or an existing file"
            )
        from condense_ros.datasets import read_cloud

        cloud = read_cloud(name)
    if cloud.intensity is None:
        cloud = replace(cloud, intensity=np.zeros(len(cloud), np.float32))
    return cloud


def _street(model: str) -> PointCloud:
    from condense_ros import sim
    from condense_ros.sim.scenery import EPOCH_NS

    world = sim.World(_SEED, sim.WorldConfig(columns=_COLUMNS, rows=_ROWS))
    rig = sim.Rig.from_dict({"cameras": [], "lidar": {"model": model}})
    pose = sim.drive(world, _SECONDS + 1.0, 1.0, seed=_SEED)[-1]
    return sim.Simulator(world, rig).frame(pose, EPOCH_NS, images=False).cloud
