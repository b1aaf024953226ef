"""Published sparse networks from their definitions: float64, loops over coordinates, no torch ops.

Three libraries, each with its own order of kernel elements and its own names, written from what
their repositories define and not from what this project does with it. A cloud is a dict from
(x, y, z) to a feature vector. Convolutions of MinkowskiEngine and torchsparse keep coordinates in
voxels of stride 1; those of spconv count in voxels of the tensor's own stride.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
import torch

Coord = tuple[int, int, int]
Array = npt.NDArray[np.float64]
Cloud = dict[Coord, Array]

WIDTHS = (4, 4, 5, 6, 7, 6, 5, 4, 3)
BLOCKS = (1, 2, 1, 1, 1, 1, 2, 1)


def random_cloud(seed: int, channels: int, low: int = 0) -> Cloud:
    """A walk of about 100 voxels over several voxels of stride 16, with side branches."""
    rng = np.random.default_rng(seed)
    place, cloud = np.array([low + 3, low + 5, low + 2]), {}
    for _ in range(110):
        place = np.clip(place + rng.integers(-2, 3, 3), low, low + 35)
        cloud[tuple(map(int, place))] = rng.normal(size=channels)
        beside = np.clip(place + rng.integers(-1, 2, 3), low, low + 35)
        cloud[tuple(map(int, beside))] = rng.normal(size=channels)
    return cloud


def moved(place: Coord, by: Sequence[int], times: int = 1) -> Coord:
    return (
        place[0] + by[0] * times,
        place[1] + by[1] * times,
        place[2] + by[2] * times,
    )


def relu(cloud: Cloud) -> Cloud:
    return {place: np.maximum(value, 0) for place, value in cloud.items()}


def joined(first: Cloud, second: Cloud) -> Cloud:
    return {place: np.concatenate([first[place], second[place]]) for place in first}


class Weights:
    """Random tensors by name, made when a network asks for them for the first time."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.state: dict[str, torch.Tensor] = {}

    def tensor(self, name: str, *shape: int) -> Array:
        if name not in self.state:
            std = 1.5 / np.sqrt(max(np.prod(shape) / max(shape[-1], 1), 1)) if shape else 1
            value = self.rng.normal(size=shape) * std
            if name.endswith("running_var"):
                value = self.rng.uniform(0.2, 2.0, shape)
            elif name.endswith("running_mean") or name.endswith("bias"):
                value = self.rng.normal(size=shape) * 0.3
            elif len(shape) == 1:
                value = self.rng.uniform(0.5, 1.5, shape)
            self.state[name] = torch.from_numpy(np.ascontiguousarray(value))
        found = self.state[name].numpy()
        assert found.shape == shape, f"{name} is {found.shape}, not {shape}"
        return found

    def norm(self, cloud: Cloud, name: str, channels: int, eps: float) -> Cloud:
        w, b, mean, var = (
            self.tensor(f"{name}.{part}", channels)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        self.state.setdefault(f"{name}.num_batches_tracked", torch.tensor(11))
        return {p: (v - mean) / np.sqrt(var + eps) * w + b for p, v in cloud.items()}


Offsets = Sequence[Coord]


def gathered(x: Cloud, out: Sequence[Coord], kernel: Array, offsets: Offsets, step: int) -> Cloud:
    """out[u] = sum over k of x[u + step * offset_k] W_k."""
    result = {}
    for u in out:
        total = np.zeros(kernel.shape[2])
        for k, offset in enumerate(offsets):
            value = x.get(moved(u, offset, step))
            if value is not None:
                total = total + value @ kernel[k]
        result[u] = total
    return result


def scattered(x: Cloud, out: Sequence[Coord], kernel: Array, offsets: Offsets, step: int) -> Cloud:
    """The transpose: every input u adds x[u] W_k to the output at u + step * offset_k."""
    result = {place: np.zeros(kernel.shape[2]) for place in out}
    for u, value in x.items():
        for k, offset in enumerate(offsets):
            place = moved(u, offset, step)
            if place in result:
                result[place] = result[place] + value @ kernel[k]
    return result


def coarse(places: Sequence[Coord], stride: int) -> list[Coord]:
    down = [tuple(value // stride * stride for value in place) for place in places]
    return list(dict.fromkeys(down))  # type: ignore[arg-type]


class VolumeKernels:
    """Networks whose kernels are (K, C_in, C_out), in an order that a subclass knows."""

    norm_name = ""
    eps = 1e-5

    def __init__(self, seed: int) -> None:
        self.weights = Weights(seed)

    @property
    def state(self) -> dict[str, torch.Tensor]:
        return self.weights.state

    def offsets(self, size: int, block: bool = False) -> Offsets:
        raise NotImplementedError

    def conv(
        self, x: Cloud, name: str, c_in: int, c_out: int, size: int, at: int, block: bool = False
    ) -> Cloud:
        if size == 1:
            kernel = self.weights.tensor(f"{name}.kernel", c_in, c_out)
            return {place: value @ kernel for place, value in x.items()}
        kernel = self.weights.tensor(f"{name}.kernel", size**3, c_in, c_out)
        return gathered(x, list(x), kernel, self.offsets(size, block), at)

    def down(self, x: Cloud, name: str, c_in: int, c_out: int, at: int) -> Cloud:
        kernel = self.weights.tensor(f"{name}.kernel", 8, c_in, c_out)
        return gathered(x, coarse(list(x), 2 * at), kernel, self.offsets(2), at)

    def up(self, x: Cloud, skip: Cloud, name: str, c_in: int, c_out: int, at: int) -> Cloud:
        kernel = self.weights.tensor(f"{name}.kernel", 8, c_in, c_out)
        return scattered(x, list(skip), kernel, self.offsets(2), at)

    def norm(self, x: Cloud, name: str, channels: int) -> Cloud:
        return self.weights.norm(x, name + self.norm_name, channels, self.eps)


class Res16UNet(VolumeKernels):
    """models/res16unet.py of SpatioTemporalSegmentation, on MinkowskiEngine's kernel regions."""

    norm_name = ".bn"

    def __init__(
        self,
        seed: int,
        stem: int = 3,
        hybrid: bool = False,
        widths: Sequence[int] = WIDTHS,
        blocks: Sequence[int] = BLOCKS,
        classes: int = 5,
    ) -> None:
        super().__init__(seed)
        self.stem, self.hybrid, self.classes = stem, hybrid, classes
        self.widths, self.blocks = widths, blocks

    def offsets(self, size: int, block: bool = False) -> Offsets:
        if block and self.hybrid:
            # MinkowskiEngine 0.4, RegionType.HYBRID with three cubic axes
            found = [[0, 0, 0]]
            for axis in range(3):
                new = []
                for offset in found:
                    for step in range(size):
                        if step != (size - 1) // 2:
                            copy = list(offset)
                            copy[axis] = step - (size - 1) // 2
                            new.append(copy)
                found = found + new
            return [(a, b, c) for a, b, c in found]
        # kernel_region.hpp, coordinate_at: the first axis runs fastest; even sizes count from 0
        lowest = 0 if size % 2 == 0 else -(size // 2)
        offsets = []
        for index in range(size**3):
            place, rest = [], index
            for _ in range(3):
                place.append(rest % size + lowest)
                rest //= size
            offsets.append((place[0], place[1], place[2]))
        return offsets

    def block(self, x: Cloud, name: str, c_in: int, c_out: int, at: int) -> Cloud:
        out = self.conv(x, f"{name}.conv1", c_in, c_out, 3, at, block=True)
        out = relu(self.norm(out, f"{name}.norm1", c_out))
        out = self.conv(out, f"{name}.conv2", c_out, c_out, 3, at, block=True)
        out = self.norm(out, f"{name}.norm2", c_out)
        if c_in != c_out:
            x = self.conv(x, f"{name}.downsample.0", c_in, c_out, 1, at)
            x = self.norm(x, f"{name}.downsample.1", c_out)
        return relu({place: value + x[place] for place, value in out.items()})

    def layer(self, x: Cloud, number: int, c_in: int, c_out: int, at: int) -> Cloud:
        for j in range(self.blocks[number - 1]):
            x = self.block(x, f"block{number}.{j}", c_in if j == 0 else c_out, c_out, at)
        return x

    def __call__(self, x: Cloud) -> Cloud:
        """Features before `final`; running it also makes the weights."""
        w = self.widths
        channels = len(next(iter(x.values())))
        out = self.conv(x, "conv0p1s1", channels, w[0], self.stem, 1)
        out_p1 = relu(self.norm(out, "bn0", w[0]))
        out = relu(self.norm(self.down(out_p1, "conv1p1s2", w[0], w[0], 1), "bn1", w[0]))
        out_b1p2 = self.layer(out, 1, w[0], w[1], 2)
        out = relu(self.norm(self.down(out_b1p2, "conv2p2s2", w[1], w[1], 2), "bn2", w[1]))
        out_b2p4 = self.layer(out, 2, w[1], w[2], 4)
        out = relu(self.norm(self.down(out_b2p4, "conv3p4s2", w[2], w[2], 4), "bn3", w[2]))
        out_b3p8 = self.layer(out, 3, w[2], w[3], 8)
        out = relu(self.norm(self.down(out_b3p8, "conv4p8s2", w[3], w[3], 8), "bn4", w[3]))
        out = self.layer(out, 4, w[3], w[4], 16)
        for number, name, skip, width, at in (
            (5, "convtr4p16s2", out_b3p8, w[5], 8),
            (6, "convtr5p8s2", out_b2p4, w[6], 4),
            (7, "convtr6p4s2", out_b1p2, w[7], 2),
            (8, "convtr7p2s2", out_p1, w[8], 1),
        ):
            c_in, beside = (len(next(iter(c.values()))) for c in (out, skip))
            out = self.up(out, skip, name, c_in, width, at)
            out = relu(self.norm(out, f"bntr{number - 1}", width))
            out = self.layer(joined(out, skip), number, width + beside, width, at)
        if self.classes:
            self.weights.tensor("final.kernel", w[8], self.classes)
            self.weights.tensor("final.bias", 1, self.classes)
        return out


class SpvnasMinkUNet(VolumeKernels):
    """core/models/semantic_kitti/minkunet.py of SPVNAS, on torchsparse's kernel offsets.

    `names` exchanges its module names for those of another publication of the same network.
    """

    def __init__(
        self, seed: int, widths: Sequence[int] = WIDTHS, names: Callable[[str], str] = str
    ) -> None:
        super().__init__(seed)
        self.widths, self.names = widths, names

    def offsets(self, size: int, block: bool = False) -> Offsets:
        # nn/utils/kernel.py: odd volumes with z outermost, even ones with x outermost
        axis = [int(value) for value in np.arange(-size // 2 + 1, size // 2 + 1)]
        if size % 2 == 1:
            return [(x, y, z) for z in axis for y in axis for x in axis]
        return [(x, y, z) for x in axis for y in axis for z in axis]

    def cbr(self, x: Cloud, name: str, k: int, c_in: int, c_out: int, at: int) -> Cloud:
        out = self.conv(x, self.names(f"{name}.{k}"), c_in, c_out, 3, at)
        return self.norm(out, self.names(f"{name}.{k + 1}"), c_out)

    def block(self, x: Cloud, name: str, c_in: int, c_out: int, at: int) -> Cloud:
        out = relu(self.cbr(x, f"{name}.net", 0, c_in, c_out, at))
        out = self.cbr(out, f"{name}.net", 3, c_out, c_out, at)
        if c_in != c_out:
            x = self.conv(x, self.names(f"{name}.downsample.0"), c_in, c_out, 1, at)
            x = self.norm(x, self.names(f"{name}.downsample.1"), c_out)
        return relu({place: value + x[place] for place, value in out.items()})

    def __call__(self, x: Cloud) -> Cloud:
        w = self.widths
        channels = len(next(iter(x.values())))
        out = relu(self.cbr(x, "stem", 0, channels, w[0], 1))
        levels = [relu(self.cbr(out, "stem", 3, w[0], w[0], 1))]
        for s in range(1, 5):
            at = 2 ** (s - 1)
            out = self.down(levels[-1], self.names(f"stage{s}.0.net.0"), w[s - 1], w[s - 1], at)
            out = relu(self.norm(out, self.names(f"stage{s}.0.net.1"), w[s - 1]))
            out = self.block(out, f"stage{s}.1", w[s - 1], w[s], 2 * at)
            levels.append(self.block(out, f"stage{s}.2", w[s], w[s], 2 * at))
        out = levels[4]
        for s in range(1, 5):
            skip, at = levels[4 - s], 2 ** (4 - s)
            out = self.up(out, skip, self.names(f"up{s}.0.net.0"), w[s + 3], w[s + 4], at)
            out = relu(self.norm(out, self.names(f"up{s}.0.net.1"), w[s + 4]))
            both = joined(out, skip)
            out = self.block(both, f"up{s}.1.0", w[s + 4] + w[4 - s], w[s + 4], at)
            out = self.block(out, f"up{s}.1.1", w[s + 4], w[s + 4], at)
        return out


class SpUNet:
    """spconv_unet_v1m1_base.py of Pointcept, on spconv's correlation with (x, y, z) indices.

    Args:
        layout: of a weight, by the number of its kernel elements: KRSC, RSKC or RSCK.
    """

    eps = 1e-3

    def __init__(
        self,
        seed: int,
        stem: int = 5,
        layout: Callable[[int], str] = lambda volume: "KRSC",
        widths: Sequence[int] = WIDTHS,
        blocks: Sequence[int] = BLOCKS,
    ) -> None:
        self.weights, self.layout, self.stem = Weights(seed), layout, stem
        self.widths, self.blocks = widths, blocks

    @property
    def state(self) -> dict[str, torch.Tensor]:
        return self.weights.state

    def kernel(self, name: str, size: int, c_in: int, c_out: int) -> dict[Coord, Array]:
        """W[c_in, c_out] by kernel index along the axes of the indices."""
        cube = (size, size, size)
        places = list(product(range(size), repeat=3))
        layout = self.layout(size**3)
        shape = {
            "KRSC": (c_out, *cube, c_in),
            "RSKC": (*cube, c_out, c_in),
            "RSCK": (*cube, c_in, c_out),
        }[layout]
        w = self.weights.tensor(f"{name}.weight", *shape)
        if layout == "KRSC":
            return {(a, b, c): w[:, a, b, c, :].T for a, b, c in places}
        if layout == "RSKC":
            return {(a, b, c): w[a, b, c].T for a, b, c in places}
        return {(a, b, c): w[a, b, c] for a, b, c in places}

    def subm(self, x: Cloud, name: str, c_in: int, c_out: int, size: int) -> Cloud:
        if size == 1:
            # pytorch/conv.py, conv1x1: features.mm(weight.view(in_channels, out_channels))
            cube = (1, 1, 1)
            shape = (c_out, *cube, c_in) if self.layout(1) == "KRSC" else (*cube, c_out, c_in)
            shape = (*cube, c_in, c_out) if self.layout(1) == "RSCK" else shape
            matrix = self.weights.tensor(f"{name}.weight", *shape).reshape(c_in, c_out)
            return {place: value @ matrix for place, value in x.items()}
        kernel, pad = self.kernel(name, size, c_in, c_out), size // 2
        result = {}
        for p in x:
            total = np.zeros(c_out)
            for k, w in kernel.items():
                value = x.get(moved(p, (k[0] - pad, k[1] - pad, k[2] - pad)))
                total = total if value is None else total + value @ w
            result[p] = total
        return result

    def sparse(self, x: Cloud, name: str, c_in: int, c_out: int) -> Cloud:
        kernel, result = self.kernel(name, 2, c_in, c_out), {}
        for q, value in x.items():
            p, k = (tuple(v // 2 for v in q), tuple(v % 2 for v in q))
            result[p] = result.get(p, np.zeros(c_out)) + value @ kernel[k]  # type: ignore[index]
        return result  # type: ignore[return-value]

    def inverse(self, x: Cloud, fine: Cloud, name: str, c_in: int, c_out: int) -> Cloud:
        kernel = self.kernel(name, 2, c_in, c_out)
        return {
            q: x[q[0] // 2, q[1] // 2, q[2] // 2] @ kernel[q[0] % 2, q[1] % 2, q[2] % 2]
            for q in fine
        }

    def norm(self, x: Cloud, name: str, channels: int) -> Cloud:
        return self.weights.norm(x, name, channels, self.eps)

    def block(self, x: Cloud, name: str, c_in: int, c_out: int) -> Cloud:
        out = relu(self.norm(self.subm(x, f"{name}.conv1", c_in, c_out, 3), f"{name}.bn1", c_out))
        out = self.norm(self.subm(out, f"{name}.conv2", c_out, c_out, 3), f"{name}.bn2", c_out)
        if c_in != c_out:
            x = self.norm(self.subm(x, f"{name}.proj.0", c_in, c_out, 1), f"{name}.proj.1", c_out)
        return relu({place: value + x[place] for place, value in out.items()})

    def __call__(self, x: Cloud) -> Cloud:
        base, channels, layers = self.widths[0], self.widths[1:], self.blocks
        c_in = len(next(iter(x.values())))
        x = self.norm(self.subm(x, "conv_input.0", c_in, base, self.stem), "conv_input.1", base)
        skips, width = [relu(x)], base
        for s in range(4):
            x = self.sparse(skips[-1], f"down.{s}.0", width, channels[s])
            x = relu(self.norm(x, f"down.{s}.1", channels[s]))
            width = channels[s]
            for j in range(layers[s]):
                x = self.block(x, f"enc.{s}.block{j}", width, width)
            skips.append(x)
        x = skips.pop()
        for s in reversed(range(4)):
            skip = skips.pop()
            c_in, c_out = channels[len(channels) - s - 2], channels[len(channels) - s - 1]
            x = relu(self.norm(self.inverse(x, skip, f"up.{s}.0", c_in, c_out), f"up.{s}.1", c_out))
            x = joined(x, skip)
            for j in range(layers[len(channels) - s - 1]):
                width = len(next(iter(x.values())))
                x = self.block(x, f"dec.{s}.block{j}", width, c_out)
        if self.layout(1) == "KRSC":
            self.weights.tensor("final.weight", 6, 1, 1, 1, channels[-1])
            self.weights.tensor("final.bias", 6)
        return x
