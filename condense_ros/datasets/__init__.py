"""Readers of sensor data: every format becomes the same `Frame`."""

from condense_ros.datasets.base import Dataset
from condense_ros.datasets.boxes import Box3D
from condense_ros.datasets.clouds import read_cloud
from condense_ros.datasets.open import open_dataset

__all__ = ["Box3D", "Dataset", "open_dataset", "read_cloud"]
