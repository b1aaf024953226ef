"""VoxelNet of stride 8, read from a bird's-eye view: the detection branch of SLidR and OLIVINE."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense_ros.errors import SparseError
from condense_ros.models.bev import flatten_height, sample_bev
from condense_ros.models.configs import VOXELNET_STEPS, VoxelNetConfig
from condense_ros.models.unet import ConvNorm
from condense_ros.sparse import (
    BatchNorm,
    Linear,
    ReLU,
    SparseTensor,
    StridedConv3d,
    SubmanifoldConv3d,
    Voxels,
)

_STRIDE = 8


def _part(conv: SubmanifoldConv3d | StridedConv3d) -> ConvNorm:
    return ConvNorm(conv, BatchNorm(conv.out_channels, eps=1e-3, momentum=0.01), ReLU())


class VoxelNet(nn.Module):
    """Sparse encoder of SECOND (Yan et al. 2018) that SLidR and OLIVINE pretrain: VoxelBackBone8x.

    Submanifold stem and first stage, three stages that halve the grid, an output convolution along
    z; strided convolutions have an output wherever their kernel reaches, within the grid. The
    published 1024 x 1024 x 40 grid ends as a view from above of 128 x 128 cells.
    """

    def __init__(self, config: VoxelNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, shapes = config.widths, config.shapes
        self.stem = _part(SubmanifoldConv3d(config.input.channels, widths[0]))
        stages = [nn.Sequential(_part(SubmanifoldConv3d(widths[0], widths[1])))]
        downs = []
        for i, (kernel, stride, padding) in enumerate(VOXELNET_STEPS):
            x, y, z = shapes[i + 1]
            conv = StridedConv3d(
                widths[i + 1],
                widths[i + 2],
                kernel,
                stride,
                padding=padding,
                outputs="reached",
                bounds=((0, 0, 0), (x - 1, y - 1, z - 1)),
            )
            downs.append(_part(conv))
        for down, width in zip(downs[:3], widths[2:5], strict=True):
            same = (_part(SubmanifoldConv3d(width, width)) for _ in range(2))
            stages.append(nn.Sequential(down, *same))
        self.stages = nn.Sequential(*stages)
        self.out = downs[3]

    @property
    def out_channels(self) -> int:
        return self.config.out_channels

    def encode(self, voxels: Voxels) -> SparseTensor:
        """Features (N, widths[-1]) of the cells of stride 8, coordinates from the box's low corner.

        Raises:
            SparseError: features or voxels that are not of the network's input.
        """
        x = self._grid_tensor(voxels)
        out: SparseTensor = self.out(self.stages(self.stem(x)))
        return out

    def bev(self, x: SparseTensor) -> Tensor:
        """(B, C * Z, X, Y) dense view of `encode`'s cells, or of a head's features on them."""
        return flatten_height(x, self.config.shapes[-1])

    def sample(self, bev: Tensor, batch: Tensor, xyz: Tensor) -> Tensor:
        """(P, C * Z) values of a dense view at points.

        Args:
            bev: (B, C * Z, X, Y), of `bev`.
            batch: (P,) int64 batch element of each point.
            xyz: (P, 3) metres, lidar frame.
        """
        low, _ = self.config.input.box_cells or ((0, 0, 0), None)
        size = xyz.new_tensor(self.config.input.sizes[:2])
        place = (xyz[:, :2] / size - xyz.new_tensor(low[:2])) / _STRIDE
        return sample_bev(bev, batch, place)

    def forward(self, voxels: Voxels) -> Tensor:
        """(M, out_channels): the dense view, read where the points of each voxel lie."""
        bev = self.bev(self.encode(voxels))
        return self.sample(bev, voxels.coords[:, 0].long(), voxels.positions.to(bev.dtype))

    def _grid_tensor(self, voxels: Voxels) -> SparseTensor:
        if not isinstance(voxels, Voxels):
            raise SparseError(
                f"a VoxelNet was given a {type(voxels).__name__}",
                "give Voxels: it needs the positions of points",
            )
        spec = self.config.input
        if voxels.features.shape[1] != spec.channels or voxels.grid != spec.grid:
            raise SparseError(
                f"{voxels.features.shape[1]} features per voxel of {voxels.grid} for a network of "
                f"{spec.channels} and {spec.grid}",
                "voxelize with the backbone's own InputSpec",
            )
        low, high = spec.box_cells or ((0, 0, 0), (0, 0, 0))
        coords = voxels.coords.clone()
        coords[:, 1:] -= torch.tensor(low, dtype=torch.int32, device=coords.device)
        size = torch.tensor(self.config.shapes[0], device=coords.device)
        if bool(((coords[:, 1:] < 0) | (coords[:, 1:] >= size)).any()):
            raise SparseError(
                f"voxels outside the box {low}..{high}",
                "voxelize with the backbone's own InputSpec",
            )
        return SparseTensor(voxels.features, coords, batch_size=voxels.batch_size)


class UnitHead(Linear):
    """A 1x1x1 convolution without bias whose features have unit length in every active cell.

    The projection of SLidR and OLIVINE: `net.sample(net.bev(head(net.encode(voxels))), ...)`.
    """

    def __init__(self, in_channels: int = 128, out_channels: int = 64) -> None:
        super().__init__(in_channels, out_channels, bias=False)

    def forward(self, x: SparseTensor) -> SparseTensor:  # type: ignore[override]
        y = super().forward(x)
        return y.replace(F.normalize(y.features, dim=1))
