"""Converted networks compute what the published ones compute, each in its own definition."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from published_networks import Cloud, Res16UNet, SpUNet, SpvnasMinkUNet, random_cloud

from condense_ros.models import Backbone, InputSpec
from condense_ros.models.convert import (
    Conversion,
    FeatureMap,
    convert_state,
    source_architecture,
)
from condense_ros.models.convert.kernels import positions
from condense_ros.sparse import SparseTensor

INPUT = InputSpec(0.1, features=("one", "height", "intensity"))
CHANNELS = INPUT.channels
State = dict[str, torch.Tensor]


def converted(state: State, **options: Any) -> Conversion:
    config = source_architecture(state).config(INPUT)
    return convert_state(state, config, **options)


def features(conversion: Conversion, cloud: Cloud, state: State | None = None) -> np.ndarray:
    """What our network makes of a cloud, in the order of its voxels."""
    backbone = Backbone(conversion.config).double().eval()
    backbone.load_state_dict(conversion.state if state is None else state, strict=True)
    coords = torch.tensor([(0, *place) for place in cloud], dtype=torch.int32)
    x = torch.from_numpy(np.array(list(cloud.values())))
    with torch.no_grad():
        out: np.ndarray = backbone.net(SparseTensor(x, coords)).features.numpy()
    return out


def error(found: np.ndarray, expected: Cloud) -> float:
    truth = np.array(list(expected.values()))
    assert truth.std(0).min() > 1e-3, "the reference should not be constant"
    return float(np.abs(found - truth).max() / np.abs(truth).max())


def renamed_for_torchsparse(name: str) -> str:
    """Module names of torchsparse.backbones.SparseResUNet, from those of SPVNAS."""
    head, _, rest = name.partition(".")
    if head == "stem":
        return name
    level, parts = int(head[-1]) - 1, rest.split(".")
    if head.startswith("stage"):
        parts = parts if parts[0] != "0" else ["0", parts[-1]]
        base = f"encoders.{level}"
    else:
        parts = ["upsample", parts[-1]] if parts[0] == "0" else ["fuse", *parts[1:]]
        base = f"decoders.{level}"
    text = ".".join([base, *parts])
    return text.replace(".net.", ".main.").replace(".downsample.", ".shortcut.")


CASES = {
    "minkowski": (lambda: Res16UNet(1), {}),
    "minkowski, stem 5": (lambda: Res16UNet(2, stem=5), {}),
    "minkowski 0.4": (lambda: Res16UNet(3, hybrid=True), {"minkowski_order": "hybrid"}),
    "spconv 2.2": (lambda: SpUNet(4), {}),
    "spconv 2.2, stem 3": (lambda: SpUNet(4, stem=3), {}),
    "spconv 2.1": (lambda: SpUNet(5, layout=lambda v: "RSKC" if v > 32 else "KRSC"), {}),
    "spconv 2.0": (lambda: SpUNet(6, layout=lambda v: "RSKC"), {}),
    "spconv 1": (lambda: SpUNet(7, layout=lambda v: "RSCK"), {}),
    "torchsparse, SPVNAS": (lambda: SpvnasMinkUNet(8), {}),
    "torchsparse, backbones": (lambda: SpvnasMinkUNet(9, names=renamed_for_torchsparse), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_whole_network_is_the_published_one(case: str) -> None:
    make, options = CASES[case]
    network = make()
    # MinkowskiEngine rounds negative coordinates down, as we do; the others have none
    cloud = random_cloud(20, CHANNELS, low=-17 if case.startswith("minkowski") else 0)
    expected = network(cloud)
    conversion = converted(network.state, **options)
    assert conversion.report.source == case.split()[0].rstrip(",")
    assert error(features(conversion, cloud), expected) < 1e-9
    left = {name for name, _ in conversion.report.unused}
    assert left <= {"final.kernel", "final.bias", "final.weight"}
    assert {item.theirs for item in conversion.report.loaded} | left == set(network.state)


@pytest.mark.parametrize("case", ["minkowski, stem 5", "spconv 2.2", "torchsparse, SPVNAS"])
@pytest.mark.parametrize("part", ["stem.0", "down.1.0", "conv1", "conv2", "up.2.0"])
def test_a_wrong_order_of_axes_shows(case: str, part: str) -> None:
    make, options = CASES[case]
    network, cloud = make(), random_cloud(21, CHANNELS)
    expected = network(cloud)
    conversion = converted(network.state, **options)
    wrong = dict(conversion.state)
    for name, weight in wrong.items():
        if name.endswith(f"{part}.weight"):
            size = round(len(weight) ** (1 / 3))
            cube = weight.reshape(size, size, size, *weight.shape[1:])
            wrong[name] = cube.transpose(0, 2).reshape(weight.shape)
    assert error(features(conversion, cloud, wrong), expected) > 1e-3


def test_wrong_choices_show() -> None:
    cloud = random_cloud(22, CHANNELS)
    for network, options in (
        (Res16UNet(3, hybrid=True), {"minkowski_order": "hypercube"}),
        (Res16UNet(1), {"minkowski_order": "hybrid"}),
    ):
        expected = network(cloud)
        assert error(features(converted(network.state, **options), cloud), expected) > 1e-3
    # a shortcut of spconv looks (C_out, 1, 1, 1, C_in) and is (C_in, C_out) in memory
    net = SpUNet(4)
    expected = net(cloud)
    conversion = converted(net.state)
    wrong = dict(conversion.state)
    for name, weight in wrong.items():
        if name.endswith("shortcut.0.weight"):
            wrong[name] = weight.t().reshape(weight.shape)
    assert error(features(conversion, cloud, wrong), expected) > 1e-3
    # and its normalisations have another epsilon than ours
    wrong = {n: v - (1e-3 - 1e-5) * n.endswith("running_var") for n, v in conversion.state.items()}
    assert error(features(conversion, cloud, wrong), expected) > 1e-6


def test_orders_of_kernel_elements() -> None:
    assert positions("x_slowest", (2, 2, 2))[:3] == [(0, 0, 0), (0, 0, 1), (0, 1, 0)]
    assert positions("x_fastest", (3, 3, 3))[:4] == [(0, 0, 0), (1, 0, 0), (2, 0, 0), (0, 1, 0)]
    assert positions("x_fastest", (1, 2, 3))[:3] == [(0, 0, 0), (0, 1, 0), (0, 0, 1)]
    hybrid = [tuple(v - 1 for v in place) for place in positions("hybrid", (3, 3, 3))]
    assert hybrid[:5] == [(0, 0, 0), (-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0)]
    assert hybrid[5:10] == [(-1, -1, 0), (-1, 1, 0), (1, -1, 0), (1, 1, 0), (0, 0, -1)]
    assert hybrid[-1] == (1, 1, 1)
    assert all(len(set(positions(o, (3, 3, 3)))) == 27 for o in ("x_fastest", "hybrid"))


def test_features_of_another_scale_and_offset() -> None:
    """The network saw r, g, b of 0..1 and a raw intensity; ours are -0.5..0.5 and 0..1."""
    network = Res16UNet(11)
    cloud = random_cloud(23, 4)
    scales, offsets = np.array([1.0, 1.0, 1.0, 255.0]), np.array([0.5, 0.5, 0.5, 0.0])
    expected = network({place: value * scales + offsets for place, value in cloud.items()})
    spec = InputSpec(0.02, features=("r", "g", "b", "intensity", "one"))
    maps = {name: FeatureMap(offset=0.5) for name in "rgb"} | {"intensity": FeatureMap(255.0)}
    architecture = source_architecture(network.state)
    assert architecture.in_channels == 4
    conversion = convert_state(network.state, architecture.config(spec), feature_maps=maps)
    ours = {place: np.append(value, 1.0) for place, value in cloud.items()}
    assert error(features(conversion, ours), expected) < 1e-9
    plain = convert_state(
        network.state,
        architecture.config(dataclasses.replace(spec, features=spec.features[:4])),
    )
    assert error(features(plain, cloud), expected) > 1e-3
