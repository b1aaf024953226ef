"""Losses, one per file."""

from condense_training.losses.class_contrast import class_contrast
from condense_training.losses.feature_regression import feature_regression
from condense_training.losses.info_nce import info_nce
from condense_training.losses.lovasz import lovasz_softmax
from condense_training.losses.superpixel_contrast import superpixel_contrast
from condense_training.losses.vmf_nll import prototype_distance, vmf_nll
from condense_training.losses.vmf_normaliser import (
    concentration,
    log_vmf_normaliser,
    mean_resultant,
)
from condense_training.losses.vmf_statistics import ClassDistributions, VmfStatistics

__all__ = [
    "ClassDistributions",
    "VmfStatistics",
    "class_contrast",
    "concentration",
    "feature_regression",
    "info_nce",
    "log_vmf_normaliser",
    "lovasz_softmax",
    "mean_resultant",
    "prototype_distance",
    "superpixel_contrast",
    "vmf_nll",
]
