"""WaffleIron (Puy et al., "Using a Waffle Iron for Automotive Point Cloud Semantic Segmentation",
ICCV 2023): point tokens mixed on dense planes, without any sparse convolution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from condense_ros.errors import SparseError
from condense_ros.models.configs import PLANES, WaffleIronConfig
from condense_ros.models.neighbours import nearest_neighbours
from condense_ros.sparse import RowBatchNorm, Voxels

#: tokens embedded at once in inference
_SLICE = 1 << 14


@dataclass(frozen=True, eq=False)
class Projection:
    """Tokens on one plane.

    Attributes:
        cells: (N,) int64 cell of each token, batch element slowest, the plane's first axis next.
        share: (N, 1) float64, one divided by the tokens of the cell.
        shape: batch elements and cells along both axes.
    """

    cells: Tensor
    share: Tensor
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, place: Tensor, batch: Tensor, shape: tuple[int, int, int]) -> Projection:
        """The projection of places (N, 2) int64 in cells."""
        cells = (batch * shape[1] + place[:, 0]) * shape[2] + place[:, 1]
        count = torch.bincount(cells, minlength=shape[0] * shape[1] * shape[2])
        return cls(cells, count.double().reciprocal()[cells][:, None], shape)

    def flatten(self, tokens: Tensor) -> Tensor:
        """(B, C, H, W): the mean of the tokens (N, C) of each cell, zero in empty ones."""
        b, h, w = self.shape
        grid = tokens.new_zeros(b * h * w, tokens.shape[1])
        grid = grid.index_add(0, self.cells, tokens * self.share.to(tokens.dtype))
        return grid.view(b, h, w, -1).permute(0, 3, 1, 2)

    def inflate(self, grid: Tensor) -> Tensor:
        """(N, C): each token's cell of a grid (B, C, H, W)."""
        return grid.permute(0, 2, 3, 1).flatten(0, 2).index_select(0, self.cells)


class Embedding(nn.Module):
    """Tokens from points and their neighbours: the published embedding layer.

    A point's features, and the maximum over its neighbours of an MLP of their differences to it.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.norm = RowBatchNorm(in_channels)
        self.point = nn.Linear(in_channels, channels)
        self.neighbour = nn.Sequential(
            RowBatchNorm(in_channels),
            nn.Linear(in_channels, channels, bias=False),
            RowBatchNorm(channels),
            nn.ReLU(),
            nn.Linear(channels, channels, bias=False),
        )
        self.merge = nn.Linear(2 * channels, channels)

    def forward(self, features: Tensor, neighbours: Tensor) -> Tensor:
        """(N, channels) tokens of (N, in_channels) features and (N, K) rows of neighbours."""
        x = self.norm(features)
        # where norms take every row for itself, slices bound the memory of rows x neighbours
        whole = self.training or torch.is_grad_enabled()
        parts = neighbours.split(max(1, len(x)) if whole else _SLICE)
        rows = x.split([len(part) for part in parts])
        around = torch.cat(
            [self._around(x[part] - own[:, None]) for part, own in zip(parts, rows, strict=True)]
        )
        out: Tensor = self.merge(torch.cat([self.point(x), around], 1))
        return out

    def _around(self, differences: Tensor) -> Tensor:
        mixed = self.neighbour(differences.flatten(0, 1))
        return mixed.unflatten(0, differences.shape[:2]).amax(1)


class _Residual(nn.Module):
    """Norm, layer scale and stochastic depth, shared by the two kinds of mixing."""

    def __init__(self, channels: int, norm: str, drop_path: float) -> None:
        super().__init__()
        self.norm: nn.Module = RowBatchNorm(channels) if norm == "batch" else nn.LayerNorm(channels)
        # the published layer scale is a depthwise 1x1 convolution with torch's own initialisation
        self.scale = nn.Parameter(torch.empty(channels).uniform_(-1.0, 1.0))
        self.drop_path = drop_path

    def _add(self, tokens: Tensor, residual: Tensor, batch: Tensor, clouds: int) -> Tensor:
        residual = residual * self.scale
        if self.training and self.drop_path:
            # whole clouds keep or skip the branch
            kept = torch.rand(clouds, device=tokens.device) >= self.drop_path
            residual = residual * (kept[batch] / (1 - self.drop_path))[:, None].to(residual.dtype)
        return tokens + residual


class SpatialMix(_Residual):
    """Tokens to a plane, two depthwise 3x3 convolutions there, and back to the tokens."""

    def __init__(self, channels: int, norm: str, drop_path: float) -> None:
        super().__init__(channels, norm, drop_path)
        self.mix = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
        )

    def forward(self, tokens: Tensor, batch: Tensor, plane: Projection) -> Tensor:
        mixed = plane.inflate(self.mix(plane.flatten(self.norm(tokens))))
        return self._add(tokens, mixed, batch, plane.shape[0])


class ChannelMix(_Residual):
    """An MLP of each token."""

    def __init__(self, channels: int, norm: str, drop_path: float) -> None:
        super().__init__(channels, norm, drop_path)
        self.mix = nn.Sequential(
            nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, channels)
        )

    def forward(self, tokens: Tensor, batch: Tensor, clouds: int) -> Tensor:
        return self._add(tokens, self.mix(self.norm(tokens)), batch, clouds)


class WaffleIron(nn.Module):
    """Embedding and `depth` layers of spatial and channel mixing; one token per voxel.

    Tokens lie where the points of their voxel lie. With `reduce="first"` a token is a point, as
    published.
    """

    def __init__(self, config: WaffleIronConfig) -> None:
        super().__init__()
        self.config = config
        c, how = config.channels, (config.norm, config.drop_path)
        self.embed = Embedding(config.input.channels, c)
        self.spatial = nn.ModuleList(SpatialMix(c, *how) for _ in range(config.depth))
        self.channel = nn.ModuleList(ChannelMix(c, *how) for _ in range(config.depth))

    @property
    def out_channels(self) -> int:
        return self.config.channels

    def forward(self, voxels: Voxels) -> Tensor:
        """(M, channels) features of the voxels.

        Raises:
            SparseError: features or positions that are not of the network's input.
        """
        if not isinstance(voxels, Voxels):
            raise SparseError(
                f"a WaffleIron was given a {type(voxels).__name__}",
                "give Voxels: it needs the positions of points",
            )
        if voxels.features.shape[1] != self.config.input.channels:
            raise SparseError(
                f"{voxels.features.shape[1]} features per voxel for a network of "
                f"{self.config.input.channels}",
                "voxelize with the backbone's own InputSpec",
            )
        batch = voxels.coords[:, 0].long()
        planes = self.projections(voxels.positions, batch, voxels.batch_size)
        around = nearest_neighbours(voxels.positions, batch, self.config.neighbours)
        tokens = self.embed(voxels.features.to(self.embed.point.weight.dtype), around)
        for i, (spatial, channel) in enumerate(zip(self.spatial, self.channel, strict=True)):
            tokens = spatial(tokens, batch, planes[i % len(planes)])
            tokens = channel(tokens, batch, voxels.batch_size)
        return tokens

    def projections(self, positions: Tensor, batch: Tensor, clouds: int) -> list[Projection]:
        """The planes that the layers take in turn.

        Args:
            positions: (N, 3) metres, inside the box.
            batch: (N,) int64.
            clouds: batch elements.

        Raises:
            SparseError: positions outside the box.
        """
        points = positions.double()
        low, high = (points.new_tensor(corner) for corner in self.config.box)
        part = (points - low) / (high - low)
        # means of points at the very border may round across it
        if bool(((part < -1e-6) | (part > 1 + 1e-6)).any()):
            raise SparseError(
                f"points outside the box {self.config.box}",
                "voxelize with the backbone's own InputSpec",
            )
        planes = []
        for name in self.config.planes:
            shape = self.config.shapes[name]
            size = part.new_tensor(shape)
            place = torch.floor(part[:, list(PLANES[name])] * size)
            place = torch.minimum(place.clamp(min=0), size - 1).long()
            planes.append(Projection.of(place, batch, (clouds, *shape)))
        return planes
