"""Named sets of OLIVINE's parameters: baselines, trunks and every row of its ablation tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from condense_training.recipes.olivine_config import OlivineConfig

#: contrast between single pairs alone; the released loss is the mean of the contrasts in use, so
#: one alone weighs 1
_PAIRS_ONLY: dict[str, Any] = {
    "labels": "none",
    "class_weight": 0.0,
    "consistency_weight": 0.0,
    "sampling": "uniform",
    "point_weight": 1.0,
}

#: the parameters of the published VoxelNet and WaffleIron
_BOX: dict[str, Any] = {"coordinates": "cartesian", "max_range_m": 75.0, "bn_momentum": 0.0}
#: other trunks than the sparse U-Net: the released VoxelNet, and the WaffleIron of table 7
TRUNKS: dict[str, dict[str, Any]] = {
    "voxelnet": {
        **_BOX,
        "backbone": "voxelnet",
        "voxel_sizes": (0.1, 0.1, 0.2),
        "voxel_feature": "mean",
        "inputs": ("x", "y", "z", "intensity"),
        "lr": 0.01,
        "superpixel_segments": 30,
    },
    "table7_waffleiron": {
        **_BOX,
        "backbone": "waffleiron-48-384",
        "inputs": ("intensity", "x", "y", "z", "range"),
    },
}
_DEMO_TRUNKS: dict[str, dict[str, Any]] = {
    "voxelnet": {
        "backbone": "voxelnet",
        "voxel_size_m": 0.4,
        "voxel_sizes": (0.4, 0.4, 0.25),
        "bn_momentum": 0.0,
    },
    "waffleiron": {
        "backbone": "waffleiron-demo",
        "voxel_size_m": 0.3,
        "voxel_feature": "first",
        "inputs": ("height", "range"),
    },
}

#: what each row of tables 5 and 6 changes of the full method, and baselines
ABLATIONS: dict[str, dict[str, Any]] = {
    "table5_1": _PAIRS_ONLY,
    "table5_2": {"consistency_weight": 0.0, "sampling": "uniform"},
    "table5_3": {"class_weight": 0.0, "sampling": "uniform", "point_weight": 1.0},
    "table5_4": {"sampling": "uniform"},
    "table5_5": {"consistency_weight": 0.0},
    "table5_6": {},
    "table6_labels_none": _PAIRS_ONLY,
    "table6_labels_weak": {},
    "table6_labels_truth": {"labels": "truth", "label_noise": 0.0},
    "table6_heads_shared": {"heads": "shared"},
    "table6_heads_decoupled": {},
    "table6_class_deterministic": {"class_model": "deterministic"},
    "table6_class_vmf": {},
    "table6_sampling_random": {"sampling": "uniform"},
    "table6_sampling_density": {"sampling": "density"},
    "table6_sampling_category": {"sampling": "category"},
    "table6_sampling_both": {},
    "ppkt": _PAIRS_ONLY,
    "slidr": {**_PAIRS_ONLY, "point_weight": 0.0, "superpixel_weight": 1.0},
    "scalr": {**_PAIRS_ONLY, "point_weight": 0.0, "regression_weight": 1.0, "head": "mlp"},
}

#: minutes on two CPU cores; labels of simulated points, a tenth of them wrong, stand in for those
#: of a label model
_DEMO = OlivineConfig(
    labels="truth",
    label_noise=0.1,
    pairs=512,
    feature_dim=32,
    vmf_collection_steps=60,
    view_width_px=160,
    view_height_px=96,
    view_min_pairs=128,
    superpixel_segments=60,
    superpixel_blur_px=1.0,
    backbone="demo",
    voxel_size_m=0.2,
    coordinates="cartesian",
    voxel_feature="mean",
    bn_momentum=0.1,
    max_range_m=40.0,
    inputs=("one", "height"),
    intensity_scale=1.0,
    view_margin_deg=15.0,
    steps=200,
    batch=2,
    optimiser="adamw",
    lr=4e-3,
    schedule="cosine",
    teacher_dim=16,
    image_network="small",
    pixel_steps=150,
    pixel_batch=4,
    pixel_matches=512,
    pixel_crop_px=96,
    pixel_optimiser="adamw",
    pixel_lr=2e-3,
    pixel_schedule="cosine",
)

PRESETS: dict[str, OlivineConfig] = {
    "paper": OlivineConfig(),
    "demo": _DEMO,
    "quick": replace(_DEMO, steps=60, pixel_steps=60, vmf_collection_steps=20),
    **{name: replace(OlivineConfig(), **changes) for name, changes in (ABLATIONS | TRUNKS).items()},
    **{
        f"demo_{name}": replace(_DEMO, **changes)
        for name, changes in (ABLATIONS | _DEMO_TRUNKS).items()
    },
}
