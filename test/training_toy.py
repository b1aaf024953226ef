"""A recipe with every kind of part and loss that matters to several processes, in float64.

Sparse and dense batch norms, a head with a norm of rows, contrasts over randomly drawn pairs, class
statistics, a weight that only some samples use and one that none does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from condense_ros.errors import DatasetError
from condense_ros.frame import Frame, PointCloud
from condense_ros.sparse import BatchNorm, ReLU, SparseTensor, SubmanifoldConv3d
from condense_training.heads import projection_head
from condense_training.losses import VmfStatistics, class_contrast, info_nce, vmf_nll
from condense_training.recipe import Batch, Parts, Recipe, Sample, Stage

CLASSES, DIM = 3, 4


class Numbered:
    """Frames whose cloud holds their number; some are damaged."""

    def __init__(self, *lengths: int, damaged: tuple[int, ...] = ()) -> None:
        self.lengths, self.damaged = list(lengths), damaged
        self.read: list[int] = []

    def __len__(self) -> int:
        return sum(self.lengths)

    def __getitem__(self, number: int) -> Frame:
        self.read.append(number)
        if number in self.damaged:
            raise DatasetError(f"cloud {number} is truncated", "restore it")
        return Frame(0, PointCloud(np.full((1, 3), number, np.float32)), index=number)

    def describe(self, number: int) -> str:
        return f"frame {number}"

    def manifest_hash(self) -> str:
        return str(self.lengths)


def sample(frame: Frame, rng: np.random.Generator) -> Sample:
    """A cloud of voxels, an image, and pairs between them, of sizes that differ."""
    n = int(rng.integers(8, 20))
    places = np.stack(np.unravel_index(rng.permutation(64)[:n], (4, 4, 4)), 1)
    return {
        "coords": places.astype(np.int32),
        "features": rng.normal(frame.index, 1, (n, 2)),
        "image": rng.normal(size=(3, 4, 4)),
        "pixel": rng.integers(0, 16, n),
        "label": rng.integers(0, CLASSES, n),
        "odd": np.array(frame.index % 2),
    }


def collate(samples: Sequence[Sample]) -> Batch:
    """Rows of all clouds, batch number first."""
    which = np.concatenate([np.full(len(s["coords"]), i) for i, s in enumerate(samples)])
    joined = {
        name: np.concatenate([one[name] for one in samples])
        for name in ("coords", "features", "pixel", "label")
    }
    coords = np.column_stack([which, joined["coords"]]).astype(np.int32)
    arrays = {
        **joined,
        "coords": coords,
        "cloud": which,
        "image": np.stack([one["image"] for one in samples]),
        "odd": np.stack([one["odd"] for one in samples]),
    }
    return {name: torch.from_numpy(value) for name, value in arrays.items()}


def build() -> Parts:
    parts = {
        "net": nn.Sequential(
            SubmanifoldConv3d(2, 6), BatchNorm(6), ReLU(), SubmanifoldConv3d(6, 6), BatchNorm(6)
        ),
        "image": nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU()),
        "head": projection_head("mlp", 6, DIM),
        "pixels": nn.Linear(5, DIM),
        "sometimes": nn.Linear(1, 1),
        "never": nn.Linear(1, 1),
        "statistics": VmfStatistics(
            CLASSES, DIM, decay=0.9, collection_steps=2, min_updates=1, dtype=torch.float64
        ),
    }
    return nn.ModuleDict(parts).double()


def drawn_rows(parts: Parts, batch: Batch, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features of points and pixels of these pairs, and of all points."""
    cloud = SparseTensor(batch["features"], batch["coords"], batch_size=len(batch["image"]))
    points = parts["net"](cloud).features
    maps = parts["image"](batch["image"]).flatten(2).transpose(1, 2)
    pixels = parts["pixels"](maps[batch["cloud"][rows], batch["pixel"][rows]])
    return parts["head"](points[rows]), pixels, nn.functional.normalize(points[:, :DIM])


def draw(batch: Batch) -> Tensor:
    """Half of the pairs, drawn with torch's generator."""
    return torch.randperm(len(batch["label"]))[: len(batch["label"]) // 2]


def extra(parts: Parts, batch: Batch) -> Tensor:
    """What only odd frames teach."""
    odd = batch["odd"].double()
    return (parts["sometimes"](odd[:, None])[:, 0] * odd)[odd > 0].sum() / len(odd)


def loss(negatives: str, parts: Parts, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    rows = draw(batch)
    labels = batch["label"][rows]
    points, pixels, every = drawn_rows(parts, batch, rows)
    total = info_nce(points, pixels, temperature=0.3, negatives=negatives)
    total = total + class_contrast(points, pixels, labels, temperature=0.3, negatives=negatives)
    statistics: Any = parts["statistics"]
    active = not statistics.collecting
    if statistics.training:
        statistics.update(every, batch["label"])
    if active:
        total = total + vmf_nll(every, batch["label"], statistics.distributions()) / 10
    if bool(batch["odd"].any()):
        total = total + extra(parts, batch)
    return total, {"rows": float(len(rows))}


def recipe(
    negatives: str = "per_rank", steps: int = 5, batch_size: int = 4, wrap: Callable | None = None
) -> Recipe:
    def plain(parts: Parts, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        return loss(negatives, parts, batch)

    stage = Stage(
        name="toy",
        steps=steps,
        batch_size=batch_size,
        trainable=tuple(build()),
        frozen=(),
        sample=sample,
        collate=collate,
        loss=plain if wrap is None else wrap(plain),
        optimiser=lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
        schedule=lambda step: 1.0 - 0.1 * step,
    )
    return Recipe("toy", {"negatives": negatives, "steps": steps}, build, (stage,), "net")
