"""Learning is real: pretraining without labels makes classes easier to separate.

Three towns: one to pretrain in, one whose labels fit the probe, one to be judged in. Everything is
rendered here, so the figures do not depend on stored files.
"""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import cast

import pytest
import torch

from condense_ros.models import Backbone, load_checkpoint
from condense_ros.sim.folders.writer import SimulationConfig, generate
from condense_training import PretrainConfig, ProbeConfig, pretrain
from condense_training.evaluate.probe import open_prober
from condense_training.recipes import build_recipe
from condense_training.trainer import TrainerConfig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def _town(folder: Path, seed: int, frames: int, images: bool) -> Path:
    rate = 2.0 if images else 1.0
    config = SimulationConfig(
        world_seed=seed, drive_seed=seed, duration_s=frames / rate, rate_hz=rate, images=images
    )
    return generate(folder, config)


@pytest.fixture(scope="module")
def towns(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    root = tmp_path_factory.mktemp("towns")
    return (
        _town(root / "pretrain", 1, 100, True),
        _town(root / "fit", 11, 30, False),
        _town(root / "judge", 12, 30, False),
    )


def test_pretraining_beats_random_initialisation(towns, tmp_path: Path) -> None:
    """Paired over three pretraining seeds, each against the network it started as."""
    drive, fit, judge = towns
    rows = []
    for seed in (0, 1, 2):
        trainer = TrainerConfig(seed=seed, progress=False)
        path = pretrain([drive], tmp_path / str(seed), PretrainConfig(trainer=trainer))
        prober = open_prober([fit], [judge], ProbeConfig(seeds=(seed,)))
        backbone = load_checkpoint(path).build_backbone()
        pretrained = prober.pretrained(backbone, str(seed))
        torch.manual_seed(seed)
        start = cast(Backbone, build_recipe("janda", "demo").build()["backbone"])
        random = prober.pretrained(start, "random")
        rows.append((100 * random.miou[0], 100 * pretrained.miou[0]))
        print(json.dumps({"seed": seed, "random": rows[-1][0], "pretrained": rows[-1][1]}))
    differences = [pretrained - random for random, pretrained in rows]
    mean = statistics.fmean(differences)
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    print(f"difference {mean:.2f} mIoU, standard error {error:.2f}")
    assert min(differences) > 0
    assert mean >= 3.0
    assert mean > 2 * error


def test_shuffled_targets_teach_less(towns, tmp_path: Path, monkeypatch) -> None:
    """The control: the same steps with pixels paired to the wrong points do not give that gain."""
    from condense_training.recipes import janda

    drive, fit, judge = towns
    prober = open_prober([fit], [judge], ProbeConfig(seeds=(0,)))
    scores = {}
    original = janda.sample_features
    generator = torch.Generator().manual_seed(0)

    def shuffled(*args: torch.Tensor) -> torch.Tensor:
        features = original(*args)
        return features[torch.randperm(len(features), generator=generator)]

    for name in ("true", "shuffled"):
        if name == "shuffled":
            monkeypatch.setattr(janda, "sample_features", shuffled)
        config = PretrainConfig(preset="quick", trainer=TrainerConfig(progress=False))
        path = pretrain([drive], tmp_path / name, config)
        backbone = load_checkpoint(path).build_backbone()
        scores[name] = 100 * prober.pretrained(backbone, name).miou[0]
    print(json.dumps(scores))
    assert scores["true"] > scores["shuffled"] + 1.0
