"""Parameters of OLIVINE, its baselines and every row of its ablation tables."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

from condense_ros.config import parameter
from condense_ros.errors import ConfigError
from condense_training.heads import HEADS
from condense_training.losses.feature_regression import KINDS
from condense_training.losses.inputs import NEGATIVES
from condense_training.sampling import STRATEGIES

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OlivineConfig:
    """The defaults are those of the paper and, where it is silent, of its released code."""

    # what is learned
    labels: str = parameter(
        "folder", "classes of pairs: none, folder (label images) or truth (labels of points)"
    )
    label_folder: str = parameter("", "folder of `condense label`, or of CAMERA/000000.png")
    label_noise: float = parameter(
        0.0, "labels=truth: share of patches that get a wrong class", low=0.0, high=1.0
    )
    classes: int = parameter(16, "number of classes of the labels", low=1, high=254)
    ignore_background: bool = parameter(
        True, "pairs without a class take no part in the class losses; False: they are a class"
    )
    point_weight: float = parameter(0.5, "weight of InfoNCE between pairs", low=0.0)
    class_weight: float = parameter(0.5, "weight of the contrast between classes", low=0.0)
    consistency_weight: float = parameter(
        1.0, "weight of the pull to a class's distribution, after the collection phase", low=0.0
    )
    regression_weight: float = parameter(
        0.0, "weight of regression to the teacher's features (ScaLR)", low=0.0
    )
    regression_kind: str = parameter("l2", "distance of that regression: l2, cosine or mse")
    temperature: float = parameter(0.07, "temperature of both contrasts", low=0.001)
    pairs: int = parameter(4096, "pairs drawn for each contrast", low=1)
    negatives: str = parameter(
        "per_rank", "several processes: negatives of each (per_rank) or of all (gathered)"
    )
    mean_of_positives: bool = parameter(
        True, "class contrast is of the mean over positives; False: of their sum (released code)"
    )
    sampling: str = parameter(
        "density_category",
        "pairs of the class losses: uniform, density, category or density_category",
    )
    sampling_resolution_m: float = parameter(0.1, "step of distances in the density", low=1e-3)

    # heads and classes
    feature_dim: int = parameter(64, "length of point and class features", low=2)
    heads: str = parameter(
        "decoupled", "decoupled (one space for pairs, one for classes) or shared"
    )
    head: str = parameter("linear", "heads on points: linear or mlp")
    class_model: str = parameter("vmf", "a class is a distribution (vmf) or a deterministic point")
    class_reduction: str = parameter("class", "the pull is a mean over classes or over points")
    vmf_decay: float = parameter(0.9999, "decay of a class's mean feature", low=0.0, high=1.0)
    vmf_collection_steps: int = parameter(10000, "steps before the pull begins", low=0)
    vmf_update_after_collection: bool = parameter(False, "go on averaging during the pull")
    vmf_bias_correction: bool = parameter(True, "averages are unbiased from the first step on")
    vmf_min_updates: int = parameter(2, "batches with a class before it pulls", low=1)
    vmf_kappa_max: float = parameter(100.0, "largest concentration", low=0.0)
    vmf_newton_steps: int = parameter(0, "Newton steps on the estimate of concentration", low=0)

    # pairs and views
    depth_test: bool = parameter(False, "leave out points hidden from the camera")
    min_depth_m: float = parameter(1.0, "nearer points are left out", low=0.0)
    view_width_px: int = parameter(416, "width of the views, a multiple of 32", low=32)
    view_height_px: int = parameter(224, "height of the views, a multiple of 32", low=32)
    view_min_area: float = parameter(0.3, "smallest crop, share of the image", low=0.01, high=1.0)
    view_aspects: tuple[float, float] = parameter(
        (14 / 9, 17 / 9), "smallest and largest width / height of a crop", low=0.1, high=10.0
    )
    view_flip_probability: float = parameter(0.5, "of mirroring a view", low=0.0, high=1.0)
    cuboid: float = parameter(
        0.2,
        "largest side of the box of points that is dropped, share of the cloud",
        low=0.0,
        high=1,
    )
    view_min_pairs: int = parameter(1024, "pairs that a view keeps if it had them", low=0)
    view_min_share: float = parameter(0.75, "or share of them", low=0.0, high=1.0)

    # the student
    backbone: str = parameter("unet34c", "name of the backbone preset")
    voxel_size_m: float = parameter(0.1, "voxel edge, metres", low=0.005)
    max_range_m: float = parameter(72.4, "points farther away are left out, metres", low=1.0)
    inputs: tuple[str, ...] = parameter(("intensity",), "input features of the backbone")
    intensity_scale: float = parameter(255.0, "intensity of the brightest return", low=1e-6)
    view_margin_deg: float = parameter(
        180.0,
        "bearings outside all images by more than this are cut off the cloud; 180 keeps all",
        low=0.0,
        high=180.0,
    )
    steps: int = parameter(87900, "steps, about 50 epochs of nuScenes", low=1)
    batch: int = parameter(16, "frames per step", low=1)
    optimiser: str = parameter("sgd", "sgd or adamw")
    lr: float = parameter(0.5, "learning rate", low=0.0)
    weight_decay: float = parameter(1e-4, "weight decay, also of the teacher's stage", low=0.0)
    schedule: str = parameter("cosine_annealing", "exponential, cosine or cosine_annealing")

    # the teacher, made by stage 1 of Janda et al. on the same images
    teacher: str = parameter("self_trained", "self_trained")
    teacher_dim: int = parameter(64, "length of its pixel features", low=2)
    image_network: str = parameter("resnet34", "resnet34, resnet18 or small")
    image_weights: str = parameter("", "file of encoder weights to begin with")
    encoder_frozen_steps: int = parameter(50, "steps before these weights learn", low=0)
    pixel_temperature: float = parameter(0.4, "InfoNCE temperature of the teacher", low=0.01)
    pixel_steps: int = parameter(20000, "steps of the teacher", low=1)
    pixel_batch: int = parameter(64, "image pairs per step", low=1)
    pixel_matches: int = parameter(4092, "pixels per image pair", low=1)
    pixel_crop_px: int = parameter(224, "edge of the crops, a multiple of 32", low=32)
    pixel_min_area: float = parameter(0.2, "smallest crop, share of the image", low=0.01, high=1)
    pixel_optimiser: str = parameter("sgd", "sgd or adamw")
    pixel_lr: float = parameter(0.01, "learning rate of the teacher", low=0.0)
    pixel_schedule: str = parameter("exponential", "exponential, cosine or cosine_annealing")

    @property
    def uses_labels(self) -> bool:
        return self.labels != "none"


_CHOICES = {
    "labels": ("none", "folder", "truth"),
    "heads": ("decoupled", "shared"),
    "head": HEADS,
    "class_model": ("vmf", "deterministic"),
    "class_reduction": ("class", "point"),
    "sampling": STRATEGIES,
    "regression_kind": KINDS,
    "negatives": NEGATIVES,
    "teacher": ("self_trained",),
}


def check(config: OlivineConfig) -> None:
    """Refuses values that do not fit together.

    Raises:
        ConfigError: an unknown choice, class losses without labels, nothing to learn, sizes that
            are no multiple of 32.
    """
    for name, allowed in _CHOICES.items():
        if getattr(config, name) not in allowed:
            raise ConfigError(
                f"OlivineConfig.{name} is {getattr(config, name)!r}", f"use {', '.join(allowed)}"
            )
    if config.labels == "folder" and not config.label_folder:
        raise ConfigError(
            "labels=folder, but no label_folder is named",
            "set label_folder, or labels=truth for labelled data, or labels=none without classes",
        )
    if config.label_folder and config.labels != "folder":
        raise ConfigError(
            f"a label_folder is named, but labels={config.labels} does not read it",
            "set labels=folder, or leave label_folder out",
        )
    of_classes = config.class_weight + config.consistency_weight
    if not config.uses_labels and (of_classes or config.sampling != "uniform"):
        raise ConfigError(
            "labels=none leaves nothing for class losses and sampling by class",
            "set class_weight=0, consistency_weight=0 and sampling=uniform as well "
            "(preset table6_labels_none)",
        )
    if of_classes + config.point_weight + config.regression_weight == 0:
        raise ConfigError("every loss has weight 0", "give one a weight")
    frozen = not config.vmf_update_after_collection
    if (
        config.consistency_weight
        and frozen
        and config.vmf_collection_steps < config.vmf_min_updates
    ):
        raise ConfigError(
            f"no class is ever known: distributions are frozen after vmf_collection_steps = "
            f"{config.vmf_collection_steps}, and a class needs vmf_min_updates = "
            f"{config.vmf_min_updates}",
            "collect for longer, or set vmf_update_after_collection",
        )
    if config.consistency_weight and config.steps <= config.vmf_collection_steps:
        log.warning(
            "the pull to class distributions never begins: steps = %d, vmf_collection_steps = %d",
            config.steps,
            config.vmf_collection_steps,
        )
    if config.view_aspects[0] > config.view_aspects[1]:
        raise ConfigError(
            f"OlivineConfig.view_aspects is {config.view_aspects}", "give the smaller one first"
        )
    for name in ("view_width_px", "view_height_px", "pixel_crop_px"):
        if getattr(config, name) % 32:
            raise ConfigError(
                f"OlivineConfig.{name} is {getattr(config, name)}", "give a multiple of 32"
            )


#: contrast between single pairs alone; the released loss is the mean of the contrasts in use, so
#: one alone weighs 1
_PAIRS_ONLY: dict[str, Any] = {
    "labels": "none",
    "class_weight": 0.0,
    "consistency_weight": 0.0,
    "sampling": "uniform",
    "point_weight": 1.0,
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
    backbone="demo",
    voxel_size_m=0.2,
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
    **{name: replace(OlivineConfig(), **changes) for name, changes in ABLATIONS.items()},
    **{f"demo_{name}": replace(_DEMO, **changes) for name, changes in ABLATIONS.items()},
}
