"""Sparse 3D convolutions in pure torch: tensors, kernel maps, layers, pooling, voxelization.

Names load on first use: torch takes seconds to import, `condense --help` must not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from condense_ros.sparse.convolution import (
        sparse_convolution,
    )
    from condense_ros.sparse.layers import (
        BatchNorm,
        Linear,
        ReLU,
        StridedConv3d,
        SubmanifoldConv3d,
        TransposedConv3d,
    )
    from condense_ros.sparse.maps import (
        KernelMap,
        MapCache,
    )
    from condense_ros.sparse.pooling import (
        GeMPooling,
        global_average,
        global_max,
    )
    from condense_ros.sparse.tensor import (
        SparseTensor,
        cat,
    )
    from condense_ros.sparse.voxels import (
        Voxels,
        collate,
        voxelize,
    )

_HOMES = {
    "BatchNorm": "layers",
    "GeMPooling": "pooling",
    "KernelMap": "maps",
    "Linear": "layers",
    "MapCache": "maps",
    "ReLU": "layers",
    "SparseTensor": "tensor",
    "StridedConv3d": "layers",
    "SubmanifoldConv3d": "layers",
    "TransposedConv3d": "layers",
    "Voxels": "voxels",
    "cat": "tensor",
    "collate": "voxels",
    "global_average": "pooling",
    "global_max": "pooling",
    "sparse_convolution": "convolution",
    "voxelize": "voxels",
}

__all__ = [
    "BatchNorm",
    "GeMPooling",
    "KernelMap",
    "Linear",
    "MapCache",
    "ReLU",
    "SparseTensor",
    "StridedConv3d",
    "SubmanifoldConv3d",
    "TransposedConv3d",
    "Voxels",
    "cat",
    "collate",
    "global_average",
    "global_max",
    "sparse_convolution",
    "voxelize",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
