"""Losses, one per file."""

from condense_training.losses.info_nce import info_nce

__all__ = ["info_nce"]
