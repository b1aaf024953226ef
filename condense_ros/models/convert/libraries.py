"""What a library calls its tensors and how they are read, apart from any network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from condense_ros.models.convert.kernels import (
    Convolution,
    from_minkowski,
    from_spconv,
    from_torchsparse,
)

#: our block convolutions; MinkowskiEngine 0.4 networks use another order in these alone
BLOCK_CONVOLUTIONS = ("conv1", "conv2")


@dataclass(frozen=True)
class Library:
    """How one library writes down convolutions and batch normalisations.

    Attributes:
        name: "minkowski", "spconv" or "torchsparse".
        layout: what was chosen among the library's layouts, for reports.
        weight: name of a convolution's tensor.
        norm: what stands between a normalisation's name and its tensors.
        norm_eps: epsilon of its normalisations.
        read: a convolution's tensor in our layout.
    """

    name: str
    layout: str
    weight: str
    norm: str
    norm_eps: float
    read: Callable[[Tensor, Convolution], Tensor]


def minkowski(order: str = "hypercube") -> Library:
    """MinkowskiEngine.

    Args:
        order: "hypercube", or "hybrid" for networks of MinkowskiEngine 0.4 whose blocks ask for
            SPATIAL_HYPERCUBE_TEMPORAL_HYPERCROSS: their blocks begin with the kernel's centre.
    """
    if order not in ("hypercube", "hybrid"):
        raise ValueError(f"order {order!r}")

    def read(weight: Tensor, conv: Convolution) -> Tensor:
        in_block = conv.path.rsplit(".", 1)[-1] in BLOCK_CONVOLUTIONS
        hybrid = order == "hybrid" and in_block
        return from_minkowski(weight, conv, "hybrid" if hybrid else "x_fastest")

    return Library("minkowski", order, "kernel", "bn.", 1e-5, read)


def torchsparse() -> Library:
    """torchsparse 1.0 to 2.1."""
    return Library("torchsparse", "kernel", "kernel", "", 1e-5, from_torchsparse)


def spconv(
    layout: str | Callable[[Convolution], str] = "KRSC", axes: str = "xyz", norm_eps: float = 1e-3
) -> Library:
    """spconv.

    Args:
        layout: see `kernels.from_spconv`; a function where it differs between convolutions.
        axes: order of the indices that the network was run with.
        norm_eps: epsilon of the network's nn.BatchNorm1d (1e-3 in Pointcept and OpenPCDet).
    """
    if isinstance(layout, str):
        read = partial(from_spconv, layout=layout, axes=axes)
        return Library("spconv", f"{layout}, {axes}", "weight", "", norm_eps, read)
    choose = layout

    def read_each(weight: Tensor, conv: Convolution) -> Tensor:
        return from_spconv(weight, conv, choose(conv), axes)

    return Library("spconv", f"by kernel, {axes}", "weight", "", norm_eps, read_each)
