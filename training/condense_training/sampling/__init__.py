"""Draws of point-pixel pairs: uniform, or evening out distances and classes."""

from condense_training.sampling.density import radial_density
from condense_training.sampling.pairs import STRATEGIES, draw, pair_probabilities, sample_pairs

__all__ = ["STRATEGIES", "draw", "pair_probabilities", "radial_density", "sample_pairs"]
