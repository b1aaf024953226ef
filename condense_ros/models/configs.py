"""What backbones are built from: one frozen config per architecture."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from condense_ros import config
from condense_ros.config import parameter
from condense_ros.errors import ConfigError
from condense_ros.models.inputs import Cell, InputSpec


class _Described:
    """Plain values and back, for checkpoints."""

    architecture: ClassVar[str]
    #: fields that older files lack: named only where they differ from their defaults, for the
    #: identity of a checkpoint, which maps remember, is a hash of the description
    later: ClassVar[tuple[str, ...]] = ()
    input: InputSpec

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values: dict[str, Any] = {"architecture": self.architecture, "input": self.input.to_dict()}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if field.name == "input" or (field.name in self.later and value == field.default):
                continue
            values[field.name] = list(value) if isinstance(value, tuple) else value
        return values

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> AnyBackboneConfig:
        """The inverse of `to_dict`, of whichever architecture the values name.

        Raises:
            ConfigError: an unknown architecture, or values a backbone cannot be built from.
        """
        values = dict(values)
        name = values.pop("architecture", BackboneConfig.architecture)
        if not isinstance(name, str) or name not in ARCHITECTURES:
            raise ConfigError(
                f"backbone architecture {name!r}",
                f"this software knows {', '.join(ARCHITECTURES)}",
            )
        spec = values.pop("input", {})
        if not isinstance(spec, Mapping):
            raise ConfigError(f"backbone input is {spec!r}", "give the fields of an InputSpec")
        return config.build(ARCHITECTURES[name], {**values, "input": config.build(InputSpec, spec)})


@dataclasses.dataclass(frozen=True)
class BackboneConfig(_Described):
    """A sparse U-Net."""

    architecture: ClassVar[str] = "sparse-unet"
    later: ClassVar[tuple[str, ...]] = ("stem_layers", "widening")

    input: InputSpec = dataclasses.field(default_factory=InputSpec)
    widths: tuple[int, ...] = parameter(
        (32, 32, 64, 128, 256, 256, 128, 96, 96),
        "channels of the stem, four encoder and four decoder levels",
        low=1,
        high=4096,
    )
    blocks: tuple[int, ...] = parameter(
        (2, 2, 2, 2, 2, 2, 2, 2),
        "residual blocks of the encoder and decoder levels",
        low=1,
        high=64,
    )
    stem_kernel: int = parameter(3, "odd kernel size of the first convolution", low=1, high=9)
    stem_layers: int = parameter(
        1, "convolutions of the stem; those after the first are 3x3x3", low=1, high=8
    )
    widening: str = parameter(
        "block", "where encoder levels take their width: block or down (the strided convolution)"
    )

    @property
    def out_channels(self) -> int:
        return self.widths[-1] if self.widths else 0


#: kernel, stride and padding (x, y, z) of VoxelNet's four downsampling convolutions
VOXELNET_STEPS: tuple[tuple[Cell, Cell, Cell], ...] = (
    ((3, 3, 3), (2, 2, 2), (1, 1, 1)),
    ((3, 3, 3), (2, 2, 2), (1, 1, 1)),
    ((3, 3, 3), (2, 2, 2), (1, 1, 0)),
    ((1, 1, 3), (1, 1, 2), (0, 0, 0)),
)
#: the input of the released VoxelNet configurations on nuScenes
VOXELNET_INPUT = InputSpec(
    max_range_m=75.0,
    features=("x", "y", "z", "intensity"),
    intensity_scale=255.0,
    voxel_sizes=(0.1, 0.1, 0.2),
    box_m=(-51.2, -51.2, -5.0, 51.2, 51.2, 3.0),
    max_points_per_voxel=10,
    max_voxels=60000,
)


@dataclasses.dataclass(frozen=True)
class VoxelNetConfig(_Described):
    """A VoxelNet of stride 8, whose features are read from a bird's-eye view.

    Raises:
        ConfigError: not six widths, or an input without a box or with too flat a one.
    """

    architecture: ClassVar[str] = "voxelnet"

    input: InputSpec = VOXELNET_INPUT
    widths: tuple[int, ...] = parameter(
        (16, 16, 32, 64, 64, 128),
        "channels of the stem, of four stages and of the output",
        low=1,
        high=4096,
    )

    def __post_init__(self) -> None:
        if len(self.widths) != 6:
            raise ConfigError(
                f"VoxelNet widths are {self.widths}",
                "give 6 channel counts: stem, four stages, output",
            )
        if self.input.box_cells is None:
            raise ConfigError(
                "a VoxelNet's input without box_m", "give the box that its grid covers"
            )
        if min(self.shapes[-1]) < 1:
            raise ConfigError(
                f"a box of {self.shapes[0]} voxels, which VoxelNet shrinks to {self.shapes[-1]}",
                "give a larger box or smaller voxels: at least 25 along z",
            )

    @property
    def shapes(self) -> tuple[Cell, ...]:
        """Voxels per axis (x, y, z) of the input grid and after each downsampling."""
        low, high = self.input.box_cells or ((0, 0, 0), (0, 0, 0))
        shapes: list[Cell] = [(high[0] - low[0], high[1] - low[1], high[2] - low[2])]
        for step in VOXELNET_STEPS:
            sizes = zip(shapes[-1], *step, strict=True)
            x, y, z = ((n + 2 * pad - kernel) // by + 1 for n, kernel, by, pad in sizes)
            shapes.append((x, y, z))
        return tuple(shapes)

    @property
    def out_channels(self) -> int:
        return self.widths[-1] * self.shapes[-1][2]


#: axes that span each plane
PLANES = {"xy": (0, 1), "xz": (0, 2), "yz": (1, 2)}
#: the input of the released WaffleIron configuration on nuScenes
WAFFLEIRON_INPUT = InputSpec(
    max_range_m=75.0,
    features=("intensity", "x", "y", "z", "range"),
    intensity_scale=255.0,
    reduce="first",
    box_m=(-50.0, -50.0, -5.0, 50.0, 50.0, 5.0),
)


@dataclasses.dataclass(frozen=True)
class WaffleIronConfig(_Described):
    """A WaffleIron: dense convolutions on planes instead of sparse ones in space.

    Raises:
        ConfigError: unknown planes or norm, or an input without a box.
    """

    architecture: ClassVar[str] = "waffleiron"

    input: InputSpec = WAFFLEIRON_INPUT
    channels: int = parameter(256, "features of a point token", low=1, high=4096)
    depth: int = parameter(48, "layers, each a spatial and a channel mixing", low=1, high=512)
    cell_m: float = parameter(0.6, "edge of a plane's cells, metres", low=0.01, high=100.0)
    planes: tuple[str, ...] = parameter(
        ("xy", "xz", "yz"), "planes that the layers take in turn, of: " + ", ".join(PLANES)
    )
    neighbours: int = parameter(16, "nearest points that a token is made from", low=1, high=256)
    norm: str = parameter("batch", "norm of tokens: batch (WaffleIron) or layer (ScaLR)")
    drop_path: float = parameter(
        0.0, "probability that a cloud skips a residual branch in training", low=0.0, high=0.99
    )

    def __post_init__(self) -> None:
        if not self.planes or any(plane not in PLANES for plane in self.planes):
            raise ConfigError(f"planes are {self.planes}", f"name planes of: {', '.join(PLANES)}")
        if self.norm not in ("batch", "layer"):
            raise ConfigError(f"norm is {self.norm!r}", 'use "batch" or "layer"')
        if self.input.box_cells is None:
            raise ConfigError(
                "a WaffleIron's input without box_m", "give the box that its planes cover"
            )

    @property
    def box(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Low and high corner of the box, metres, on whole voxels."""
        low, high = self.input.box_cells or ((0, 0, 0), (0, 0, 0))
        sizes = self.input.sizes
        return (
            tuple(c * s for c, s in zip(low, sizes, strict=True)),
            tuple(c * s for c, s in zip(high, sizes, strict=True)),
        )

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Cells of each plane: as many of at least cell_m as the box holds."""
        cells = [max(1, int((b - a) / self.cell_m + 1e-6)) for a, b in zip(*self.box, strict=True)]
        return {name: (cells[i], cells[j]) for name, (i, j) in PLANES.items()}

    @property
    def out_channels(self) -> int:
        return self.channels


AnyBackboneConfig = BackboneConfig | VoxelNetConfig | WaffleIronConfig
#: config class of each architecture
ARCHITECTURES: dict[str, type[AnyBackboneConfig]] = {
    kind.architecture: kind for kind in (BackboneConfig, VoxelNetConfig, WaffleIronConfig)
}
