"""A robot's own cameras teach its LiDAR: capture, pretrain, perceive, relocalise."""

__version__ = "0.1.0"
