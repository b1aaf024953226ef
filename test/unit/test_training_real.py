"""Pretraining runs on recorded camera and LiDAR pairs, and on an RGB-D sequence."""

from __future__ import annotations

import json

import numpy as np
import pytest
from training_scenes import TINY

from condense_ros.models import load_checkpoint
from condense_training import PretrainConfig, pretrain
from condense_training.trainer import TrainerConfig


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("kitti_jam_camlidar", {"inputs": ("one", "height", "intensity")}),
        ("7scenes_kitchen_dev", {"voxel_size_m": 0.05, "max_range_m": 8.0, "lift_view": "centre"}),
    ],
)
def test_a_few_steps_on_real_pairs(data_dir, tmp_path, name, settings) -> None:
    run = TrainerConfig(progress=False)
    config = PretrainConfig(settings={**TINY, **settings}, frame_limit=4, trainer=run)
    checkpoint = load_checkpoint(pretrain([data_dir / name], tmp_path, config))
    assert checkpoint.metadata["supervision"] == "none: self-supervised"
    assert checkpoint.metadata["frames"] == 4
    assert checkpoint.recipe == "janda"
    assert len(checkpoint.data_hash) == 16
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(rows) == 8
    assert all(np.isfinite(row["loss"]) and not row["skipped"] for row in rows)
    # every image and cloud overlap: as many pairs as asked for
    assert all(row["terms"].get("pairs", 64) == 64 for row in rows)
