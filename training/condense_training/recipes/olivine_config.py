"""Parameters of OLIVINE; `olivine_presets` holds named sets of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from condense_ros.config import parameter
from condense_ros.errors import ConfigError
from condense_ros.models import InputSpec, other_presets, preset
from condense_ros.sparse.grid import COORDINATES
from condense_training.heads import HEADS
from condense_training.losses.feature_regression import KINDS
from condense_training.losses.inputs import NEGATIVES
from condense_training.networks.teachers import EXAMPLES, TEACHERS
from condense_training.sampling import STRATEGIES

log = logging.getLogger(__name__)

SELF_TRAINED = "self_trained"


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
    superpixel_weight: float = parameter(
        0.0, "weight of the contrast between superpixels (SLidR)", low=0.0
    )
    superpixel_segments: int = parameter(150, "superpixels per image, about", low=1, high=65535)
    superpixel_compactness: float = parameter(
        6.0, "weight of distance against colour in superpixels", low=0.01
    )
    superpixel_blur_px: float = parameter(
        3.0, "images are blurred by this before they are cut into superpixels, pixels", low=0.0
    )
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
    coordinates: str = parameter(
        "cylindrical",
        "voxels: cylindrical (voxel_size_m in rho and z, whole degrees in phi) or cartesian",
    )
    voxel_sizes: tuple[float, ...] = parameter(
        (), "voxel edges per axis where they differ; voxel_size_m is then the first", low=1e-3
    )
    voxel_feature: str = parameter(
        "first", "feature of a voxel: mean of its points, or the first point's"
    )
    max_range_m: float = parameter(72.4, "points farther away are left out, metres", low=1.0)
    inputs: tuple[str, ...] = parameter(("intensity",), "input features of the backbone")
    intensity_scale: float = parameter(255.0, "intensity of the brightest return", low=1e-6)
    view_margin_deg: float = parameter(
        180.0,
        "bearings outside all images by more than this are cut off the cloud; 180 keeps all",
        low=0.0,
        high=180.0,
    )
    bn_momentum: float = parameter(
        0.05,
        "momentum of the backbone's batch norms; 0: the network's own",
        low=0.0,
        high=1.0,
    )
    steps: int = parameter(87900, "steps, about 50 epochs of nuScenes", low=1)
    batch: int = parameter(16, "frames per step", low=1)
    optimiser: str = parameter("sgd", "sgd or adamw")
    lr: float = parameter(0.5, "learning rate", low=0.0)
    weight_decay: float = parameter(1e-4, "weight decay, also of the teacher's stage", low=0.0)
    schedule: str = parameter("cosine_annealing", "exponential, cosine or cosine_annealing")

    # the teacher: published weights, or made by stage 1 of Janda et al. on the same images
    teacher: str = parameter(
        "self_trained", "self_trained, or of published weights: resnet50, dinov2 or dinov3"
    )
    teacher_weights: str = parameter(
        "", "weights of a teacher that is not self_trained: file, folder, or id of the hub"
    )
    teacher_sha256: str = parameter("", "of these weights, checked where given")
    teacher_revision: str = parameter("main", "branch, tag or commit of the hub")
    teacher_dilated: bool = parameter(
        True, "resnet50 with dilation, stride 4; False: as it is, stride 32 (PPKT)"
    )
    teacher_features: str = parameter(
        "trunk",
        "of a self-trained teacher: trunk (its encoder's maps of all levels) or embedding (its "
        "output)",
    )
    teacher_dim: int = parameter(64, "length of a self-trained teacher's features", low=2)
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
    "teacher_features": ("trunk", "embedding"),
    "regression_kind": KINDS,
    "coordinates": COORDINATES,
    "voxel_feature": ("mean", "first"),
    "teacher": (SELF_TRAINED, *TEACHERS),
    "negatives": NEGATIVES,
}


def input_spec(config: OlivineConfig) -> InputSpec:
    """What the backbone sees. A network of a box has that and its limits from its preset.

    Raises:
        ConfigError: no such backbone, or one of a box with cylindrical voxels.
    """
    if config.backbone in other_presets and config.coordinates != "cartesian":
        raise ConfigError(
            f"backbone {config.backbone} takes Cartesian voxels, not {config.coordinates} ones",
            "set coordinates=cartesian",
        )
    own = preset(config.backbone).input
    given = InputSpec(
        voxel_size_m=config.voxel_size_m,
        max_range_m=config.max_range_m,
        features=config.inputs,
        intensity_scale=config.intensity_scale,
        coordinates=config.coordinates,
        voxel_sizes=config.voxel_sizes,
        reduce=config.voxel_feature,
        max_points_per_voxel=own.max_points_per_voxel,
        max_voxels=own.max_voxels,
    )
    return preset(config.backbone, given).input


def _check_teacher(config: OlivineConfig) -> None:
    named = config.teacher_weights or config.teacher_sha256
    if config.teacher == SELF_TRAINED and named:
        raise ConfigError(
            "teacher_weights or teacher_sha256 are set, but a self-trained teacher reads none",
            f"name the teacher they are of ({', '.join(TEACHERS)}), or begin stage 1 with "
            "image_weights",
        )
    if config.teacher != SELF_TRAINED and not config.teacher_weights:
        raise ConfigError(
            f"teacher={config.teacher} without teacher_weights",
            f"set teacher_weights to a file or folder, or to an id of the hub, such as "
            f"{EXAMPLES[config.teacher]}",
        )


def check(config: OlivineConfig) -> None:
    """Refuses values that do not fit together.

    Raises:
        ConfigError: an unknown choice, class losses without labels, nothing to learn, a teacher
            without weights, sizes that are no multiple of 32.
    """
    for name, allowed in _CHOICES.items():
        if getattr(config, name) not in allowed:
            raise ConfigError(
                f"OlivineConfig.{name} is {getattr(config, name)!r}", f"use {', '.join(allowed)}"
            )
    _check_teacher(config)
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
    of_pairs = config.point_weight + config.regression_weight + config.superpixel_weight
    if of_classes + of_pairs == 0:
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
