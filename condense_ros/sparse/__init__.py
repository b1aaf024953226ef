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
    from condense_ros.sparse.local_pooling import (
        AveragePool3d,
        MaxPool3d,
        SumPool3d,
        Unpool3d,
    )
    from condense_ros.sparse.maps import (
        MapCache,
    )
    from condense_ros.sparse.pooling import (
        GeMPooling,
        global_average,
        global_max,
        global_sum,
    )
    from condense_ros.sparse.row_norm import (
        RowBatchNorm,
    )
    from condense_ros.sparse.sampling import (
        Sampler,
        sample,
    )
    from condense_ros.sparse.sets import (
        prune,
        shared_rows,
        union,
    )
    from condense_ros.sparse.sync_norm import (
        SyncBatchNorm,
        convert_sync_batchnorm,
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
    "AveragePool3d": "local_pooling",
    "BatchNorm": "layers",
    "GeMPooling": "pooling",
    "Grid": "grid",
    "KernelMap": "kernel_map",
    "Linear": "layers",
    "MapCache": "maps",
    "MaxPool3d": "local_pooling",
    "Overflow": "voxels",
    "ReLU": "layers",
    "RowBatchNorm": "row_norm",
    "Sampler": "sampling",
    "SparseTensor": "tensor",
    "StridedConv3d": "layers",
    "SubmanifoldConv3d": "layers",
    "SumPool3d": "local_pooling",
    "SyncBatchNorm": "sync_norm",
    "TransposedConv3d": "layers",
    "Unpool3d": "local_pooling",
    "Voxels": "voxels",
    "backend_name": "backends.switch",
    "cat": "tensor",
    "collate": "voxels",
    "conv_norm": "layers",
    "convert_sync_batchnorm": "sync_norm",
    "fused_convolution": "convolution",
    "global_average": "pooling",
    "global_max": "pooling",
    "global_sum": "pooling",
    "prune": "sets",
    "sample": "sampling",
    "set_backend": "backends.switch",
    "shared_rows": "sets",
    "sparse_convolution": "convolution",
    "union": "sets",
    "use_backend": "backends.switch",
    "voxelize": "voxelization",
}

__all__ = [
    "AveragePool3d",
    "BatchNorm",
    "GeMPooling",
    "Grid",
    "KernelMap",
    "Linear",
    "MapCache",
    "MaxPool3d",
    "Overflow",
    "ReLU",
    "RowBatchNorm",
    "Sampler",
    "SparseTensor",
    "StridedConv3d",
    "SubmanifoldConv3d",
    "SumPool3d",
    "SyncBatchNorm",
    "TransposedConv3d",
    "Unpool3d",
    "Voxels",
    "backend_name",
    "cat",
    "collate",
    "conv_norm",
    "convert_sync_batchnorm",
    "fused_convolution",
    "global_average",
    "global_max",
    "global_sum",
    "prune",
    "sample",
    "set_backend",
    "shared_rows",
    "sparse_convolution",
    "union",
    "use_backend",
    "voxelize",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
