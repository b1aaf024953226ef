"""`InputSpec`: which voxels a cloud becomes, and descriptions of older checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from condense_ros import config
from condense_ros.errors import ConfigError
from condense_ros.frame import PointCloud
from condense_ros.models import InputSpec

VOXELNET = InputSpec(
    features=("x", "y", "z", "intensity"),
    voxel_sizes=(0.1, 0.1, 0.2),
    max_range_m=75.0,
    box_m=(-51.2, -51.2, -5.0, 51.2, 51.2, 3.0),
    max_points_per_voxel=10,
    max_voxels=60000,
)
CYLINDRICAL = InputSpec(0.1, 60.0, features=("one",), coordinates="cylindrical", reduce="first")


def test_older_descriptions_stay_as_they_are() -> None:
    """A new key with its default would change the identity of every checkpoint."""
    old = {
        "voxel_size_m": 0.15,
        "max_range_m": 45.0,
        "min_range_m": 1.0,
        "features": ["one", "range"],
        "intensity_scale": 255.0,
    }
    spec = config.build(InputSpec, old)
    assert spec == InputSpec(0.15, 45.0, 1.0, ("one", "range"), 255.0)
    assert spec.to_dict() == old
    assert spec.sizes == (0.15, 0.15, 0.15)


@pytest.mark.parametrize("spec", [VOXELNET, CYLINDRICAL, InputSpec(0.2, voxel_sizes=(1, 2, 3))])
def test_round_trip_through_plain_values(spec: InputSpec) -> None:
    assert config.build(InputSpec, spec.to_dict()) == spec


def test_grid_of_voxelnet() -> None:
    assert VOXELNET.voxel_size_m == 0.1
    assert VOXELNET.box_cells == ((-512, -512, -25), (512, 512, 15))
    xyz = np.array(
        [[51.19, 0, 0], [51.2, 0, 0], [-51.2, 1, 0], [-51.19, 1, 0], [5, 5, 2.99], [5, 5, 3.0]],
        np.float32,
    )
    voxels = VOXELNET.voxelize(PointCloud(xyz, intensity=np.ones(6)))
    # -51.2 rounds to a float32 just outside
    assert (voxels.inverse >= 0).tolist() == [True, False, False, True, True, False]
    assert voxels.coords[voxels.inverse[0], 1:].tolist() == [511, 0, 0]
    assert voxels.coords[voxels.inverse[3], 1:].tolist() == [-512, 10, 0]
    torch.testing.assert_close(
        voxels.features[voxels.inverse[0]], torch.tensor([51.19, 0.0, 0.0, 1.0])
    )
    assert torch.equal(voxels.features[:, :3], voxels.positions)


def test_a_box_is_rounded_inwards_to_whole_voxels() -> None:
    spec = InputSpec(0.5, 20.0, 0.0, box_m=(-1.2, 0.0, -0.5, 1.2, 1.0, 0.6))
    assert spec.box_cells == ((-2, 0, -1), (2, 2, 1))
    xyz = np.array([[-1.1, 0.2, 0], [-0.9, 0.2, 0], [1.1, 0.2, 0], [0.2, 0.2, 0.55], [np.nan] * 3])
    assert spec.keep(PointCloud(xyz)).tolist() == [False, True, False, False, False]


def test_voxels_beyond_the_limit_are_counted() -> None:
    spec = InputSpec(1.0, 50.0, max_voxels=2)
    xyz = np.array([[5.5, 0, 0], [99, 0, 0], [6.5, 0, 0], [7.5, 0, 0], [7.6, 0, 0], [5.6, 0, 0]])
    voxels = spec.voxelize(PointCloud(xyz))
    assert voxels.inverse.tolist() == [0, -1, 1, -1, -1, 0]
    assert (voxels.overflow.voxels, voxels.overflow.voxel_points) == (1, 2)


def test_cylindrical_input_takes_the_first_point_of_a_degree() -> None:
    assert CYLINDRICAL.sizes == (0.1, 1.0, 0.1)
    angles = np.deg2rad([0.2, 0.7, 1.5])
    xyz = np.stack([5.05 * np.cos(angles), 5.05 * np.sin(angles), np.zeros(3)], 1)
    voxels = CYLINDRICAL.voxelize(PointCloud(xyz))
    assert voxels.coords.tolist() == [[0, 50, 0, 0], [0, 50, 1, 0]]
    np.testing.assert_allclose(voxels.positions[0], xyz[0], rtol=1e-6)


@pytest.mark.parametrize(
    "values",
    [
        {"coordinates": "spherical"},
        {"reduce": "max"},
        {"voxel_sizes": (0.1, 0.1)},
        {"voxel_sizes": (0.1, 0.1, -1.0)},
        {"box_m": (0, 0, 0, 1, 1)},
        {"box_m": (0, 0, 0, 1, 1, 0.05)},
        {"box_m": (-1, -1, -1, 1, 1, 1), "coordinates": "cylindrical"},
        {"max_voxels": -1},
        {"max_points_per_voxel": -1},
        {"coordinates": "cylindrical", "voxel_sizes": (0.1, 0.002, 0.1)},
        {"features": ("w",)},
    ],
)
def test_bad_specs(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        config.build(InputSpec, values)
    assert caught.value.fix
