"""Readers of sensor data: every format becomes the same `Frame`."""

from condense_ros.datasets.base import Dataset
from condense_ros.datasets.boxes import Box3D
from condense_ros.datasets.clouds import read_cloud
from condense_ros.datasets.open import open_dataset
from condense_ros.datasets.options import DataOptions
from condense_ros.datasets.subsets import every_kth

__all__ = ["Box3D", "DataOptions", "Dataset", "every_kth", "open_dataset", "read_cloud"]
