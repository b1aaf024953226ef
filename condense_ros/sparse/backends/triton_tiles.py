"""Sizes of the tiles that the Triton kernels compute: defaults, and what a tuner may try.

Plain Python: the choice is made on the host from shapes alone.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import product

FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT = "forward", "input_gradient", "weight_gradient"
#: bytes of shared memory that every GPU from compute capability 8.0 on gives one program
_SHARED_BYTES = 99 * 1024
_ACCUMULATORS = 128 * 128


@dataclass(frozen=True)
class Shape:
    """What one layer computes, as far as the best tiles depend on it.

    Attributes:
        kind: "forward", "input_gradient" or "weight_gradient".
        precision: "float16", "bfloat16", or how float32 is multiplied: "ieee", "tf32", "tf32x3".
        c_in, c_out: channels of the features read and written.
        kernel: number K of offsets.
        bucket: log2 of the number of rows, rounded up: clouds of like size share their tiles.
    """

    kind: str
    precision: str
    c_in: int
    c_out: int
    kernel: int
    bucket: int

    @classmethod
    def of(cls, kind: str, precision: str, c_in: int, c_out: int, kernel: int, rows: int) -> Shape:
        """The shape of a layer over that many rows."""
        return cls(kind, precision, c_in, c_out, kernel, max(rows - 1, 0).bit_length())

    @property
    def name(self) -> str:
        """One line, the key of stored results."""
        return (
            f"{self.kind} {self.precision} {self.c_in}x{self.c_out} k{self.kernel} n{self.bucket}"
        )

    @property
    def element_bytes(self) -> int:
        return 2 if self.precision in ("float16", "bfloat16") else 4


@dataclass(frozen=True)
class Tiles:
    """How a kernel cuts its work.

    Attributes:
        rows: voxels of a tile; those added per step in a gradient of weights.
        inner: input channels of a step; those of a tile in a gradient of weights.
        columns: output channels of a tile.
        parts: into how many sums a tile's products are split; in a gradient of weights, the rows.
        warps: of a program.
        stages: how many steps are in flight. Rows are found through an index that is loaded before,
            so features run ahead two steps less.
    """

    rows: int
    inner: int
    columns: int
    parts: int = 1
    warps: int = 4
    stages: int = 3

    def to_dict(self) -> dict[str, int]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: object) -> Tiles:
        """The inverse of `to_dict`.

        Raises:
            ValueError: anything a kernel cannot run with.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, dict) or set(values) != names:
            raise ValueError(f"tiles are {values!r}")
        for name, value in values.items():
            if type(value) is not int or not 1 <= value <= 1024:
                raise ValueError(f"{name} of tiles is {value!r}")
        tiles = cls(**values)
        blocks = (tiles.rows, tiles.inner, tiles.columns)
        if any(block < 16 or block & (block - 1) for block in blocks):
            raise ValueError(f"rows, inner, columns are {blocks}, not powers of two from 16 on")
        if tiles.warps not in (1, 2, 4, 8, 16) or tiles.stages > 8:
            raise ValueError(f"{tiles.warps} warps, {tiles.stages} stages")
        return tiles


def power_of_two(value: int, low: int = 16, high: int = 1024) -> int:
    """The smallest power of two from `value` on, within bounds."""
    return min(high, max(low, 1 << max(value - 1, 0).bit_length()))


def defaults(shape: Shape, processors: int) -> Tiles:
    """Tiles for a shape that nobody has tuned: safe in memory, enough programs for the device.

    Args:
        processors: multiprocessors of the device.
    """
    rows = 1 << shape.bucket
    half = shape.element_bytes == 2
    ieee = shape.precision == "ieee"
    if shape.kind == WEIGHT_GRADIENT:
        inner = power_of_two(shape.c_in, high=32 if ieee else 64)
        columns = power_of_two(shape.c_out, high=64)
        step = 32
        blocks = -(-shape.c_in // inner) * -(-shape.c_out // columns)
        # a LiDAR voxel has about 8 partners, so about 8 offsets' worth of full lists
        parts = _parts(4 * processors, blocks * min(shape.kernel, 8), -(-rows // (4 * step)), 64)
        return Tiles(step, inner, columns, parts, 4, 3 if ieee else 5)
    columns = power_of_two(shape.c_out, high=128 if half else 64)
    inner = power_of_two(shape.c_in, high=32)
    block = 64
    column_blocks = -(-shape.c_out // columns)
    if -(-rows // block) * column_blocks < 2 * processors:
        block = 32
    programs = -(-rows // block) * column_blocks
    steps = min(shape.kernel, 8) * -(-shape.c_in // inner)
    parts = _parts(2 * processors, programs, steps // 8, 4)
    return Tiles(block, inner, columns, parts, 4, 4 if ieee else 5)


def _parts(wanted: int, programs: int, most: int, limit: int) -> int:
    """Power of two by which to multiply `programs` to have about `wanted`, within bounds."""
    parts = 1
    while parts * programs < wanted and 2 * parts <= min(most, limit):
        parts *= 2
    return parts


def candidates(shape: Shape, processors: int) -> list[Tiles]:
    """What is worth timing for a shape, the default first."""
    default = defaults(shape, processors)
    found = {default: None}
    inner_most = power_of_two(shape.c_in)
    columns_most = power_of_two(shape.c_out)
    if shape.kind == WEIGHT_GRADIENT:
        sizes = product((32, 64), (16, 32, 64), (16, 32, 64, 128))
        all_parts = {default.parts, min(256, default.parts * 2)}
        all_stages: tuple[int, ...] = (2, 3) if shape.precision == "ieee" else (3, 5)
    else:
        sizes = product((32, 64, 128), (16, 32, 64), (16, 32, 64, 128))
        all_parts = {1, default.parts}
        all_stages = (2, 4) if shape.precision == "ieee" else (4, 5)
    for rows, inner, columns in sizes:
        if inner > inner_most or columns > columns_most or rows > 2 << shape.bucket:
            continue
        # a block far smaller than its side only repeats the gathering of rows
        if columns < min(columns_most, 128) // 4 or inner < min(inner_most, 64) // 2:
            continue
        if shape.precision == "ieee" and inner > 32 and shape.kind != WEIGHT_GRADIENT:
            continue
        for parts, stages in product(sorted(all_parts), all_stages):
            block = (inner if shape.kind == WEIGHT_GRADIENT else rows) * columns
            warps = 8 if block >= 128 * 64 else 4
            tiles = Tiles(rows, inner, columns, parts, warps, stages)
            if fits(shape, tiles):
                found[tiles] = None
    return list(found)


def fits(shape: Shape, tiles: Tiles) -> bool:
    """Whether sums fit the registers and staged operands the shared memory of any device."""
    if shape.kind == WEIGHT_GRADIENT:
        sums, operands = tiles.inner * tiles.columns, tiles.rows * (tiles.inner + tiles.columns)
    else:
        sums, operands = tiles.rows * tiles.columns, tiles.inner * (tiles.rows + tiles.columns)
    # of the stages, one computes and at least one loads indices only
    staged = operands * shape.element_bytes * max(tiles.stages - 1, 1)
    return sums <= _ACCUMULATORS and staged <= _SHARED_BYTES
