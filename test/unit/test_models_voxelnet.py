"""VoxelNet against dense convolutions in float64, and its view from above against loops."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense_ros.errors import ConfigError, SparseError
from condense_ros.frame import PointCloud
from condense_ros.models import (
    InputSpec,
    UnitHead,
    VoxelNet,
    VoxelNetConfig,
    build_backbone,
    sample_bev,
)
from condense_ros.models.configs import VOXELNET_INPUT, VOXELNET_STEPS
from condense_ros.models.convert import VOXEL_BACKBONE_8X, convert_modules, spconv
from condense_ros.models.unet import ConvNorm
from condense_ros.sparse import BatchNorm, StridedConv3d, Voxels, collate

#: 32 x 24 x 27 voxels, with an odd number of them below the origin
SMALL = VoxelNetConfig(
    InputSpec(
        features=("x", "y", "z", "intensity"),
        voxel_sizes=(0.5, 0.5, 0.3),
        box_m=(-8.0, -5.0, -2.7, 8.0, 7.0, 5.4),
        min_range_m=0.0,
        max_points_per_voxel=10,
    ),
    (4, 4, 6, 8, 8, 10),
)


def cloud(rng: np.random.Generator, n: int = 300) -> PointCloud:
    xyz = rng.uniform([-9, -6, -3], [9, 8, 6], (n, 3))
    return PointCloud(xyz, intensity=rng.uniform(0, 1, n))


def network(config: VoxelNetConfig = SMALL) -> VoxelNet:
    torch.manual_seed(0)
    net = VoxelNet(config).double()
    for part in net.modules():
        if isinstance(part, BatchNorm):
            nn.init.uniform_(part.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(part.running_var, 0.5, 2.0)  # type: ignore[arg-type]
            nn.init.uniform_(part.bias, -0.2, 0.2)
    return net.eval()


def batch(rng: np.random.Generator, config: VoxelNetConfig = SMALL) -> Voxels:
    voxels = collate([config.input.voxelize(cloud(rng)) for _ in range(2)])
    return dataclasses.replace(voxels, features=voxels.features.double())


def published_parts(net: VoxelNet) -> list[tuple[str, ConvNorm]]:
    """The twelve convolutions in the order of their use, with their paths."""
    return [(name, part) for name, part in net.named_modules() if isinstance(part, ConvNorm)]


def dense_reference(net: VoxelNet, voxels: Voxels) -> tuple[Tensor, Tensor]:
    """(B, C, X, Y, Z) output and (B, 1, X, Y, Z) active cells, by dense convolutions."""
    low, high = net.config.input.box_cells or ((0,) * 3, (0,) * 3)
    shape = [b - a for a, b in zip(low, high, strict=True)]
    place = voxels.coords.long() - torch.tensor([0, *low])
    x = torch.zeros(voxels.batch_size, *shape, voxels.features.shape[1], dtype=torch.float64)
    x[tuple(place.unbind(1))] = voxels.features
    active = torch.zeros(voxels.batch_size, 1, *shape, dtype=torch.float64)
    active[place[:, 0], 0, place[:, 1], place[:, 2], place[:, 3]] = 1
    x = x.permute(0, 4, 1, 2, 3)
    steps = iter(VOXELNET_STEPS)
    for _, part in published_parts(net):
        conv, norm = part[0], part[1]
        assert isinstance(norm, BatchNorm)
        weight = conv.weight.reshape(*conv.kernel, *conv.weight.shape[1:]).permute(4, 3, 0, 1, 2)
        if isinstance(conv, StridedConv3d):
            kernel, stride, padding = next(steps)
            assert kernel == conv.kernel
            x = F.conv3d(x, weight, stride=stride, padding=padding)
            active = (
                F.conv3d(active, torch.ones(1, 1, *kernel).double(), stride=stride, padding=padding)
                > 0
            ).double()
        else:
            x = F.conv3d(x, weight, padding=1)
        x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-3)
        x = torch.relu(x) * active
    return x, active


def bilinear(plane: Tensor, x: float, y: float) -> Tensor:
    """One place of a (C, X, Y) plane."""
    nx, ny = plane.shape[1:]
    x, y = min(max(x, 0), nx - 1), min(max(y, 0), ny - 1)
    i, j = min(math.floor(x), nx - 2), min(math.floor(y), ny - 2)
    value = torch.zeros(len(plane), dtype=plane.dtype)
    for a in (0, 1):
        for b in (0, 1):
            value += (1 - abs(x - i - a)) * (1 - abs(y - j - b)) * plane[:, i + a, j + b]
    return value


def test_published_geometry() -> None:
    config = VoxelNetConfig()
    assert config.shapes == (
        (1024, 1024, 40),
        (512, 512, 20),
        (256, 256, 10),
        (128, 128, 4),
        (128, 128, 1),
    )
    assert config.out_channels == 128
    assert config.input == VOXELNET_INPUT
    assert (config.input.max_points_per_voxel, config.input.max_voxels) == (10, 60000)
    net = VoxelNet(config)
    norms = [m for m in net.modules() if isinstance(m, BatchNorm)]
    assert {(n.eps, n.momentum) for n in norms} == {(1e-3, 0.01)}
    widths = [part[0].out_channels for _, part in published_parts(net)]
    assert widths == [row[3] for row in VOXEL_BACKBONE_8X]
    strides = [m for m in net.modules() if isinstance(m, StridedConv3d)]
    assert [s.padding for s in strides] == [(1, 1, 1), (1, 1, 1), (1, 1, 0), (0, 0, 0)]


def test_equals_dense_convolutions(rng: np.random.Generator) -> None:
    net, voxels = network(), batch(rng)
    want, active = dense_reference(net, voxels)
    x = net.encode(voxels)
    assert len(x) == int(active.sum()) > 20
    b, i, j, k = x.coords.long().unbind(1)
    torch.testing.assert_close(x.features, want[b, :, i, j, k], rtol=1e-10, atol=1e-12)
    assert net.config.shapes[-1] == want.shape[2:] == (4, 3, 1)
    bev = net.bev(x)
    torch.testing.assert_close(bev, want.squeeze(-1), rtol=1e-10, atol=1e-12)
    features = net(voxels)
    for row in range(0, len(voxels), 17):
        px, py = ((voxels.positions[row, :2].double() + torch.tensor([8.0, 5.0])) / 4.0).tolist()
        value = bilinear(bev[voxels.coords[row, 0].item()], px, py)
        torch.testing.assert_close(features[row], value, rtol=1e-5, atol=1e-7)


def test_heights_become_channels(rng: np.random.Generator) -> None:
    """A taller box leaves two cells along z: channel c of height z is plane c * 2 + z."""
    spec = dataclasses.replace(SMALL.input, box_m=(-8.0, -5.0, -2.7, 8.0, 7.0, 9.9))
    config = dataclasses.replace(SMALL, input=spec)
    assert config.shapes[-1] == (4, 3, 2)
    assert config.out_channels == 20
    net, voxels = network(config), batch(rng, config)
    want, _ = dense_reference(net, voxels)
    bev = net.bev(net.encode(voxels))
    torch.testing.assert_close(bev, want.permute(0, 1, 4, 2, 3).flatten(1, 2))
    assert net(voxels).shape == (len(voxels), 20)


def test_gradient_equals_finite_differences(rng: np.random.Generator) -> None:
    net, voxels = network().train(), batch(rng)
    x = voxels.features.clone().requires_grad_()
    target = torch.randn(len(voxels), net.out_channels, dtype=torch.float64)

    def loss() -> Tensor:
        return (net(dataclasses.replace(voxels, features=x)) * target).sum()

    tensors = [x, *net.parameters()]
    grads = torch.autograd.grad(loss(), tensors)
    for tensor, grad in zip(tensors, grads, strict=True):
        direction, values = torch.randn_like(tensor), []
        for sign in (1, -1):
            with torch.no_grad():
                tensor.add_(direction, alpha=sign * 1e-6)
                values.append(loss().item())
                tensor.sub_(direction, alpha=sign * 1e-6)
        slope = (values[0] - values[1]) / 2e-6
        assert slope == pytest.approx((grad * direction).sum().item(), rel=1e-3, abs=1e-3)


def test_sampling_a_view_from_above() -> None:
    generator = torch.Generator().manual_seed(1)
    bev = torch.randn(2, 3, 5, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    place = torch.rand(60, 2, dtype=torch.float64, generator=generator) * 8 - 2
    place[:3] = torch.tensor([[0.0, 0.0], [4.0, 3.0], [2.0, 1.0]])
    rows = torch.randint(0, 2, (60,), generator=generator)
    got = sample_bev(bev, rows, place)
    want = torch.stack([bilinear(bev[b], *p.tolist()) for b, p in zip(rows, place, strict=True)])
    torch.testing.assert_close(got, want)
    # cell i lies at coordinate i; beyond the border its value goes on
    assert torch.equal(got[1], bev[rows[1], :, 4, 3])
    assert torch.equal(got[2], bev[rows[2], :, 2, 1])
    far = sample_bev(bev, rows[:1], torch.tensor([[99.0, -99.0]]).double())
    assert torch.equal(far[0], bev[rows[0], :, 4, 0])
    inner = torch.rand(10, 2, dtype=torch.float64, generator=generator) * 2 + 0.5
    assert torch.autograd.gradcheck(
        lambda b, p: sample_bev(b, rows[:10], p), (bev, inner.requires_grad_())
    )
    line = sample_bev(bev[:, :, :1], rows[:1], torch.tensor([[0.7, 1.5]]).double())
    torch.testing.assert_close(line[0], bev[rows[0], :, 0, 1:3].mean(1))
    assert sample_bev(bev, rows[:0], place[:0]).shape == (0, 3)


def test_unit_head_and_points_at_their_own_places(rng: np.random.Generator) -> None:
    net, voxels = network(), batch(rng)
    x = net.encode(voxels)
    head = UnitHead(10, 5).double()
    assert [name for name, _ in head.named_parameters()] == ["weight"]
    unit = head(x)
    torch.testing.assert_close(unit.features.norm(dim=1), torch.ones(len(x)).double())
    bev = net.bev(unit)
    assert bev.shape == (2, 5, 4, 3)
    xyz = torch.tensor([[-8.0, -5.0, 0.0], [0.0, 1.0, 2.0]]).double()
    values = net.sample(bev, torch.tensor([1, 0]), xyz)
    torch.testing.assert_close(values[0], bev[1, :, 0, 0])
    torch.testing.assert_close(values[1], (bev[0, :, 2, 1] + bev[0, :, 2, 2]) / 2)


def test_published_weights_have_their_places(rng: np.random.Generator) -> None:
    """OpenPCDet's names, shapes and kernel order of spconv go into this network."""
    source, state = VoxelNet(VoxelNetConfig()), {}
    names = {}
    for (ours, part), (conv, norm, *_, (kernel, _, _)) in zip(
        published_parts(source), VOXEL_BACKBONE_8X, strict=True
    ):
        names |= {f"{ours}.0": conv, f"{ours}.1": norm}
        c_in, c_out = part[0].in_channels, part[0].out_channels
        state[f"{conv}.weight"] = torch.randn(c_out, *kernel, c_in)
        for name in ("weight", "bias", "running_mean", "running_var"):
            state[f"{norm}.{name}"] = torch.rand(c_out) + 0.5
    out, loaded = convert_modules(state, source, names, spconv(axes="zyx"))
    source.load_state_dict(out, strict=False)
    assert {item.theirs for item in loaded} == set(state)
    # the weight at z = 0, y = 1, x = 2 of theirs is that of x = 2, y = 1, z = 0 of ours
    ours = source.stem[0].weight
    assert torch.equal(ours[2 * 9 + 1 * 3 + 0], state["conv_input.0.weight"][:, 0, 1, 2].t())


def test_refusals(rng: np.random.Generator) -> None:
    net = build_backbone(SMALL)
    voxels = SMALL.input.voxelize(cloud(rng))
    with pytest.raises(SparseError, match="positions of points"):
        net.net(voxels.sparse_tensor())
    with pytest.raises(SparseError, match="features per voxel"):
        net(dataclasses.replace(voxels, features=voxels.features[:, :2]))
    with pytest.raises(SparseError, match="own InputSpec"):
        net(dataclasses.replace(SMALL.input, voxel_sizes=(1, 1, 1)).voxelize(cloud(rng)))
    with pytest.raises(SparseError, match="outside the box"):
        net(dataclasses.replace(SMALL.input, box_m=()).voxelize(cloud(rng)))
    with pytest.raises(ConfigError, match="without box_m"):
        VoxelNetConfig(InputSpec())
    with pytest.raises(ConfigError, match="at least 25"):
        VoxelNetConfig(InputSpec(0.5, box_m=(-10, -10, -2, 10, 10, 2)))
    with pytest.raises(ConfigError, match="6 channel counts"):
        VoxelNetConfig(widths=(4, 4))
