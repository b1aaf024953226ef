"""How well a self-trained teacher's pixels tell classes apart: its output beside its trunk.

python benchmarks/bench_teacher.py DATA... [--steps 300] [--dim 32] [--set JSON]

Trains the first stage of recipe olivine on simulated data, then fits a linear classifier on the
features at point-pixel pairs (labels of the points) of 40 batches and judges it on 30 others. What
the pixels do not tell, no contrast can teach the points.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from condense_training.batches import BatchMaker, Quarantine
from condense_training.evaluate.linear import fit_linear
from condense_training.evaluate.metrics import Confusion
from condense_training.frames import FrameSource
from condense_training.pairs import sample_features
from condense_training.recipe import Parts
from condense_training.recipes import build_recipe
from condense_training.recipes.olivine import OlivineConfig, teacher_maps
from condense_training.trainer import TrainerConfig, train

#: pairs of a batch that are looked at
_PAIRS = 1500


@torch.no_grad()
def features(
    config: OlivineConfig, parts: Parts, maker: BatchMaker, steps: Iterable[int]
) -> tuple[Tensor, Tensor]:
    """(n, C) teacher features and (n,) classes of labelled pairs."""
    rows, classes = [], []
    for step in steps:
        batch = maker(step)
        known = (batch["pair_label"] < config.classes).nonzero()[:, 0]
        draw = torch.Generator().manual_seed(step)
        chosen = known[torch.randperm(len(known), generator=draw)[:_PAIRS]]
        height, width = batch["views"].shape[-2:]
        maps = teacher_maps(config, parts, batch["views"])
        where = batch["pair_view"][chosen], batch["pair_uv"][chosen]
        rows.append(sample_features(maps, *where, (height, width)))
        classes.append(batch["pair_label"][chosen])
    return torch.cat(rows), torch.cat(classes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--steps", type=int, default=300, help="of the teacher's training")
    parser.add_argument("--dim", type=int, default=32, help="length of its output")
    parser.add_argument("--set", type=json.loads, default={}, help="recipe settings, as JSON")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    source = FrameSource(options.data)
    settings = {"label_noise": 0.0, "pixel_steps": options.steps, "teacher_dim": options.dim}
    recipe = build_recipe("olivine", "demo", {**settings, **options.set})
    names = OlivineConfig.__dataclass_fields__
    config = OlivineConfig(**{k: v for k, v in recipe.settings.items() if k in names})
    maker = BatchMaker(source, recipe.stages[1], 1, options.seed, Quarantine(source, 0.0))

    def separability(parts: Parts, kind: str) -> dict[str, float]:
        which = replace(config, teacher_features=kind)
        rows, classes = features(which, parts, maker, range(40))
        classifier = fit_linear(rows, classes, config.classes, steps=100, l2=1e-3)
        rows, classes = features(which, parts, maker, range(100, 130))
        confusion = Confusion(config.classes)
        confusion.add(classes.numpy(), classifier(rows).argmax(1).numpy())
        miou, accuracy = confusion.miou(), confusion.accuracy()
        return {"channels": rows.shape[1], "miou": miou, "accuracy": accuracy}

    torch.manual_seed(options.seed)
    random = recipe.build().eval()
    with tempfile.TemporaryDirectory() as folder:
        alone = replace(recipe, stages=recipe.stages[:1])
        trained = train(alone, source, Path(folder), TrainerConfig(seed=options.seed)).parts
    for network, parts in (("random", random), (f"{options.steps} steps", trained)):
        for kind in ("embedding", "trunk"):
            found = separability(parts, kind)
            miou, accuracy = (100 * found[name] for name in ("miou", "accuracy"))
            print(
                f"{network}, {kind}: {found['channels']} channels, "
                f"mIoU {miou:.1f} %, accuracy {accuracy:.1f} %"
            )


if __name__ == "__main__":
    main()
