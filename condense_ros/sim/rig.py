"""`Rig`: which sensors a simulated robot carries, and where; made from a dict or a YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from condense_ros.config import build, parameter
from condense_ros.errors import ConfigError
from condense_ros.geometry import R_OPTICAL_BODY, Array, CameraModel, check_se3, rotation_rpy, se3


@dataclass(frozen=True)
class LidarSpec:
    """A spinning LiDAR and its mounting."""

    beams: int = parameter(32, "laser beams", low=1, high=256)
    elevation_low_deg: float = parameter(-25.0, "lowest beam", low=-90, high=90)
    elevation_high_deg: float = parameter(12.0, "highest beam", low=-90, high=90)
    azimuth_steps: int = parameter(1000, "firings per turn", low=8, high=8192)
    period_s: float = parameter(0.1, "time of one turn", low=0.01, high=1.0)
    min_range_m: float = parameter(0.8, "nearer returns are dropped", low=0, high=10)
    max_range_m: float = parameter(90.0, "farther returns are dropped", low=1, high=500)
    range_noise_m: float = parameter(0.015, "standard deviation of the range", low=0, high=1)
    dropout: float = parameter(1.0, "strength of missing returns; 0 keeps every hit", low=0, high=5)
    intensity_noise: float = parameter(0.05, "relative noise of the intensity", low=0, high=1)
    xyz_m: tuple[float, ...] = parameter((0.0, 0.0, 1.73), "position in base_link")
    rpy_deg: tuple[float, ...] = parameter((0.0, 0.0, 0.0), "roll, pitch, yaw in base_link")

    @property
    def T_base_lidar(self) -> Array:
        """(4, 4) lidar frame to base_link."""
        return se3(rotation_rpy(*np.radians(self.rpy_deg)), self.xyz_m)

    def directions(self) -> Array:
        """(azimuth_steps * beams, 3) unit vectors, lidar frame, in firing order; ring 0 lowest."""
        elevation = np.radians(
            np.linspace(self.elevation_low_deg, self.elevation_high_deg, self.beams)
        )
        # a turn starts behind the robot and goes clockwise, as most spinning units do
        azimuth = np.pi - (np.arange(self.azimuth_steps) + 0.5) * (2 * np.pi / self.azimuth_steps)
        a, e = (g.ravel() for g in np.meshgrid(azimuth, elevation, indexing="ij"))
        return np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=1)


@dataclass(frozen=True)
class CameraSpec:
    """A camera and its mounting. `rpy_deg` turns a body frame (x forward); 0 looks ahead."""

    name: str = parameter("front", "unique name")
    width: int = parameter(640, "pixels", low=1, high=8192)
    height: int = parameter(480, "pixels", low=1, high=8192)
    fx: float = parameter(420.0, "focal length, pixels", low=1)
    fy: float = parameter(420.0, "focal length, pixels", low=1)
    cx: float = parameter(319.5, "principal point, pixels")
    cy: float = parameter(239.5, "principal point, pixels")
    distortion: tuple[float, ...] = parameter((), "k1 k2 p1 p2 [k3 [k4 k5 k6]] as in OpenCV")
    xyz_m: tuple[float, ...] = parameter((0.3, 0.0, 1.5), "position in base_link")
    rpy_deg: tuple[float, ...] = parameter((0.0, 0.0, 0.0), "roll, pitch, yaw in base_link")
    exposure_jitter: float = parameter(0.06, "spread of the automatic exposure", low=0, high=1)
    noise: float = parameter(0.012, "noise of a bright pixel, share of full scale", low=0, high=1)
    depth: bool = parameter(False, "also deliver depth, as an RGB-D camera does")

    @property
    def model(self) -> CameraModel:
        K = np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])
        return CameraModel(K, self.width, self.height, np.array(self.distortion))

    @property
    def T_base_cam(self) -> Array:
        """(4, 4) optical frame to base_link."""
        return se3(rotation_rpy(*np.radians(self.rpy_deg)) @ R_OPTICAL_BODY.T, self.xyz_m)


@dataclass(frozen=True)
class Rig:
    """Cameras and one LiDAR on a base whose origin lies on the ground.

    Raises (from `from_dict`, `from_yaml`):
        ConfigError: unknown names, values out of range, cameras that share a name.
        GeometryError: intrinsics or distortion that no camera has.
    """

    cameras: tuple[CameraSpec, ...] = (CameraSpec(),)
    lidar: LidarSpec = LidarSpec()

    def __post_init__(self) -> None:
        names = [camera.name for camera in self.cameras]
        if len(set(names)) != len(names):
            raise ConfigError(f"rig has cameras {names}", "give every camera its own name")
        for camera in self.cameras:
            check_se3(camera.T_base_cam, f"T_base_cam of {camera.name!r}")
            _ = camera.model
        check_se3(self.lidar.T_base_lidar, "T_base_lidar")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Rig:
        unknown = sorted(set(values) - {"cameras", "lidar"})
        if unknown:
            raise ConfigError(f"rig has no part {unknown}", "use `cameras` and `lidar`")
        defaults = cls()
        cameras, lidar = values.get("cameras"), values.get("lidar")
        return cls(
            defaults.cameras
            if cameras is None
            else tuple(_spec(CameraSpec, item) for item in cameras),
            defaults.lidar if lidar is None else _spec(LidarSpec, lidar),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and YAML; `from_dict` takes them back."""

        def plain(spec: Any) -> dict[str, Any]:
            return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(spec).items()}

        return {"cameras": [plain(c) for c in self.cameras], "lidar": plain(self.lidar)}

    @classmethod
    def from_yaml(cls, path: Path) -> Rig:
        try:
            values = yaml.safe_load(Path(path).read_text())
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"cannot read rig {path}: {error}", "give a YAML rig file") from error
        if not isinstance(values, Mapping):
            raise ConfigError(f"rig {path} is no mapping", "write `cameras:` and `lidar:`")
        return cls.from_dict(values)

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False)


def _spec(cls: Any, values: Any) -> Any:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{cls.__name__} is {values!r}", f"give {[f.name for f in fields(cls)]}")
    spec = build(cls, values)
    for name in ("xyz_m", "rpy_deg"):
        if len(getattr(spec, name)) != 3:
            raise ConfigError(
                f"{cls.__name__}.{name} = {getattr(spec, name)}", "give three numbers"
            )
    return spec
