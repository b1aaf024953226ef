"""Sparse 3D convolutions: tensors, kernel maps, layers, backends, pooling, voxelization.

Names load on first use: torch takes seconds to import, `condense --help` must not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from condense_ros.sparse.backends.switch import (
        backend_name,
        set_backend,
        use_backend,
    )
    from condense_ros.sparse.convolution import (
        fused_convolution,
        sparse_convolution,
    )
    from condense_ros.sparse.grid import (
        Grid,
    )
    from condense_ros.sparse.kernel_map import (
        KernelMap,
    )
    from condense_ros.sparse.layers import (
        BatchNorm,
        Linear,
        ReLU,
        StridedConv3d,
        SubmanifoldConv3d,
        TransposedConv3d,
        conv_norm,
    )
    from condense_ros.sparse.maps import (
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
    from condense_ros.sparse.voxelization import (
        voxelize,
    )
    from condense_ros.sparse.voxels import (
        Overflow,
        Voxels,
        collate,
    )

_HOMES = {
    "BatchNorm": "layers",
    "GeMPooling": "pooling",
    "Grid": "grid",
    "KernelMap": "kernel_map",
    "Linear": "layers",
    "MapCache": "maps",
    "Overflow": "voxels",
    "ReLU": "layers",
    "SparseTensor": "tensor",
    "StridedConv3d": "layers",
    "SubmanifoldConv3d": "layers",
    "TransposedConv3d": "layers",
    "Voxels": "voxels",
    "backend_name": "backends.switch",
    "cat": "tensor",
    "collate": "voxels",
    "conv_norm": "layers",
    "fused_convolution": "convolution",
    "global_average": "pooling",
    "global_max": "pooling",
    "set_backend": "backends.switch",
    "sparse_convolution": "convolution",
    "use_backend": "backends.switch",
    "voxelize": "voxelization",
}

__all__ = [
    "BatchNorm",
    "GeMPooling",
    "Grid",
    "KernelMap",
    "Linear",
    "MapCache",
    "Overflow",
    "ReLU",
    "SparseTensor",
    "StridedConv3d",
    "SubmanifoldConv3d",
    "TransposedConv3d",
    "Voxels",
    "backend_name",
    "cat",
    "collate",
    "conv_norm",
    "fused_convolution",
    "global_average",
    "global_max",
    "set_backend",
    "sparse_convolution",
    "use_backend",
    "voxelize",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
