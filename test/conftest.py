"""Shared fixtures: where the real sensor data lies, and a ROS domain of one's own per test."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("MPLBACKEND", "Agg")
# without a GPU, Triton kernels run in its interpreter; it has to be said before Triton is imported
if not any(Path(device).exists() for device in ("/dev/nvidia0", "/dev/nvmap", "/dev/dxg")):
    os.environ.setdefault("TRITON_INTERPRET", "1")


def _data_root() -> Path | None:
    named = os.environ.get("CONDENSE_TEST_DATA")
    places = [Path(named)] if named else [Path(__file__).parents[2] / "shared" / "data"]
    return next((place for place in places if place.is_dir()), None)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real sensor data; tests that need it skip where it is absent."""
    root = _data_root()
    if root is None:
        pytest.skip("no real data: set CONDENSE_TEST_DATA to the folder that holds it")
    return root


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
