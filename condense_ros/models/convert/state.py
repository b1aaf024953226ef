"""`convert_state`: the weights of a published network as weights of ours."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from condense_ros.errors import CheckpointError
from condense_ros.models.backbone import BackboneConfig
from condense_ros.models.convert.architecture import Architecture, read_architecture
from condense_ros.models.convert.inputs import FeatureMap, fold_features
from condense_ros.models.convert.libraries import minkowski, spconv, torchsparse
from condense_ros.models.convert.modules import convert_modules, convolutions, listed
from condense_ros.models.convert.networks import Network, find_network
from condense_ros.models.convert.report import Conversion, ConversionReport
from condense_ros.models.convert.versions import (
    SPCONV_VERSIONS,
    choose_order,
    choose_version,
    refuse_point_branch,
)
from condense_ros.models.unet import SparseUNet
from condense_ros.sparse import BatchNorm


def convert_state(
    state: Mapping[str, Tensor],
    target: BackboneConfig,
    *,
    source: str = "auto",
    prefix: str | None = None,
    minkowski_order: str = "auto",
    spconv_version: str = "auto",
    feature_maps: Mapping[str, FeatureMap] | None = None,
) -> Conversion:
    """The weights of a published network as weights of `Backbone(target)`.

    Nothing is left out silently: the backbone must be complete, what else the file holds is in the
    report. In eval mode the converted network gives the features of the source before its output
    layer, on the same voxels.

    Args:
        state: tensors by name, as the source saved them.
        target: the backbone; `source_architecture` reads all but its input off the file.
            Its input must name the features that the weights were trained with, in their order.
        source: "minkowski", "spconv", "torchsparse", or "auto": told by the names.
        prefix: prefix of the names, None: found.
        minkowski_order: order of 3x3x3 kernels in blocks: "hypercube", "hybrid" (see
            `libraries.minkowski`), or "auto": hypercube, refused where the weights contradict.
        spconv_version: "1", "2.0", "2.1", "2.2" (and later), or "auto": told by the shapes.
        feature_maps: by our feature, how the source's input follows from it where they differ.

    Raises:
        CheckpointError: no known network; tensors missing, superfluous or of another shape;
            another architecture than the target; a network that ours cannot be.
    """
    network, start = find_network(state, source, prefix)
    own = _under(state, start)
    architecture = read_architecture(own, network)
    architecture.check(target)
    refuse_point_branch(own)
    with torch.device("meta"):
        net = SparseUNet(
            architecture.in_channels,
            target.widths,
            target.blocks,
            target.stem_kernel,
            target.stem_layers,
            target.widening,
        )
    names = network.names(target.blocks)
    notes: list[str] = []
    if network.library == "minkowski":
        library = minkowski(choose_order(own, names, minkowski_order, notes))
    elif network.library == "spconv":
        version = choose_version(own, convolutions(net), names, spconv_version)
        library = dataclasses.replace(
            spconv(SPCONV_VERSIONS[version]), layout=f"as spconv {version}, axes xyz"
        )
    else:
        library = torchsparse()
    converted, loaded = convert_modules(own, net, names, library)
    stem = "stem.0.weight"
    converted[stem] = fold_features(converted[stem], target.input, feature_maps or {})
    eps = next(part.eps for part in net.modules() if isinstance(part, BatchNorm))
    if library.norm_eps != eps:
        notes.append(
            f"running variances enlarged by {library.norm_eps - eps:.3g}: the source's "
            f"normalisation has epsilon {library.norm_eps:g}, ours {eps:g}; the same in eval mode"
        )
    unused = _unused(state, start, {item.theirs for item in loaded}, network)
    report = ConversionReport(
        network.name, network.library, library.layout, start, loaded, unused, tuple(notes)
    )
    return Conversion({f"net.{k}": v for k, v in converted.items()}, target, report)


def source_architecture(
    state: Mapping[str, Tensor], source: str = "auto", prefix: str | None = None
) -> Architecture:
    """What the shapes of a file say about its network.

    Raises:
        CheckpointError: no known network, or an incomplete one.
    """
    network, start = find_network(state, source, prefix)
    return read_architecture(_under(state, start), network)


def _under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: value for k, value in state.items() if k.startswith(prefix)}


def _unused(
    state: Mapping[str, Tensor], prefix: str, taken: set[str], network: Network
) -> tuple[tuple[str, tuple[int, ...]], ...]:
    left = {
        name: tuple(value.shape)
        for name, value in state.items()
        if not (name.startswith(prefix) and name[len(prefix) :] in taken)
    }
    roots = network.roots()
    superfluous = sorted(
        name
        for name in left
        if name.startswith(prefix) and name[len(prefix) :].split(".")[0] in roots
    )
    if superfluous:
        raise CheckpointError(
            f"the backbone has tensors that a {network.name} lacks: {listed(superfluous)}",
            "this is another network, which cannot be converted",
        )
    return tuple(sorted(left.items()))
