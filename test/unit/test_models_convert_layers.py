"""Single convolutions of each layout against dense correlation, and a table of names."""

from __future__ import annotations

import dataclasses
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from condense_ros.errors import CheckpointError
from condense_ros.models.convert import (
    VOXEL_BACKBONE_8X,
    convert_modules,
    minkowski,
    spconv,
    torchsparse,
)
from condense_ros.models.convert.kernels import (
    Convolution,
    from_minkowski,
    from_spconv,
    from_torchsparse,
    spconv_shape,
)
from condense_ros.models.convert.libraries import Library
from condense_ros.sparse import (
    BatchNorm,
    ReLU,
    SparseTensor,
    StridedConv3d,
    SubmanifoldConv3d,
    TransposedConv3d,
)
from condense_ros.sparse.maps import Triple

GRID = (7, 8, 9)


def grid_coords(seed: int) -> torch.Tensor:
    """(N, 4) int32: a third of the voxels of a grid, also the last, so that strides end in it."""
    full = torch.tensor([(0, *place) for place in product(*map(range, GRID))], dtype=torch.int32)
    keep = torch.rand(len(full), generator=torch.Generator().manual_seed(seed)) < 0.35
    return full[keep]


def dense(coords: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """(1, C, X, Y, Z)."""
    out = rows.new_zeros(rows.shape[1], *GRID)
    x, y, z = coords[:, 1:].long().unbind(1)
    out[:, x, y, z] = rows.t()
    return out.unsqueeze(0)


def at(volume: torch.Tensor, coords: torch.Tensor) -> torch.Tensor:
    x, y, z = coords[:, 1:].long().unbind(1)
    return volume[0, :, x, y, z].t()


ODD = st.sampled_from([1, 3, 5])


@settings(deadline=None, max_examples=25)
@given(st.tuples(ODD, ODD, ODD), st.sampled_from(["KRSC", "RSKC", "RSCK"]), st.booleans())
def test_spconv_is_correlation_in_the_order_of_its_indices(
    kernel: Triple, layout: str, reversed_axes: bool
) -> None:
    axes = "zyx" if reversed_axes else "xyz"
    conv = Convolution("conv", kernel, 2, 4)
    weight = torch.randn(spconv_shape(conv, layout, axes), dtype=torch.float64)
    layer = SubmanifoldConv3d(2, 4, kernel).double()
    layer.weight.data = from_spconv(weight, conv, layout, axes)
    coords = grid_coords(1)
    x = torch.randn(len(coords), 2, dtype=torch.float64)
    order = {"KRSC": (0, 4, 1, 2, 3), "RSKC": (3, 4, 0, 1, 2), "RSCK": (4, 3, 0, 1, 2)}[layout]
    filters = weight.permute(order)
    volume = dense(coords, x)
    padding = tuple(size // 2 for size in kernel)
    if axes == "zyx":  # the library sees the volume with z first
        volume, padding = volume.permute(0, 1, 4, 3, 2), padding[::-1]
    if conv.volume == 1:  # multiplied as weight.view(C_in, C_out)
        expected = x @ weight.reshape(2, 4)
    else:
        out = nn.functional.conv3d(volume, filters, padding=padding)
        expected = at(out.permute(0, 1, 4, 3, 2) if axes == "zyx" else out, coords)
    torch.testing.assert_close(layer(SparseTensor(x, coords)).features, expected)


def sum_over_offsets(
    x: torch.Tensor, coords: torch.Tensor, weight: torch.Tensor, offsets: list[Triple]
) -> torch.Tensor:
    rows = {tuple(place): row for place, row in zip(coords[:, 1:].tolist(), x, strict=True)}
    out = x.new_zeros(len(coords), weight.shape[2])
    for n, place in enumerate(coords[:, 1:].tolist()):
        for k, offset in enumerate(offsets):
            row = rows.get(tuple(a + b for a, b in zip(place, offset, strict=True)))
            if row is not None:
                out[n] += row @ weight[k]
    return out


@settings(deadline=None, max_examples=12)
@given(st.tuples(ODD, ODD, st.sampled_from([1, 3])))
def test_minkowski_and_torchsparse_count_x_fastest_when_odd(kernel: Triple) -> None:
    nx, ny, nz = kernel
    offsets = [
        (x - nx // 2, y - ny // 2, z - nz // 2)
        for z in range(nz)
        for y in range(ny)
        for x in range(nx)
    ]
    conv = Convolution("conv", kernel, 2, 3)
    weight = torch.randn(len(offsets), 2, 3, dtype=torch.float64)
    coords = grid_coords(2)
    x = torch.randn(len(coords), 2, dtype=torch.float64)
    expected = sum_over_offsets(x, coords, weight, offsets)
    for read in (from_minkowski, from_torchsparse):
        layer = SubmanifoldConv3d(2, 3, kernel).double()
        layer.weight.data = read(weight, conv)
        torch.testing.assert_close(layer(SparseTensor(x, coords)).features, expected)


@pytest.mark.parametrize("x_fastest", [True, False])
def test_even_kernels_down_and_up(x_fastest: bool) -> None:
    """MinkowskiEngine counts x fastest here as well, torchsparse z; transposes use the same k."""
    read = from_minkowski if x_fastest else from_torchsparse
    weight = torch.randn(8, 2, 3, dtype=torch.float64)
    down, up = StridedConv3d(2, 3).double(), TransposedConv3d(3, 2).double()
    down.weight.data = read(weight, Convolution("down", (2, 2, 2), 2, 3, 2))
    back = torch.randn(8, 3, 2, dtype=torch.float64)
    up.weight.data = read(back, Convolution("up", (2, 2, 2), 3, 2, 2))
    for k in range(8):
        place = (k & 1, k >> 1 & 1, k >> 2 & 1)
        place = place if x_fastest else place[::-1]
        coords = torch.tensor([(0, 4 + place[0], 6 + place[1], 2 + place[2])], dtype=torch.int32)
        x = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
        out = down(SparseTensor(x, coords))
        assert out.coords.tolist() == [[0, 2, 3, 1]]
        torch.testing.assert_close(out.features, x @ weight[k])
        torch.testing.assert_close(up(out).features, x @ weight[k] @ back[k])


def test_kernels_that_lie_elsewhere_are_refused() -> None:
    for read, conv in (
        (from_minkowski, Convolution("c", (4, 4, 4), 1, 1, 2)),
        (from_minkowski, Convolution("c", (2, 2, 2), 1, 1, 1)),
        (from_torchsparse, Convolution("c", (4, 4, 4), 1, 1, 4)),
    ):
        with pytest.raises(CheckpointError, match="cannot be converted"):
            read(torch.zeros(conv.volume, 1, 1), conv)
    with pytest.raises(CheckpointError, match=r"c is \(27, 2, 1\) instead of \(27, 1, 2\)"):
        from_minkowski(torch.zeros(27, 2, 1), Convolution("c", (3, 3, 3), 1, 2))


class Stack(nn.Module):
    """The layers of VoxelBackBone8x that `sparse` has, each alone, so that none hides another."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for _, _, c_in, c_out, (kernel, stride, _) in VOXEL_BACKBONE_8X:
            sizes, c_in = kernel[::-1], c_in or channels
            if stride == (2, 2, 2):
                layer: nn.Module = StridedConv3d(c_in, c_out, sizes)
            else:
                layer = SubmanifoldConv3d(c_in, c_out, sizes)
            self.convs.append(layer)
            self.norms.append(nn.Sequential(BatchNorm(c_out), ReLU()))


def test_the_table_of_the_voxel_backbone_fits_modules_of_ours() -> None:
    rng, state = torch.Generator().manual_seed(5), {}
    for conv, norm, c_in, c_out, (kernel, _, _) in VOXEL_BACKBONE_8X:
        shape = (c_out, *kernel, c_in or 4)
        state[f"{conv}.weight"] = torch.randn(shape, generator=rng, dtype=torch.float64)
        for name in ("weight", "bias", "running_mean", "running_var"):
            values = torch.rand(c_out, generator=rng, dtype=torch.float64)
            state[f"{norm}.{name}"] = values + 0.5
        state[f"{norm}.num_batches_tracked"] = torch.tensor(3)
    names = {f"convs.{i}": row[0] for i, row in enumerate(VOXEL_BACKBONE_8X)}
    names |= {f"norms.{i}.0": row[1] for i, row in enumerate(VOXEL_BACKBONE_8X)}
    stack = Stack(4).double().eval()
    out, loaded = convert_modules(state, stack, names, spconv(axes="zyx"))
    assert {item.theirs for item in loaded} == set(state)
    stack.load_state_dict(out, strict=True)

    coords = grid_coords(7)
    for i, (conv, norm, c_in, _, (kernel, stride, _)) in enumerate(VOXEL_BACKBONE_8X):
        x = torch.randn(len(coords), c_in or 4, generator=rng, dtype=torch.float64)
        found = stack.norms[i](stack.convs[i](SparseTensor(x, coords)))
        step = stride if stride == (2, 2, 2) else (1, 1, 1)
        # the library's volume has z first; centred, as every padding but two of the table is
        filters = state[f"{conv}.weight"].permute(0, 4, 1, 2, 3)
        volume = dense(coords, x).permute(0, 1, 4, 3, 2)
        padding = tuple(size // 2 for size in kernel)
        full = nn.functional.conv3d(volume, filters, stride=step, padding=padding)
        rows = at(full.permute(0, 1, 4, 3, 2), found.coords)
        mean, var = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        rows = (rows - mean) / torch.sqrt(var + 1e-3)
        expected = torch.relu(rows * state[f"{norm}.weight"] + state[f"{norm}.bias"])
        error = (found.features - expected).abs().max() / expected.abs().max()
        assert error < 1e-9, conv


def test_what_a_table_must_say() -> None:
    net = nn.Sequential(SubmanifoldConv3d(2, 3), BatchNorm(3))
    good = {"a.kernel": torch.randn(27, 2, 3)}
    for part in ("weight", "bias", "running_mean", "running_var"):
        good[f"b.bn.{part}"] = torch.ones(3)
    names = {"0": "a", "1": "b"}
    out, _ = convert_modules(good, net, names, minkowski())
    assert int(out["1.num_batches_tracked"]) == 0
    with pytest.raises(CheckpointError, match="no name for 1"):
        convert_modules(good, net, {"0": "a"}, minkowski())
    biased = good | {"a.bias": torch.zeros(1, 3)}
    with pytest.raises(CheckpointError, match=r"biases before a normalisation.*a\.bias"):
        convert_modules(biased, net, names, minkowski())
    with_bias = nn.Sequential(SubmanifoldConv3d(2, 3, bias=True), BatchNorm(3))
    out, _ = convert_modules(biased, with_bias, names, minkowski())
    assert out["0.bias"].shape == (3,)
    with pytest.raises(CheckpointError, match=r"missing: a\.bias"):
        convert_modules(good, with_bias, names, minkowski())
    with pytest.raises(CheckpointError, match="is a LayerNorm"):
        convert_modules(good, nn.Sequential(net[0], nn.LayerNorm(3)), names, minkowski())
    small: Library = dataclasses.replace(torchsparse(), norm="bn.", norm_eps=0.0)
    tiny = good | {"b.bn.running_var": torch.full((3,), 1e-6)}
    with pytest.raises(CheckpointError, match="epsilon"):
        convert_modules(tiny, net, names, small)
    ones = convert_modules(good, net, names, small)[0]["1.running_var"].numpy()
    assert np.allclose(ones, 1 - 1e-5, atol=1e-7)
