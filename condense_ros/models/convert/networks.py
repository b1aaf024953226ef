"""Published networks by the names of their modules, and which of them a state dict is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from condense_ros.errors import CheckpointError
from condense_ros.models.unet import LEVELS

#: module paths, ours -> theirs
Names = dict[str, str]


@dataclass(frozen=True)
class Network:
    """A family of networks that `SparseUNet` can be.

    Attributes:
        name: of the published class.
        library: "minkowski", "spconv" or "torchsparse".
        signature: tensors that every member has and no other network here.
        names: module paths, given the residual blocks of the encoder and the decoder levels. Paths
            of modules that a member may lack (shortcuts, a second stem layer) are among them.
    """

    name: str
    library: str
    signature: tuple[str, ...]
    names: Callable[[Sequence[int]], Names]

    def roots(self) -> set[str]:
        """First parts of the names of everything that belongs to the backbone."""
        return {theirs.split(".")[0] for theirs in self.names((1,) * 2 * LEVELS).values()}


def _blocks(
    blocks: Sequence[int],
    encoder: Callable[[int, int], str],
    decoder: Callable[[int, int], str],
    inside: Mapping[str, str],
) -> Names:
    names: Names = {}
    for i in range(LEVELS):
        for j in range(blocks[i]):
            for ours, theirs in inside.items():
                names[f"encoder.{i}.{j}.{ours}"] = f"{encoder(i, j)}.{theirs}"
        for j in range(blocks[LEVELS + i]):
            for ours, theirs in inside.items():
                names[f"decoder.{i}.{j}.{ours}"] = f"{decoder(i, j)}.{theirs}"
    return names


def _minkowski(blocks: Sequence[int]) -> Names:
    names = {"stem.0": "conv0p1s1", "stem.1": "bn0"}
    for i in range(LEVELS):
        names[f"down.{i}.0"] = f"conv{i + 1}p{2**i}s2"
        names[f"down.{i}.1"] = f"bn{i + 1}"
        names[f"up.{i}.0"] = f"convtr{LEVELS + i}p{2 ** (LEVELS - i)}s2"
        names[f"up.{i}.1"] = f"bntr{LEVELS + i}"
    same = {name: name for name in ("conv1", "norm1", "conv2", "norm2")}
    return names | _blocks(
        blocks,
        lambda i, j: f"block{i + 1}.{j}",
        lambda i, j: f"block{LEVELS + i + 1}.{j}",
        same | {"shortcut.0": "downsample.0", "shortcut.1": "downsample.1"},
    )


def _spunet(blocks: Sequence[int]) -> Names:
    names = {"stem.0": "conv_input.0", "stem.1": "conv_input.1"}
    for i in range(LEVELS):
        # the decoder is counted from the finest level
        for k in range(2):
            names[f"down.{i}.{k}"] = f"down.{i}.{k}"
            names[f"up.{i}.{k}"] = f"up.{LEVELS - 1 - i}.{k}"
    inside = {"conv1": "conv1", "norm1": "bn1", "conv2": "conv2", "norm2": "bn2"}
    return names | _blocks(
        blocks,
        lambda i, j: f"enc.{i}.block{j}",
        lambda i, j: f"dec.{LEVELS - 1 - i}.block{j}",
        inside | {"shortcut.0": "proj.0", "shortcut.1": "proj.1"},
    )


_STEM = {f"stem.{k}": f"stem.{k}" for k in (0, 1, 3, 4)}


def _spvnas(blocks: Sequence[int]) -> Names:
    names = dict(_STEM)
    for i in range(LEVELS):
        for k in range(2):
            names[f"down.{i}.{k}"] = f"stage{i + 1}.0.net.{k}"
            names[f"up.{i}.{k}"] = f"up{i + 1}.0.net.{k}"
    inside = {"conv1": "net.0", "norm1": "net.1", "conv2": "net.3", "norm2": "net.4"}
    return names | _blocks(
        blocks,
        lambda i, j: f"stage{i + 1}.{j + 1}",
        lambda i, j: f"up{i + 1}.1.{j}",
        inside | {"shortcut.0": "downsample.0", "shortcut.1": "downsample.1"},
    )


def _sparse_res_unet(blocks: Sequence[int]) -> Names:
    names = dict(_STEM)
    for i in range(LEVELS):
        for k in range(2):
            names[f"down.{i}.{k}"] = f"encoders.{i}.0.{k}"
            names[f"up.{i}.{k}"] = f"decoders.{i}.upsample.{k}"
    inside = {"conv1": "main.0", "norm1": "main.1", "conv2": "main.3", "norm2": "main.4"}
    return names | _blocks(
        blocks,
        lambda i, j: f"encoders.{i}.{j + 1}",
        lambda i, j: f"decoders.{i}.fuse.{j}",
        inside | {"shortcut.0": "shortcut.0", "shortcut.1": "shortcut.1"},
    )


NETWORKS = (
    Network(
        "Res16UNet",
        "minkowski",
        ("conv0p1s1.kernel", "conv1p1s2.kernel", "convtr4p16s2.kernel"),
        _minkowski,
    ),
    Network(
        "SpUNet",
        "spconv",
        ("conv_input.0.weight", "down.0.0.weight", "up.0.0.weight"),
        _spunet,
    ),
    Network(
        "MinkUNet of SPVNAS",
        "torchsparse",
        ("stem.0.kernel", "stage1.0.net.0.kernel", "up1.0.net.0.kernel"),
        _spvnas,
    ),
    Network(
        "SparseResUNet",
        "torchsparse",
        ("stem.0.kernel", "encoders.0.0.0.kernel", "decoders.0.upsample.0.kernel"),
        _sparse_res_unet,
    ),
)
LIBRARIES = ("minkowski", "spconv", "torchsparse")
#: networks that are known but are no U-Net: signature -> name
OTHERS = {
    ("conv_input.0.weight", "conv2.0.0.weight", "conv_out.0.weight"): "VoxelBackBone8x",
}


def find_network(
    keys: Iterable[str], source: str = "auto", prefix: str | None = None
) -> tuple[Network, str]:
    """The network that tensors of these names make up, and the prefix its names have.

    Args:
        source: a library, or "auto".
        prefix: the prefix to take, with or without its dot, or None to look for one (`module.`,
            `model.`, ...).

    Raises:
        CheckpointError: none of the known networks, several, or under several prefixes.
    """
    if source not in ("auto", *LIBRARIES):
        raise CheckpointError(
            f"no weight layout {source!r}", f"use auto or one of: {', '.join(LIBRARIES)}"
        )
    names = set(keys)
    if prefix and not prefix.endswith("."):
        prefix += "."
    candidates = [net for net in NETWORKS if source in ("auto", net.library)]
    found = [
        (net, start)
        for net in candidates
        for start in _prefixes(names, net.signature)
        if prefix in (None, start)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        places = ", ".join(f"{net.name} under {start!r}" for net, start in found)
        raise CheckpointError(
            f"the file holds several networks: {places}", "choose one with --prefix"
        )
    for signature, name in OTHERS.items():
        if _prefixes(names, signature):
            raise CheckpointError(
                f"these are the weights of a {name}, which is no U-Net",
                "convert them with models.convert.convert_modules and its table of names",
            )
    some = ", ".join(sorted(names)[:5]) or "none"
    under = "" if prefix is None else f" under the prefix {prefix!r}"
    lacks = {net.name: [x for x in net.signature if not _has(names, x)] for net in candidates}
    lacking = "; ".join(f"a {name} would have {', '.join(found)}" for name, found in lacks.items())
    raise CheckpointError(
        f"none of the known networks{under} among {len(names)} tensors ({some}, ...): {lacking}",
        "give the complete weights of one of these networks, and the right --source and --prefix",
    )


def _has(names: set[str], wanted: str) -> bool:
    return any(name == wanted or name.endswith("." + wanted) for name in names)


def _prefixes(names: set[str], signature: tuple[str, ...]) -> list[str]:
    first = signature[0]
    starts = [name[: -len(first)] for name in names if name == first or name.endswith("." + first)]
    return sorted(start for start in starts if all(start + rest in names for rest in signature))


#: OpenPCDet's VoxelBackBone8x, in the order of its layers: convolution, normalisation, C_in, C_out,
#: and kernel, stride, padding as it writes them, along (z, y, x). None: the input's channels.
VOXEL_BACKBONE_8X: tuple[
    tuple[str, str, int | None, int, tuple[tuple[int, int, int], ...]], ...
] = (
    ("conv_input.0", "conv_input.1", None, 16, ((3, 3, 3), (1, 1, 1), (1, 1, 1))),
    ("conv1.0.0", "conv1.0.1", 16, 16, ((3, 3, 3), (1, 1, 1), (1, 1, 1))),
    ("conv2.0.0", "conv2.0.1", 16, 32, ((3, 3, 3), (2, 2, 2), (1, 1, 1))),
    ("conv2.1.0", "conv2.1.1", 32, 32, ((3, 3, 3), (1, 1, 1), (1, 1, 1))),
    ("conv2.2.0", "conv2.2.1", 32, 32, ((3, 3, 3), (1, 1, 1), (1, 1, 1))),
    ("conv3.0.0", "conv3.0.1", 32, 64, ((3, 3, 3), (2, 2, 2), (1, 1, 1))),
    ("conv3.1.0", "conv3.1.1", 64, 64, ((3, 3, 3), (1, 1, 1), (1, 1, 1))),
    ("conv3.2.0", "conv3.2.1", 64, 64, ((3, 3, 3), (1, 1, 1), (1, 1, 1))),
    ("conv4.0.0", "conv4.0.1", 64, 64, ((3, 3, 3), (2, 2, 2), (0, 1, 1))),
    ("conv4.1.0", "conv4.1.1", 64, 64, ((3, 3, 3), (1, 1, 1), (1, 1, 1))),
    ("conv4.2.0", "conv4.2.1", 64, 64, ((3, 3, 3), (1, 1, 1), (1, 1, 1))),
    ("conv_out.0", "conv_out.1", 64, 128, ((3, 1, 1), (2, 1, 1), (0, 0, 0))),
)
