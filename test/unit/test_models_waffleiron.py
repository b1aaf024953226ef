"""WaffleIron: projections against loops, its symmetries, its published size."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from condense_ros.errors import ConfigError, SparseError
from condense_ros.frame import PointCloud
from condense_ros.models import (
    InputSpec,
    WaffleIron,
    WaffleIronConfig,
    build_backbone,
    nearest_neighbours,
    other_presets,
    waffleiron,
)
from condense_ros.models.neighbours import _by_distance, _by_tree
from condense_ros.models.waffleiron import ChannelMix, Projection, SpatialMix
from condense_ros.sparse import BatchNorm, Voxels, collate, convert_sync_batchnorm

#: planes of 16 x 12, 16 x 6 and 12 x 6 cells of half a metre
SMALL = WaffleIronConfig(
    InputSpec(
        0.1,
        features=("intensity", "height"),
        reduce="first",
        min_range_m=0.0,
        box_m=(-4.0, -3.0, -1.0, 4.0, 3.0, 2.0),
    ),
    channels=12,
    depth=4,
    cell_m=0.5,
    neighbours=5,
)


def cloud(rng: np.random.Generator, n: int = 200, shrink: float = 1.0) -> PointCloud:
    xyz = rng.uniform([-4, -3, -1], [4, 3, 2], (n, 3)) * shrink
    return PointCloud(xyz, intensity=rng.uniform(0, 1, n))


def batch(rng: np.random.Generator, *sizes: int) -> Voxels:
    voxels = collate([SMALL.input.voxelize(cloud(rng, n)) for n in sizes])
    return dataclasses.replace(
        voxels, features=voxels.features.double(), positions=voxels.positions.double()
    )


def network(config: WaffleIronConfig = SMALL) -> WaffleIron:
    torch.manual_seed(0)
    return WaffleIron(config).double()


def test_published_sizes() -> None:
    """Puy et al. 2023: 6.8 M parameters for WaffleIron-48-256."""
    with torch.device("meta"):
        count = {
            name: sum(p.numel() for p in build_backbone(name).parameters())
            for name in other_presets
        }
    # by hand: a layer has 2 C^2 + 5 C of channel mixing and 23 C of spatial mixing
    for name, c, inputs in (
        ("waffleiron-48-256", 256, 3),
        ("waffleiron-48-384", 384, 5),
        ("waffleiron-48-768", 768, 5),
    ):
        embedding = 4 * inputs + 2 * inputs * c + c + 2 * c + c * c + 2 * c * c + c
        assert count[name] == 48 * (2 * c * c + 28 * c) + embedding
    assert round(count["waffleiron-48-256"] / 1e6, 1) == 6.8
    assert count["waffleiron-demo"] < 1e5
    shapes = {name: other_presets[name].shapes for name in other_presets}
    assert shapes["waffleiron-48-256"]["xy"] == (250, 250)  # type: ignore[call-overload,index]
    assert shapes["waffleiron-48-384"] == {"xy": (166, 166), "xz": (166, 16), "yz": (166, 16)}
    assert shapes["waffleiron-48-768"] == {"xy": (256, 256), "xz": (256, 32), "yz": (256, 32)}


def test_projection_equals_a_loop(rng: np.random.Generator) -> None:
    voxels = batch(rng, 150, 0, 90)
    net, rows = network(), voxels.coords[:, 0].long()
    tokens = torch.randn(len(voxels), 3, dtype=torch.float64)
    low, cell = np.array([-4.0, -3.0, -1.0]), 0.5
    planes = net.projections(voxels.positions, rows, 3)
    for plane, axes, (h, w) in zip(
        planes, ((0, 1), (0, 2), (1, 2)), ((16, 12), (16, 6), (12, 6)), strict=True
    ):
        groups: dict[tuple[int, int, int], list[int]] = {}
        for n, (b, p) in enumerate(zip(rows.tolist(), voxels.positions.numpy(), strict=True)):
            i, j = ((p - low) / cell).astype(int)[list(axes)]
            groups.setdefault((b, i, j), []).append(n)
        grid = plane.flatten(tokens)
        assert grid.shape == (3, 3, h, w)
        want = torch.zeros_like(grid)
        for (b, i, j), members in groups.items():
            want[b, :, i, j] = tokens[members].mean(0)
        torch.testing.assert_close(grid, want, rtol=1e-12, atol=1e-12)
        back = plane.inflate(grid)
        for (b, i, j), members in groups.items():
            assert torch.equal(back[members], grid[b, :, i, j].expand(len(members), -1))


def test_layers_equal_their_formulas(rng: np.random.Generator) -> None:
    """t + s * inflate(conv(relu(conv(flatten(norm(t)))))), then t + s * mlp(norm(t))."""
    net, voxels = network(), batch(rng, 80)
    rows = voxels.coords[:, 0].long()
    plane = net.projections(voxels.positions, rows, 1)[0]
    tokens = torch.randn(len(voxels), 12, dtype=torch.float64)
    spatial, channel = net.spatial[0], net.channel[0]
    assert isinstance(spatial, SpatialMix)
    assert isinstance(channel, ChannelMix)

    def normal(t: Tensor) -> Tensor:
        return (t - t.mean(0)) / (t.var(0, correction=0) + 1e-5).sqrt()

    grid = plane.flatten(normal(tokens))
    for conv, relu in ((spatial.mix[0], True), (spatial.mix[2], False)):
        assert isinstance(conv, nn.Conv2d)
        padded = nn.functional.pad(grid, (1, 1, 1, 1))
        out = conv.bias[None, :, None, None] + torch.zeros_like(grid)  # type: ignore[index]
        for i in range(3):
            for j in range(3):
                tap = conv.weight[:, 0, i, j][None, :, None, None]
                out = out + tap * padded[:, :, i : i + grid.shape[2], j : j + grid.shape[3]]
        grid = torch.relu(out) if relu else out
    want = tokens + spatial.scale * plane.inflate(grid)
    got = spatial(tokens, rows, plane)
    torch.testing.assert_close(got, want)
    first, last = channel.mix[0], channel.mix[2]
    hidden = torch.relu(normal(got) @ first.weight.t() + first.bias)  # type: ignore[operator]
    want = got + channel.scale * (hidden @ last.weight.t() + last.bias)  # type: ignore[operator]
    torch.testing.assert_close(channel(got, rows, 1), want)


def test_the_network_is_its_embedding_and_its_layers_in_turn(rng: np.random.Generator) -> None:
    net, voxels = network(), batch(rng, 90, 60)
    rows = voxels.coords[:, 0].long()

    def normal(t: Tensor) -> Tensor:
        return (t - t.mean(0)) / (t.var(0, correction=0) + 1e-5).sqrt()

    x = normal(voxels.features)
    around = nearest_neighbours(voxels.positions, rows, 5)
    steps = torch.cat([x[around[n]] - x[n] for n in range(len(x))])
    _, first, _, _, second = net.embed.neighbour
    hidden = torch.relu(normal(normal(steps) @ first.weight.t()))  # type: ignore[operator]
    near = (hidden @ second.weight.t()).view(len(x), 5, 12).amax(1)  # type: ignore[operator]
    own = x @ net.embed.point.weight.t() + net.embed.point.bias
    tokens = torch.cat([own, near], 1) @ net.embed.merge.weight.t() + net.embed.merge.bias
    planes = net.projections(voxels.positions, rows, 2)
    for i in range(4):
        tokens = net.spatial[i](tokens, rows, planes[(0, 1, 2, 0)[i]])
        tokens = net.channel[i](tokens, rows, 2)
    torch.testing.assert_close(net(voxels), tokens)


def test_permuting_voxels_permutes_features(rng: np.random.Generator) -> None:
    net, voxels = network().train(), batch(rng, 150, 90)
    out = net(voxels)
    # rows of one cloud stay together, as collate leaves them
    p = torch.cat([torch.randperm(len(voxels) // 2), torch.arange(len(voxels) // 2, len(voxels))])
    p = p[torch.argsort(voxels.coords[p, 0], stable=True)]
    permuted = dataclasses.replace(
        voxels, coords=voxels.coords[p], features=voxels.features[p], positions=voxels.positions[p]
    )
    torch.testing.assert_close(net(permuted), out[p])


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_moving_by_whole_cells_changes_nothing(rng: np.random.Generator, norm: str) -> None:
    config = dataclasses.replace(
        SMALL, norm=norm, input=dataclasses.replace(SMALL.input, features=("intensity",))
    )
    net = network(config).train()
    points = cloud(rng, shrink=0.45)
    # multiples of 1/64 survive being moved without rounding
    grid = PointCloud(np.round(points.xyz * 64) / 64 + 1 / 256, intensity=points.intensity)
    spec = dataclasses.replace(config.input, voxel_size_m=0.125)
    outputs = []
    for step in ([0, 0, 0], [1.5, -0.5, 0], [-1, 1, 0.5]):
        moved = PointCloud(grid.xyz + np.array(step), intensity=grid.intensity)
        voxels = spec.voxelize(moved)
        voxels = dataclasses.replace(voxels, features=voxels.features.double())
        outputs.append(voxels.to_points(net(voxels)))
    torch.testing.assert_close(outputs[1], outputs[0])
    torch.testing.assert_close(outputs[2], outputs[0])
    half = spec.voxelize(PointCloud(grid.xyz + [0.25, 0, 0], intensity=grid.intensity))
    half = dataclasses.replace(half, features=half.features.double())
    assert (half.to_points(net(half)) - outputs[0]).abs().max() > 1e-3


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_gradient_equals_finite_differences(rng: np.random.Generator, norm: str) -> None:
    net, voxels = network(dataclasses.replace(SMALL, norm=norm)).train(), batch(rng, 60, 40)
    x = voxels.features.clone().requires_grad_()
    target = torch.randn(len(voxels), 12, dtype=torch.float64)

    def loss() -> Tensor:
        return (net(dataclasses.replace(voxels, features=x)) * target).sum()

    tensors = [x, *net.parameters()]
    grads = torch.autograd.grad(loss(), tensors)
    assert all(g.any() for g in grads[1:] if g.ndim > 1)
    for tensor, grad in zip(tensors, grads, strict=True):
        direction, values = torch.randn_like(tensor), []
        for sign in (1, -1):
            with torch.no_grad():
                tensor.add_(direction, alpha=sign * 1e-6)
                values.append(loss().item())
                tensor.sub_(direction, alpha=sign * 1e-6)
        slope = (values[0] - values[1]) / 2e-6
        assert slope == pytest.approx((grad * direction).sum().item(), rel=2e-3, abs=2e-3)


def test_clouds_do_not_influence_each_other_in_eval(rng: np.random.Generator) -> None:
    net, both = network().eval(), batch(rng, 100, 80)
    alone = batch(np.random.default_rng(0), 0)
    first = both.coords[:, 0] == 0
    alone = dataclasses.replace(
        both,
        coords=both.coords[first],
        features=both.features[first],
        positions=both.positions[first],
        point_counts=both.point_counts[:1],
    )
    torch.testing.assert_close(net(both)[first], net(alone))


def test_inference_in_slices_changes_nothing(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, voxels = network().eval(), batch(rng, 100, 70)
    want = net(voxels)
    monkeypatch.setattr(waffleiron, "_SLICE", 17)
    with torch.no_grad():
        torch.testing.assert_close(net(voxels), want)
        empty = SMALL.input.voxelize(cloud(rng, 0))
        assert net.float()(empty).shape == (0, 12)


def test_whole_clouds_skip_a_branch_in_training() -> None:
    torch.manual_seed(2)
    mix = ChannelMix(4, "layer", 0.5).train()
    tokens, rows = torch.randn(400, 4), torch.arange(200).repeat_interleave(2)
    changed = (mix(tokens, rows, 200) - tokens).abs().amax(1) > 0
    assert torch.equal(changed[::2], changed[1::2])
    assert 60 < int(changed[::2].sum()) < 140
    mix.eval()
    plain = mix(tokens, rows, 200) - tokens
    mix.train()
    kept = mix(tokens, rows, 200) - tokens
    on = kept.abs().amax(1) > 0
    torch.testing.assert_close(kept[on], 2 * plain[on], rtol=1e-4, atol=1e-5)


def test_neighbours_equal_brute_force(rng: np.random.Generator) -> None:
    sizes = [40, 1, 3, 0, 25]
    batch_of = torch.repeat_interleave(torch.arange(5), torch.tensor(sizes))
    xyz = torch.from_numpy(rng.normal(size=(69, 3)))
    rows = nearest_neighbours(xyz, batch_of, 6)
    for i in range(69):
        others = [j for j in range(69) if batch_of[j] == batch_of[i] and j != i]
        order = sorted(others, key=lambda j: float((xyz[i] - xyz[j]).norm()))[:6] or [i]
        assert rows[i].tolist() == order + order[-1:] * (6 - len(order))
    assert torch.equal(_by_tree(xyz, 7), _by_distance(xyz, 7))
    # points at one place: never themselves, always others
    same = torch.zeros(9, 3)
    for found in (_by_tree(same, 4), _by_distance(same, 4)):
        assert all(i not in row for i, row in enumerate(found.tolist()))
        assert all(len(set(row)) == 4 for row in found.tolist())


def test_norms_of_many_processes(rng: np.random.Generator) -> None:
    net = network()
    names = list(net.state_dict())
    converted = convert_sync_batchnorm(net)
    kinds = {type(m).__name__ for m in converted.modules() if isinstance(m, BatchNorm)}
    assert kinds == {"SyncBatchNorm"}
    assert list(converted.state_dict()) == names
    assert converted(batch(rng, 30)).shape[1] == 12


def test_refusals(rng: np.random.Generator) -> None:
    net = build_backbone(SMALL)
    voxels = SMALL.input.voxelize(cloud(rng))
    with pytest.raises(SparseError, match="positions of points"):
        net.net(voxels.sparse_tensor())
    with pytest.raises(SparseError, match="features per voxel"):
        net(dataclasses.replace(voxels, features=voxels.features[:, :1]))
    with pytest.raises(SparseError, match="outside the box"):
        net(dataclasses.replace(voxels, positions=voxels.positions * 3))
    for options, message in (
        ({"planes": ("xw",)}, "planes"),
        ({"planes": ()}, "planes"),
        ({"norm": "group"}, "norm"),
        ({"input": InputSpec()}, "without box_m"),
    ):
        with pytest.raises(ConfigError, match=message):
            dataclasses.replace(SMALL, **options)  # type: ignore[arg-type]


def test_shares_of_a_projection_add_up() -> None:
    place, rows = torch.tensor([[0, 0], [0, 0], [1, 2]]), torch.tensor([0, 0, 1])
    plane = Projection.of(place, rows, (2, 3, 3))
    assert plane.share.flatten().tolist() == [0.5, 0.5, 1.0]
    assert plane.cells.tolist() == [0, 0, 14]
