"""The sparse U-Net: shapes, invariances, degenerate clouds, presets."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from condense_ros.errors import ConfigError, SparseError
from condense_ros.frame import PointCloud
from condense_ros.models import (
    BackboneConfig,
    InputSpec,
    SparseUNet,
    build_backbone,
    preset,
    presets,
    transfer_weights,
)
from condense_ros.sparse import SparseTensor, collate


def cloud(rng: np.random.Generator, n: int = 1500) -> PointCloud:
    return PointCloud(rng.normal(size=(n, 3)) * [6, 6, 1.5] + [8, 0, 0])


def test_presets_have_their_published_widths() -> None:
    assert presets["unet34c"]["widths"] == (32, 32, 64, 128, 256, 256, 128, 96, 96)
    assert sum(presets["unet34c"]["blocks"][:4]) == 15
    with torch.device("meta"):
        sizes = {
            name: sum(p.numel() for p in build_backbone(name).parameters()) for name in presets
        }
    assert sizes["demo"] < 1e6 < sizes["unet14"] < sizes["unet18"] < sizes["unet34c"] < 40e6
    for name in presets:
        config = preset(name, InputSpec(features=("one", "range")))
        assert BackboneConfig.from_dict(config.to_dict()) == config


def test_bad_configs_are_refused() -> None:
    with pytest.raises(ConfigError, match="unet14"):
        build_backbone("resnet50")
    with pytest.raises(ConfigError, match="9 positive"):
        SparseUNet(1, (8,) * 8, (1,) * 8)
    with pytest.raises(ConfigError, match="8 positive"):
        SparseUNet(1, (8,) * 9, (1,) * 7)
    with pytest.raises(ConfigError, match="architecture"):
        BackboneConfig.from_dict({"architecture": "ptv3"})
    with pytest.raises(ConfigError, match="no parameter"):
        BackboneConfig.from_dict({"depth": 3})


def test_stems_and_widenings_of_other_publications(rng: np.random.Generator) -> None:
    plain = BackboneConfig(InputSpec(0.3), (4, 4, 6, 6, 8, 6, 6, 4, 4), (1,) * 8)
    # what is not asked for is not in the description: identities of checkpoints stay as they were
    assert not {"stem_layers", "widening"} & set(plain.to_dict())
    for changes in ({"stem_layers": 2}, {"widening": "down"}):
        config = dataclasses.replace(plain, **changes)  # type: ignore[arg-type]
        assert BackboneConfig.from_dict(config.to_dict()) == config
        net = build_backbone(config).eval()
        assert len(net.net.stem) == 3 * config.stem_layers
        first = net.net.down[1][0].weight.shape[1:]
        assert tuple(first) == ((4, 6) if config.widening == "down" else (4, 4))
        assert ("net.encoder.1.0.shortcut.0.weight" in net.state_dict()) == (
            config.widening == "block"
        )
        voxels = net.input.voxelize(cloud(rng))
        with torch.no_grad():  # fused, against layer by layer
            fused = net(voxels)
        torch.testing.assert_close(fused, net(voxels).detach(), rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match="widening"):
        SparseUNet(1, (8,) * 9, (1,) * 8, widening="up")
    with pytest.raises(ConfigError, match="stem_layers"):
        SparseUNet(1, (8,) * 9, (1,) * 8, stem_layers=0)


def test_features_for_every_voxel_and_point(rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    net = build_backbone("demo", InputSpec(voxel_size_m=0.3, max_range_m=12.0))
    voxels = collate([net.input.voxelize(cloud(rng)) for _ in range(2)])
    features = net(voxels)
    assert features.shape == (len(voxels), net.out_channels)
    per_point = net.eval().point_features(voxels)
    left_out = voxels.inverse < 0
    assert per_point.shape == (3000, net.out_channels)
    assert left_out.any()
    assert not per_point[left_out].any()
    kept = voxels.inverse[~left_out]
    torch.testing.assert_close(per_point[~left_out], net(voxels)[kept])
    features.square().mean().backward()
    idle = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    # a convolution before a batch norm has no idle weights; a bias of a norm may be zero by chance
    assert not idle


def test_gradient_of_the_network_equals_finite_differences(rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    net = SparseUNet(2, (4, 4, 6, 6, 8, 6, 6, 4, 4), (1,) * 8).double().train()
    voxels = InputSpec(voxel_size_m=0.5).voxelize(cloud(rng, 400))
    x = torch.randn(len(voxels), 2, dtype=torch.float64, requires_grad=True)
    target = torch.randn(len(voxels), 4, dtype=torch.float64)

    def loss(features: torch.Tensor) -> torch.Tensor:
        return (net(SparseTensor(features, voxels.coords)).features * target).sum()

    tensors = [x, *net.parameters()]
    grads = torch.autograd.grad(loss(x), tensors)
    for tensor, grad in zip(tensors, grads, strict=True):
        direction = torch.randn_like(tensor)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                tensor.add_(direction, alpha=sign * 1e-7)
                values.append(loss(x).item())
                tensor.sub_(direction, alpha=sign * 1e-7)
        slope = (values[0] - values[1]) / 2e-7
        assert slope == pytest.approx((grad * direction).sum().item(), rel=1e-3, abs=1e-3)


def test_batch_elements_do_not_influence_each_other_in_eval(rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    net = build_backbone("demo", InputSpec(voxel_size_m=0.4)).eval().double()
    a, b = (net.input.voxelize(cloud(rng, 800)) for _ in range(2))
    both = collate([a, b])
    x = SparseTensor(both.features.double(), both.coords)
    alone = SparseTensor(b.features.double(), b.coords)
    torch.testing.assert_close(net.net(x).features[len(a) :], net.net(alone).features)


def test_row_order_and_shifts_by_the_coarsest_stride(rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    net = build_backbone("demo", InputSpec(voxel_size_m=0.4)).eval().double()
    voxels = net.input.voxelize(cloud(rng, 800))
    features = torch.randn(len(voxels), net.input.channels, dtype=torch.float64)
    out = net.net(SparseTensor(features, voxels.coords)).features
    p = torch.randperm(len(voxels))
    permuted = net.net(SparseTensor(features[p], voxels.coords[p])).features
    torch.testing.assert_close(permuted, out[p])
    shift = torch.tensor([0, 16, -32, 48], dtype=torch.int32)
    shifted = net.net(SparseTensor(features, voxels.coords + shift)).features
    torch.testing.assert_close(shifted, out)
    other = net.net(SparseTensor(features, voxels.coords + shift // 16)).features
    assert (other - out).abs().max() > 1e-3


@pytest.mark.parametrize("points", [0, 1])
@pytest.mark.parametrize("training", [True, False])
def test_clouds_of_one_and_no_point(points: int, training: bool) -> None:
    net = build_backbone("demo").train(training)
    voxels = net.input.voxelize(PointCloud(np.full((points, 3), 3.0)))
    out = net(voxels)
    assert out.shape == (points, net.out_channels)
    assert torch.isfinite(out).all()


def test_other_input_features_are_refused() -> None:
    net = build_backbone("demo", InputSpec(features=("one",)))
    voxels = InputSpec(features=("one", "height")).voxelize(PointCloud(np.ones((5, 3))))
    with pytest.raises(SparseError, match="2 features per voxel"):
        net(voxels)


def test_same_seed_same_weights() -> None:
    nets = []
    for _ in range(2):
        torch.manual_seed(3)
        nets.append(build_backbone("demo").state_dict())
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])


def test_weight_transfer_reports_what_did_not_match() -> None:
    def network(widths: tuple[int, ...], outputs: int) -> nn.Module:
        net = SparseUNet(2, widths, (1,) * 8)
        return nn.ModuleDict({"backbone": net, "final": nn.Linear(widths[-1], outputs)})

    widths = (8, 8, 8, 16, 16, 16, 8, 8, 8)
    source = network(widths, 16)
    target = network(widths, 5)
    report = transfer_weights(target, source.state_dict())
    assert {name for name, _, _ in report.mismatched} == {"final.weight", "final.bias"}
    assert not report.missing
    assert not report.unused
    assert not report.complete
    for name in report.loaded:
        assert torch.equal(target.state_dict()[name], source.state_dict()[name])
    # a narrower decoder: its tensors are named, not dropped in silence
    narrow = network((8, 8, 8, 16, 16, 16, 4, 8, 8), 16)
    report = transfer_weights(narrow, source.state_dict())
    assert any(name.startswith("backbone.decoder.1") for name, _, _ in report.mismatched)
    assert "shape differs, left as is: backbone.up.1" in str(report)
    assert transfer_weights(network(widths, 16), source.state_dict()).complete


def test_bfloat16_features_stay_close(rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    net = build_backbone("demo", InputSpec(voxel_size_m=0.3))
    voxels = collate([net.input.voxelize(cloud(rng)) for _ in range(2)])
    with torch.no_grad():
        for _ in range(20):
            net(voxels)
        net.eval()
        exact = net(voxels)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = net(voxels).float()
    error = ((low - exact).norm() / exact.norm()).item()
    assert 0 < error < 0.03
