"""`Rig`: which sensors a simulated robot carries, and where; made from a dict or a YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from condense_ros.config import build, parameter
from condense_ros.errors import ConfigError
from condense_ros.geometry import R_OPTICAL_BODY, Array, CameraModel, check_se3, rotation_rpy, se3
from condense_ros.resources import config_file
from condense_ros.sim.sensors.beams import MODELS, PATTERNS, Shots, raster, rosette, spinning


@dataclass(frozen=True)
class LidarSpec:
    """A LiDAR and its mounting.

    Raises:
        ConfigError: a pattern, model or table of beams that no LiDAR has.
    """

    model: str = parameter("", "a known unit, whose values are the defaults of the others")
    pattern: str = parameter("spinning", "spinning, rosette, raster, or depth_camera")
    beams: int = parameter(32, "laser beams; rows of a raster", low=1, high=256)
    elevation_low_deg: float = parameter(-25.0, "lowest beam", low=-90, high=90)
    elevation_high_deg: float = parameter(12.0, "highest beam", low=-90, high=90)
    elevations_deg: tuple[float, ...] = parameter(
        (), "every beam, lowest first; empty: even steps", low=-90, high=90
    )
    azimuth_offsets_deg: tuple[float, ...] = parameter(
        (), "how far to the left beams look, in turn; empty: all the same way", low=-90, high=90
    )
    azimuth_steps: int = parameter(1000, "firings per turn or row", low=8, high=8192)
    points: int = parameter(10000, "points per sweep of a rosette", low=8, high=1_000_000)
    field_deg: tuple[float, ...] = parameter(
        (70.4, 70.4), "width and height a rosette or raster covers", low=1, high=179
    )
    camera: str = parameter("", "the camera whose depth image is the cloud (depth_camera)")
    pixel_stride: int = parameter(2, "every n-th pixel of it, both ways", low=1, high=64)
    period_s: float = parameter(0.1, "time of one turn or sweep", low=0.01, high=1.0)
    min_range_m: float = parameter(0.8, "nearer returns are dropped", low=0, high=10)
    max_range_m: float = parameter(90.0, "farther returns are dropped", low=1, high=500)
    range_noise_m: float = parameter(0.015, "standard deviation of the range", low=0, high=1)
    range_noise_share: float = parameter(
        0.0, "what is added to it per metre of range", low=0, high=0.1
    )
    dropout: float = parameter(1.0, "strength of missing returns; 0 keeps every hit", low=0, high=5)
    intensity_noise: float = parameter(0.05, "relative noise of the intensity", low=0, high=1)
    motion_distortion: bool = parameter(
        False, "points as measured under way, not as if all at the stamp"
    )
    xyz_m: tuple[float, ...] = parameter((0.0, 0.0, 1.73), "position in base_link")
    rpy_deg: tuple[float, ...] = parameter((0.0, 0.0, 0.0), "roll, pitch, yaw in base_link")
    body: tuple[float, ...] = parameter(
        (),
        "box in base_link that hides what lies behind it: the robot's own roof; "
        "x y z of one corner and of the other",
    )

    def __post_init__(self) -> None:
        if len(self.body) not in (0, 6):
            raise ConfigError(
                f"the body has {len(self.body)} numbers", "give x y z of two corners, or none"
            )
        if self.model not in ("", *MODELS):
            raise ConfigError(
                f"no LiDAR {self.model!r} is known", f"use one of {', '.join(MODELS)}, or none"
            )
        if self.pattern not in PATTERNS:
            raise ConfigError(f"LidarSpec.pattern = {self.pattern!r}", f"use one of {PATTERNS}")
        if len(self.field_deg) != 2:
            raise ConfigError(f"LidarSpec.field_deg = {self.field_deg}", "give width and height")
        table = self.elevations_deg
        if table and (len(table) != self.beams or list(table) != sorted(table)):
            raise ConfigError(
                f"LidarSpec.elevations_deg has {len(table)} values for {self.beams} beams",
                "give one elevation per beam, lowest first",
            )

    @property
    def T_base_lidar(self) -> Array:
        """(4, 4) lidar frame to base_link."""
        return se3(rotation_rpy(*np.radians(self.rpy_deg)), self.xyz_m)

    def shots(self, stamp_ns: int = 0) -> Shots:
        """The pulses of the sweep that starts at a stamp; only a rosette's depend on it."""
        if self.pattern == "rosette":
            return rosette(self.field_deg, self.beams, self.points, self.period_s, stamp_ns)
        if self.pattern == "raster":
            return raster(self.field_deg, self.beams, self.azimuth_steps, self.period_s)
        even = np.linspace(self.elevation_low_deg, self.elevation_high_deg, self.beams)
        return spinning(
            self.elevations_deg or tuple(even.tolist()),
            self.azimuth_offsets_deg,
            self.azimuth_steps,
            self.period_s,
        )

    def directions(self) -> Array:
        """(N, 3) unit vectors, lidar frame, in firing order; ring 0 lowest."""
        return self.shots().direction


@dataclass(frozen=True)
class CameraSpec:
    """A camera and its mounting. `rpy_deg` turns a body frame (x forward); 0 looks ahead.

    The row r of H is exposed at stamp + delay_s + (r + 0.5) / H * rolling_shutter_s.
    """

    name: str = parameter("front", "unique name")
    width: int = parameter(640, "pixels", low=1, high=8192)
    height: int = parameter(480, "pixels", low=1, high=8192)
    fx: float = parameter(420.0, "focal length, pixels", low=1)
    fy: float = parameter(420.0, "focal length, pixels", low=1)
    cx: float = parameter(319.5, "principal point, pixels")
    cy: float = parameter(239.5, "principal point, pixels")
    lens: str = parameter("pinhole", "pinhole or fisheye (equidistant)")
    distortion: tuple[float, ...] = parameter(
        (), "k1 k2 p1 p2 [k3 [k4 k5 k6]] as in OpenCV; fisheye: k1 k2 k3 k4"
    )
    xyz_m: tuple[float, ...] = parameter((0.3, 0.0, 1.5), "position in base_link")
    rpy_deg: tuple[float, ...] = parameter((0.0, 0.0, 0.0), "roll, pitch, yaw in base_link")
    delay_s: float = parameter(
        0.0, "exposure of the first row after the sweep's stamp", low=-1, high=1
    )
    rolling_shutter_s: float = parameter(
        0.0, "from the first row to the last; 0 exposes all at once", low=0, high=0.5
    )
    blur_s: float = parameter(0.0, "length of the exposure, for motion blur", low=0, high=0.5)
    blur_samples: int = parameter(4, "pictures averaged where blur_s is not 0", low=2, high=64)
    exposure_jitter: float = parameter(0.06, "spread of the automatic exposure", low=0, high=1)
    vignetting: float = parameter(
        0.0, "darkening of the corners; 1: by the fourth power of the cosine", low=0, high=2
    )
    noise: float = parameter(0.012, "noise of a bright pixel, share of full scale", low=0, high=1)
    infrared: bool = parameter(False, "grey, as the camera of a depth sensor sees")
    depth: bool = parameter(False, "also deliver depth, as an RGB-D camera does")
    depth_noise: float = parameter(0.0, "1: noise of a first Kinect; 0: exact", low=0, high=10)
    depth_holes: float = parameter(0.0, "strength of missing depth; 0 keeps all", low=0, high=5)
    depth_min_m: float = parameter(0.0, "nearer depth is missing", low=0, high=10)
    depth_max_m: float = parameter(1000.0, "farther depth is missing", low=0.1, high=1000)

    @property
    def model(self) -> CameraModel:
        K = np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])
        return CameraModel(K, self.width, self.height, np.array(self.distortion), self.lens)

    @property
    def T_base_cam(self) -> Array:
        """(4, 4) optical frame to base_link."""
        return se3(rotation_rpy(*np.radians(self.rpy_deg)) @ R_OPTICAL_BODY.T, self.xyz_m)

    def row_times_s(self) -> Array:
        """(H,) seconds after the stamp at which rows are exposed; (1,) where all are at once."""
        if self.rolling_shutter_s == 0:
            return np.array([self.delay_s])
        rows = (np.arange(self.height) + 0.5) / self.height
        return self.delay_s + rows * self.rolling_shutter_s


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
        if self.lidar.pattern == "depth_camera":
            self._see_through_camera()

    def _see_through_camera(self) -> None:
        """A depth camera's cloud lies in the body frame of that camera."""
        name = self.lidar.camera
        found = [c for c in self.cameras if c.name == name and c.depth and c.lens == "pinhole"]
        if not found:
            raise ConfigError(
                f"the cloud is to come from camera {name!r}, which gives no depth",
                "set lidar.camera to a pinhole camera with depth: true",
            )
        lidar = replace(self.lidar, xyz_m=found[0].xyz_m, rpy_deg=found[0].rpy_deg)
        object.__setattr__(self, "lidar", lidar)

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

    @classmethod
    def named(cls, name: str) -> Rig:
        """A shipped rig: a file of config/rigs without its ending.

        Raises:
            ConfigError: no such rig; the message lists those there are.
        """
        folder = config_file("rigs/town_default.yaml").parent
        known = sorted(path.stem for path in folder.glob("*.yaml"))
        if name not in known:
            raise ConfigError(f"no rig {name!r} is shipped", f"use one of {', '.join(known)}")
        return cls.from_yaml(folder / f"{name}.yaml")

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False)


def _spec(cls: Any, values: Any) -> Any:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{cls.__name__} is {values!r}", f"give {[f.name for f in fields(cls)]}")
    if cls is LidarSpec and values.get("model") in MODELS:
        # the unit's values stand where none are given; its table makes its number of beams
        values = {**MODELS[values["model"]], **values}
        table = values.get("elevations_deg")
        if table:
            values.setdefault("beams", len(table))
    spec = build(cls, values)
    for name in ("xyz_m", "rpy_deg"):
        if len(getattr(spec, name)) != 3:
            raise ConfigError(
                f"{cls.__name__}.{name} = {getattr(spec, name)}", "give three numbers"
            )
    return spec
