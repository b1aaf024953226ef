"""Three architectures behind one `Backbone`: interface, presets, checkpoints old and new."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from condense_ros.errors import CheckpointError, ConfigError
from condense_ros.frame import PointCloud
from condense_ros.models import (
    AnyBackboneConfig,
    Backbone,
    BackboneConfig,
    Checkpoint,
    HeadInfo,
    InputSpec,
    LinearHead,
    VoxelNetConfig,
    WaffleIronConfig,
    build_backbone,
    load_checkpoint,
    other_presets,
    preset,
    presets,
    save_checkpoint,
)
from condense_ros.ontology import Ontology
from condense_ros.sparse import collate

BOX = InputSpec(0.3, 30.0, features=("one", "height"), box_m=(-9.0, -9.0, -3.0, 9.0, 9.0, 6.0))
CONFIGS: dict[str, AnyBackboneConfig] = {
    "sparse-unet": BackboneConfig(InputSpec(0.3, 12.0), (4, 4, 4, 8, 8, 8, 4, 4, 6), (1,) * 8),
    "voxelnet": VoxelNetConfig(BOX, (4, 4, 6, 8, 8, 10)),
    "waffleiron": WaffleIronConfig(BOX, channels=8, depth=3, neighbours=4),
}


def cloud(rng: np.random.Generator, n: int = 400) -> PointCloud:
    return PointCloud(rng.uniform([-10, -10, -2], [10, 10, 4], (n, 3)))


def make(config: AnyBackboneConfig) -> Backbone:
    torch.manual_seed(0)
    return build_backbone(config)


@pytest.mark.parametrize("name", CONFIGS)
def test_one_interface(name: str, rng: np.random.Generator) -> None:
    backbone = make(CONFIGS[name])
    voxels = collate([backbone.input.voxelize(cloud(rng)) for _ in range(2)])
    features = backbone(voxels)
    assert features.shape == (len(voxels), backbone.out_channels)
    features.square().mean().backward()
    idle = [n for n, p in backbone.named_parameters() if p.grad is None]
    assert not idle
    backbone.eval()
    tensor = backbone.tensor(voxels)
    assert torch.equal(tensor.coords, voxels.coords)
    torch.testing.assert_close(tensor.features, backbone(voxels))
    per_point = backbone.point_features(voxels)
    left_out = voxels.inverse < 0
    assert left_out.any()
    assert not per_point[left_out].any()
    torch.testing.assert_close(per_point[~left_out], backbone(voxels)[voxels.inverse[~left_out]])


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("points", [0, 1])
@pytest.mark.parametrize("training", [True, False])
def test_clouds_of_one_and_no_point(name: str, points: int, training: bool) -> None:
    backbone = make(CONFIGS[name]).train(training)
    voxels = backbone.input.voxelize(PointCloud(np.full((points, 3), 3.0)))
    out = backbone(voxels)
    assert out.shape == (points, backbone.out_channels)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_bfloat16_stays_close(name: str, rng: np.random.Generator) -> None:
    backbone = make(CONFIGS[name])
    voxels = backbone.input.voxelize(cloud(rng, 1500))
    with torch.no_grad():
        for _ in range(20):
            backbone(voxels)
        backbone.eval()
        exact = backbone(voxels)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = backbone(voxels).float()
    assert 0 < (low - exact).norm() / exact.norm() < 0.05


@pytest.mark.parametrize("name", CONFIGS)
def test_checkpoints_carry_every_architecture(
    name: str, rng: np.random.Generator, tmp_path: Path
) -> None:
    backbone = make(CONFIGS[name])
    ontology = Ontology(("ground", "wall"), np.array([[90, 90, 90], [200, 10, 10]]))
    head = LinearHead(HeadInfo(ontology, "3 labelled frames", backbone.out_channels))
    made = Checkpoint.of(backbone, {"semantic": head}, recipe="test")
    again = load_checkpoint(save_checkpoint(tmp_path / "model.safetensors", made))
    assert again.backbone == CONFIGS[name]
    assert again.backbone.to_dict()["architecture"] == name
    assert again.identity() == made.identity()
    voxels = backbone.input.voxelize(cloud(rng))
    state = torch.get_rng_state()
    net = again.build_backbone()
    assert torch.equal(torch.get_rng_state(), state), "loading must not draw random numbers"
    assert not any(p.is_meta for p in (*net.parameters(), *net.buffers()))
    assert torch.equal(net(voxels), backbone.eval()(voxels))
    wrong = dataclasses.replace(made, heads={"semantic": HeadInfo(ontology, "3 frames", 3)})
    with pytest.raises(CheckpointError, match="3 input channels"):
        save_checkpoint(tmp_path / "wrong.safetensors", wrong)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    made = Checkpoint.of(make(CONFIGS["voxelnet"]))
    with pytest.raises(CheckpointError, match="lacks tensors"):
        save_checkpoint(
            tmp_path / "m.safetensors", dataclasses.replace(made, backbone=CONFIGS["waffleiron"])
        )


def test_older_descriptions_and_identities_stay() -> None:
    """Maps remember the identity of the backbone that made their descriptors."""
    config = BackboneConfig(
        InputSpec(0.25, 30.0, features=("one", "range")), (4, 4, 4, 8, 8, 8, 4, 4, 4), (1,) * 8
    )
    old = {
        "architecture": "sparse-unet",
        "blocks": [1] * 8,
        "input": {
            "features": ["one", "range"],
            "intensity_scale": 1.0,
            "max_range_m": 30.0,
            "min_range_m": 0.5,
            "voxel_size_m": 0.25,
        },
        "stem_kernel": 3,
        "widths": [4, 4, 4, 8, 8, 8, 4, 4, 4],
    }
    assert json.loads(json.dumps(config.to_dict())) == old
    assert BackboneConfig.from_dict(old) == config
    del old["architecture"]
    assert BackboneConfig.from_dict(old) == config
    backbone = build_backbone(config)
    with torch.no_grad():
        for value in backbone.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.arange(value.numel()).reshape(value.shape) % 7 / 8 - 0.25)
    # printed by the software before it knew other architectures
    assert Checkpoint.of(backbone).identity() == "e440932a8382"


def test_descriptions_of_all_presets() -> None:
    for name in (*presets, *other_presets):
        for spec in (None, InputSpec(0.2, 50.0, features=("one", "range"))):
            config = preset(name, spec)
            values = json.loads(json.dumps(config.to_dict()))
            # any class reads what any other wrote
            for kind in (BackboneConfig, VoxelNetConfig, WaffleIronConfig):
                assert kind.from_dict(values) == config
    # an input without a box gets the preset's; one with a box keeps it
    spec = InputSpec(0.2, 50.0)
    assert preset("voxelnet", spec).input.box_m == other_presets["voxelnet"].input.box_m
    own = dataclasses.replace(spec, box_m=(-20, -20, -3, 20, 20, 5))
    assert preset("voxelnet", own).input == own
    assert preset("unet14", spec).input == spec


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"architecture": "ptv3"}, "sparse-unet, voxelnet, waffleiron"),
        ({"architecture": ["voxelnet"]}, "architecture"),
        ({"architecture": None}, "architecture"),
        ({"architecture": "voxelnet", "depth": 3}, "no parameter 'depth'"),
        ({"architecture": "voxelnet", "input": {}}, "box_m"),
        ({"architecture": "voxelnet", "input": 3}, "InputSpec"),
        ({"architecture": "waffleiron", "depth": 10**9}, "out of range"),
        ({"architecture": "waffleiron", "widths": [1]}, "no parameter 'widths'"),
        ({"architecture": "waffleiron", "planes": ["xyz"]}, "planes"),
        ({"architecture": "waffleiron", "cell_m": float("nan")}, "out of range"),
    ],
)
def test_descriptions_that_do_not_fit(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        BackboneConfig.from_dict(values)
    assert caught.value.fix


def test_unknown_presets_and_unfit_inputs() -> None:
    with pytest.raises(ConfigError, match=r"unet14.*voxelnet.*waffleiron"):
        preset("resnet50")
    with pytest.raises(ConfigError, match="Cartesian"):
        preset("waffleiron-demo", InputSpec(coordinates="cylindrical"))
