"""Measurements behind `condense bench`, one file per subject; `benchmarks/` runs the same code."""
