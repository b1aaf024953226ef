"""In which order the libraries write down the elements of a kernel, and their tensors as ours.

Ours: (K, C_in, C_out), x slowest, z fastest, and out[u] = sum over k of in[u * stride + k] W[k].
All libraries here compute that sum; they differ in the order of k and of the axes. Each function
takes the tensor of one convolution and gives it in our layout, exactly: values are only moved.
Sources of the formats: docs/weights.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from condense_ros.errors import CheckpointError
from condense_ros.sparse.maps import Triple

#: orders of kernel elements: ours and spconv's, MinkowskiEngine's HYPER_CUBE, its HYBRID of 0.4
ORDERS = ("x_slowest", "x_fastest", "hybrid")
#: layouts of a spconv weight: C_out and C_in as K and C, the kernel axes as RS (its own letters)
SPCONV_LAYOUTS = ("KRSC", "RSKC", "RSCK")


@dataclass(frozen=True)
class Convolution:
    """What a convolution of ours looks like, for which a tensor is wanted.

    Attributes:
        path: name of our module.
        kernel: sizes along x, y, z.
        c_in, c_out: channels.
        first: place of kernel element 0 relative to output * stride, in steps of the dilation;
            None: centred, as in submanifold convolutions.
    """

    path: str
    kernel: Triple
    c_in: int
    c_out: int
    first: Triple | None = None

    @property
    def volume(self) -> int:
        return math.prod(self.kernel)

    @property
    def lowest(self) -> tuple[int, ...]:
        """`first`, or the corner of a centred kernel."""
        return self.first or tuple(-(size // 2) for size in self.kernel)


def positions(order: str, kernel: Triple) -> list[Triple]:
    """Places (x, y, z) in a kernel, counted from its lowest corner, in the order of a library."""
    if order == "x_slowest":
        return [(x, y, z) for x, y, z in product(*map(range, kernel))]
    if order == "x_fastest":
        return [(x, y, z) for z, y, x in product(*map(range, kernel[::-1]))]
    if order == "hybrid":
        # the centre first; then, axis by axis, every place so far moved along that axis
        centre = [(size - 1) // 2 for size in kernel]
        found = [centre]
        for axis, size in enumerate(kernel):
            beside = [value for value in range(size) if value != centre[axis]]
            found += [
                [*place[:axis], value, *place[axis + 1 :]] for place in found for value in beside
            ]
        return [(x, y, z) for x, y, z in found]
    raise ValueError(f"order {order!r} is none of {ORDERS}")


def reordered(weight: Tensor, order: str, kernel: Triple) -> Tensor:
    """(K, C_in, C_out) in our order from the same in another."""
    where = {place: k for k, place in enumerate(positions(order, kernel))}
    return weight[torch.tensor([where[place] for place in positions("x_slowest", kernel)])]


def from_minkowski(weight: Tensor, conv: Convolution, order: str = "x_fastest") -> Tensor:
    """The kernel of a MinkowskiConvolution or its transpose: (K, C_in, C_out), or (C_in, C_out).

    Raises:
        CheckpointError: another shape, or a kernel that lies elsewhere: MinkowskiEngine centres
            odd sizes and lets even ones begin at the output voxel.
    """
    _same_place(conv, [-(size // 2) if size % 2 else 0 for size in conv.kernel], "MinkowskiEngine")
    return reordered(_volume_first(weight, conv), order, conv.kernel)


def from_torchsparse(weight: Tensor, conv: Convolution) -> Tensor:
    """The kernel of a torchsparse.nn.Conv3d: x fastest when odd, x slowest when even.

    Raises:
        CheckpointError: another shape, or a kernel that lies elsewhere: torchsparse counts from
            -(size - 1) // 2, half a voxel before the middle of even sizes.
    """
    _same_place(conv, [-((size - 1) // 2) for size in conv.kernel], "torchsparse")
    order = "x_fastest" if conv.volume % 2 else "x_slowest"
    return reordered(_volume_first(weight, conv), order, conv.kernel)


def from_spconv(
    weight: Tensor, conv: Convolution, layout: str = "KRSC", axes: str = "xyz"
) -> Tensor:
    """The weight of a spconv convolution, subm, strided or inverse.

    Args:
        layout: KRSC (C_out, k, k, k, C_in), RSKC (k, k, k, C_out, C_in) or RSCK (k, k, k, C_in,
            C_out). A 1x1x1 weight is (C_in, C_out) in memory whatever its shape says: every
            version multiplies with `weight.view(C_in, C_out)`.
        axes: order of the indices that the network was run with: "xyz" or "zyx".

    Raises:
        CheckpointError: another shape.
    """
    if tuple(weight.shape) != spconv_shape(conv, layout, axes):
        raise wrong_shape(conv.path, weight, spconv_shape(conv, layout, axes))
    if conv.volume == 1:
        return weight.reshape(1, conv.c_in, conv.c_out)
    to_rsck = {"KRSC": (1, 2, 3, 4, 0), "RSKC": (0, 1, 2, 4, 3), "RSCK": (0, 1, 2, 3, 4)}[layout]
    weight = weight.permute(to_rsck)
    if axes == "zyx":
        weight = weight.permute(2, 1, 0, 3, 4)
    return weight.reshape(conv.volume, conv.c_in, conv.c_out)


def spconv_shape(conv: Convolution, layout: str, axes: str = "xyz") -> tuple[int, ...]:
    """Shape of a convolution's weight in spconv."""
    if layout not in SPCONV_LAYOUTS or axes not in ("xyz", "zyx"):
        raise ValueError(f"layout {layout!r}, axes {axes!r}")
    kernel = conv.kernel if axes == "xyz" else conv.kernel[::-1]
    shapes = {
        "KRSC": (conv.c_out, *kernel, conv.c_in),
        "RSKC": (*kernel, conv.c_out, conv.c_in),
        "RSCK": (*kernel, conv.c_in, conv.c_out),
    }
    return shapes[layout]


def _volume_first(weight: Tensor, conv: Convolution) -> Tensor:
    expected = (conv.volume, conv.c_in, conv.c_out)
    if conv.volume == 1 and weight.ndim == 2:
        weight = weight.unsqueeze(0)
    if tuple(weight.shape) != expected:
        raise wrong_shape(conv.path, weight, expected)
    return weight


def wrong_shape(name: str, tensor: Tensor, expected: tuple[int, ...]) -> CheckpointError:
    """The error for a tensor of another shape."""
    return CheckpointError(
        f"{name} is {tuple(tensor.shape)} instead of {expected}",
        "convert to the architecture the weights were trained with",
    )


def _same_place(conv: Convolution, lowest: list[int], library: str) -> None:
    if conv.lowest != tuple(lowest):
        raise CheckpointError(
            f"{conv.path} has a kernel {conv.kernel} that begins at {conv.lowest}, which {library} "
            f"begins at {tuple(lowest)}",
            "such a network cannot be converted",
        )
