"""The networks that the engine is measured with, in the state in which they are used."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from condense_ros.errors import ConfigError
from condense_ros.models import BackboneConfig, InputSpec, build_backbone, presets
from condense_ros.sparse import SparseTensor, Voxels

#: the U-Net that public figures of sparse engines are given for, that of SPVNAS (Tang et al. 2020)
#: without its classifier: 49 convolutions, of which seven are linear shortcuts, 21.7 M parameters.
#: Our own default network, with a stem of two convolutions instead of one.
MINKUNET = "minkunet"
_STEM_LAYERS = 2
#: features of a point in it: four, as x, y, z and intensity are in the original, but of order one
_MINKUNET_FEATURES = ("one", "height", "range", "intensity")


def names() -> tuple[str, ...]:
    """Every network that can be measured."""
    return (*presets, MINKUNET)


def check_network(name: str) -> None:
    """
    Raises:
        ConfigError: no such network.
    """
    if name not in names():
        raise ConfigError(f"no network {name!r}", f"use one of: {', '.join(names())}")


def input_of(name: str, voxel_m: float) -> InputSpec:
    """What the network sees of a cloud.

    Raises:
        ConfigError: no such network, or a voxel size that does not go with the range.
    """
    check_network(name)
    spec = InputSpec(voxel_size_m=voxel_m)
    return replace(spec, features=_MINKUNET_FEATURES) if name == MINKUNET else spec


def build(name: str, voxel_m: float, seed: int = 0) -> nn.Module:
    """The network with weights of a seed: `SparseTensor` in, `SparseTensor` out.

    Raises:
        ConfigError: no such network.
    """
    spec = input_of(name, voxel_m)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = BackboneConfig(spec, stem_layers=_STEM_LAYERS) if name == MINKUNET else name
        return build_backbone(config, spec).net


def settle(network: nn.Module, voxels: Voxels, seed: int = 0) -> None:
    """Gives every norm the statistics of a cloud and random factors, as after training.

    With the statistics of a new network, activations would grow from layer to layer, and rounding
    errors would not be those of a network in use.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d)]
    generator = torch.Generator().manual_seed(seed)
    momenta = [norm.momentum for norm in norms]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0
            for parameter, centre in ((norm.weight, 1.0), (norm.bias, 0.0)):
                noise = torch.rand(parameter.shape, generator=generator) - 0.5
                parameter.copy_(centre + 0.4 * noise)
        network.train()
        network(SparseTensor(voxels.features, voxels.coords, batch_size=voxels.batch_size))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
