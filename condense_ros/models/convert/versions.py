"""What a file does not say about its layout, told by shapes and by the weights themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from condense_ros.errors import CheckpointError
from condense_ros.models.convert.kernels import Convolution, spconv_shape
from condense_ros.models.convert.libraries import BLOCK_CONVOLUTIONS
from condense_ros.models.convert.modules import COUNTER

#: weight layouts by version of spconv
SPCONV_VERSIONS: dict[str, Callable[[Convolution], str]] = {
    "1": lambda conv: "RSCK",
    "2.0": lambda conv: "RSKC",
    # native convolutions, which 2.1 uses for more than 32 kernel elements, kept their layout
    "2.1": lambda conv: "RSKC" if conv.volume > 32 else "KRSC",
    "2.2": lambda conv: "KRSC",
}
MINKOWSKI_ORDERS = ("auto", "hypercube", "hybrid")
#: how much larger the weights of one element must be to count as the centre
CLEAR = 1.25


def refuse_point_branch(own: Mapping[str, Tensor]) -> None:
    """Tells an SPVCNN from the MinkUNet of the same tensors, whose point branch is never run.

    Raises:
        CheckpointError: the point branch has seen data.
    """
    used = [
        name
        for name, value in own.items()
        if name.startswith("point_transforms.")
        and name.endswith((".running_mean", "." + COUNTER))
        and bool((value != 0).any())
    ]
    if used:
        raise CheckpointError(
            f"the point branch was trained ({used[0]}): this is an SPVCNN, whose points add to its "
            "voxels",
            "use the weights of a MinkUNet",
        )


def choose_order(
    own: Mapping[str, Tensor], names: Mapping[str, str], order: str, notes: list[str]
) -> str:
    """The order of kernels in blocks, with what is to be noted about it.

    A file does not say it, but trained weights do: the centre is the one element that always meets
    a voxel, so its weights are the largest.

    Raises:
        CheckpointError: the weights look hybrid and nobody said so, or the order is unknown.
    """
    if order not in MINKOWSKI_ORDERS:
        raise CheckpointError(
            f"no kernel order {order!r}", f"use one of: {', '.join(MINKOWSKI_ORDERS)}"
        )
    kernels = [
        own[f"{theirs}.kernel"]
        for ours, theirs in names.items()
        if ours.rsplit(".", 1)[-1] in BLOCK_CONVOLUTIONS and f"{theirs}.kernel" in own
    ]
    sizes = [w.double().pow(2).mean((1, 2)).sqrt() for w in kernels if w.shape[0] == 27]
    norms = torch.stack([size / size.mean() for size in sizes]).mean(0)
    first, middle = float(norms[0]), float(norms[13])
    looks = "hybrid" if first > CLEAR * middle else "hypercube" if middle > CLEAR * first else ""
    says = f"element 0 is {first:.2f}, element 13 is {middle:.2f} of the mean"
    if order == "auto" and looks == "hybrid":
        raise CheckpointError(
            f"the kernels seem to begin with their centre ({says}), as in MinkowskiEngine 0.4's "
            "HYBRID",
            "say which it is with --minkowski-order hybrid or hypercube",
        )
    if order == "auto":
        order = "hypercube"
        if not looks:
            notes.append(
                "kernels of blocks taken in MinkowskiEngine's hypercube order; the weights do not "
                f"tell ({says}). Networks of version 0.4 may be hybrid"
            )
    elif looks and looks != order:
        notes.append(f"kernels of blocks taken as {order}, though they look {looks}: {says}")
    return order


def choose_version(
    own: Mapping[str, Tensor],
    convs: Sequence[Convolution],
    names: Mapping[str, str],
    version: str,
) -> str:
    """The version of spconv whose layouts the shapes of all weights have.

    Raises:
        CheckpointError: versions that differ fit alike, or the given one is unknown.
    """
    if version in SPCONV_VERSIONS:
        return version
    if version != "auto":
        raise CheckpointError(
            f"no weight layout of spconv {version!r}",
            f"use auto or one of: {', '.join(SPCONV_VERSIONS)}",
        )
    kernels = [conv for conv in convs if conv.volume > 1 and f"{names[conv.path]}.weight" in own]
    fitting: dict[tuple[str, ...], str] = {}
    for name, layout in SPCONV_VERSIONS.items():
        if all(
            tuple(own[f"{names[conv.path]}.weight"].shape) == spconv_shape(conv, layout(conv))
            for conv in kernels
        ):
            fitting[tuple(layout(conv) for conv in kernels)] = name
    if len(fitting) > 1:
        raise CheckpointError(
            f"the shapes fit several versions of spconv: {', '.join(fitting.values())}",
            "say which wrote the file with --spconv-version",
        )
    # none fits: the newest is taken, and the tensors that do not fit are named
    return next(iter(fitting.values()), "2.2")
