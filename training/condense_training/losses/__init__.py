"""Losses, one per file."""

from condense_training.losses.info_nce import info_nce
from condense_training.losses.lovasz import lovasz_softmax

__all__ = ["info_nce", "lovasz_softmax"]
