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
    down.weight.data = read(weight, Convolution("down", (2, 2, 2), 2, 3, (0, 0, 0)))
    back = torch.randn(8, 3, 2, dtype=torch.float64)
    up.weight.data = read(back, Convolution("up", (2, 2, 2), 3, 2, (0, 0, 0)))
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
        (from_minkowski, Convolution("c", (4, 4, 4), 1, 1, (-1, -1, -1))),
        (from_minkowski, Convolution("c", (3, 3, 3), 1, 1, (0, -1, -1))),
        (from_torchsparse, Convolution("c", (4, 4, 4), 1, 1, (0, 0, 0))),
    ):
        with pytest.raises(CheckpointError, match="begins at"):
            read(torch.zeros(conv.volume, 1, 1), conv)
    # a kernel of 4 on a stride of 2 is centred here, and begins at the output in MinkowskiEngine
    names = {"0": "a"}
    state = {"a.kernel": torch.randn(64, 1, 1)}
    with pytest.raises(CheckpointError, match=r"begins at \(-1, -1, -1\)"):
        convert_modules(state, nn.Sequential(StridedConv3d(1, 1, 4, 2)), names, minkowski())
    for layer in (StridedConv3d(1, 1, 4, 2, padding=0), StridedConv3d(1, 1, 4, 4)):
        assert convert_modules(state, nn.Sequential(layer), names, minkowski())
    assert convert_modules(state, nn.Sequential(StridedConv3d(1, 1, 4, 2)), names, torchsparse())
    with pytest.raises(CheckpointError, match=r"c is \(27, 2, 1\) instead of \(27, 1, 2\)"):
        from_minkowski(torch.zeros(27, 2, 1), Convolution("c", (3, 3, 3), 1, 2))


class VoxelBackbone(nn.Sequential):
    """Layers of ours in the order of the table, for a grid (z, y, x)."""

    def __init__(self, channels: int, grid: Triple) -> None:
        layers: list[nn.Module] = []
        for _, _, c_in, c_out, (kernel, stride, padding) in VOXEL_BACKBONE_8X:
            sizes, c_in = kernel[::-1], c_in or channels
            if stride == (1, 1, 1):
                layers.append(SubmanifoldConv3d(c_in, c_out, sizes))
            else:
                z, y, x = (
                    (n + 2 * p - k) // s + 1
                    for n, k, s, p in zip(grid, kernel, stride, padding, strict=True)
                )
                grid = (z, y, x)
                bounds = ((0, 0, 0), (x - 1, y - 1, z - 1))
                step, pad = stride[::-1], padding[::-1]
                layers.append(
                    StridedConv3d(
                        *(c_in, c_out, sizes, step),
                        padding=pad,
                        outputs="reached",
                        bounds=bounds,
                    )
                )
            layers += [BatchNorm(c_out), ReLU()]
        super().__init__(*layers)


def test_the_table_of_the_voxel_backbone() -> None:
    """The whole network against dense convolutions that keep track of the active cells."""
    rng, state = torch.Generator().manual_seed(5), {}
    for conv, norm, c_in, c_out, (kernel, _, _) in VOXEL_BACKBONE_8X:
        shape = (c_out, *kernel, c_in or 4)
        weight = torch.randn(shape, generator=rng, dtype=torch.float64)
        state[f"{conv}.weight"] = weight / weight[0].numel() ** 0.5
        for name in ("weight", "bias", "running_mean", "running_var"):
            state[f"{norm}.{name}"] = torch.rand(c_out, generator=rng, dtype=torch.float64) + 0.1
        state[f"{norm}.num_batches_tracked"] = torch.tensor(3)
    grid = (41, 16, 24)
    net = VoxelBackbone(4, grid).double().eval()
    names = {str(3 * i): row[0] for i, row in enumerate(VOXEL_BACKBONE_8X)}
    names |= {str(3 * i + 1): row[1] for i, row in enumerate(VOXEL_BACKBONE_8X)}
    out, loaded = convert_modules(state, net, names, spconv(axes="zyx"))
    assert {item.theirs for item in loaded} == set(state)

    active = (torch.rand(1, 1, *grid, generator=rng) < 0.01).double()
    volume = torch.randn(1, 4, *grid, generator=rng, dtype=torch.float64) * active
    z, y, x = active[0, 0].nonzero().unbind(1)
    coords = torch.stack([torch.zeros_like(x), x, y, z], 1).int()
    rows = volume[0, :, z, y, x].t()
    for conv, norm, _, _, (kernel, stride, padding) in VOXEL_BACKBONE_8X:
        # spconv: a strided output is active where any kernel element meets an active input
        if stride != (1, 1, 1):
            ones = torch.ones(1, 1, *kernel, dtype=torch.float64)
            active = (nn.functional.conv3d(active, ones, None, stride, padding) > 0).double()
        filters = state[f"{conv}.weight"].permute(0, 4, 1, 2, 3)
        volume = nn.functional.conv3d(volume, filters, None, stride, padding)
        mean, var, w, b = (
            state[f"{norm}.{name}"].view(1, -1, 1, 1, 1)
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        volume = torch.relu((volume - mean) / torch.sqrt(var + 1e-3) * w + b) * active

    def difference(tensors: dict[str, torch.Tensor]) -> float:
        net.load_state_dict(tensors, strict=True)
        with torch.no_grad():
            found = net(SparseTensor(rows, coords))
        ours = torch.zeros_like(volume)
        x, y, z = found.coords[:, 1:].long().unbind(1)
        ours[0, :, z, y, x] = found.features.t()
        assert len(found) == int(active.sum())
        return float((ours - volume).abs().max() / volume.abs().max())

    assert difference(out) < 1e-9
    turned = dict(out)
    for name, weight in out.items():
        if weight.ndim == 3 and len(weight) == 27:
            cube = weight.reshape(3, 3, 3, *weight.shape[1:]).transpose(0, 2)
            turned[name] = cube.reshape(weight.shape)
    assert difference(turned) > 1e-3
    last = "conv_out.0.weight"
    upside_down, _ = convert_modules(
        state | {last: state[last].flip(1)}, net, names, spconv(axes="zyx")
    )
    assert difference(upside_down) > 1e-3


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
