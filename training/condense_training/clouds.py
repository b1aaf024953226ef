"""Voxels of a batch as plain arrays, and back: what recipes hand to a backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from condense_ros.models import InputSpec
from condense_ros.sparse import Voxels


def cloud_arrays(voxels: Voxels) -> dict[str, npt.NDArray[np.generic]]:
    """Coordinates, features and positions of one cloud's voxels, for a sample."""
    return {
        "coords": voxels.coords.numpy(),
        "features": voxels.features.numpy(),
        "positions": voxels.positions.numpy(),
    }


def stack_clouds(samples: Sequence[Mapping[str, npt.NDArray]]) -> dict[str, Tensor]:
    """The clouds of several samples as tensors; the batch number is the first coordinate."""
    coords = []
    for number, sample in enumerate(samples):
        shifted = sample["coords"].copy()
        shifted[:, 0] = number
        coords.append(shifted)
    stacked = {
        name: np.concatenate([sample[name] for sample in samples])
        for name in ("features", "positions")
    }
    stacked["coords"] = np.concatenate(coords)
    return {name: torch.from_numpy(values) for name, values in stacked.items()}


def voxels_of(batch: Mapping[str, Tensor], spec: InputSpec, clouds: int) -> Voxels:
    """The voxels of a batch made by `stack_clouds`, without the points they came from.

    Args:
        spec: the backbone's input, which made them.
        clouds: batch elements.
    """
    coords = batch["coords"]
    none = torch.empty(0, dtype=torch.int64, device=coords.device)
    return Voxels(coords, batch["features"], none, (0,) * clouds, spec.grid, batch["positions"])
