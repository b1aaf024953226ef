"""A `SimulationConfig` from plain values: files, command lines, ROS parameters."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from condense_ros.config import build
from condense_ros.errors import ConfigError
from condense_ros.resources import config_file
from condense_ros.sim.driving.motion import DriveConfig
from condense_ros.sim.driving.odometry import ImuConfig, OdometryConfig
from condense_ros.sim.folders.faults import build_faults
from condense_ros.sim.folders.plan import SimulationConfig
from condense_ros.sim.sensors.rig import Rig

#: module and class of the layout of each kind of world
LAYOUTS = {
    "town": ("condense_ros.sim.town.world", "WorldConfig"),
    "building": ("condense_ros.sim.indoors.building", "BuildingConfig"),
    "terrain": ("condense_ros.sim.open_country.terrain", "TerrainConfig"),
}
_SECTIONS = {"drive": DriveConfig, "odometry": OdometryConfig, "imu": ImuConfig}


def simulation_config(values: Mapping[str, Any]) -> SimulationConfig:
    """The configuration from values by name; a dot leads into a section.

    `drive.reverse`, `odometry.scale_error`, `faults.drop.lidar` (or `faults.drop` for all sensors),
    `layout.columns`; `rig`: the name of a rig that comes along, a YAML file, or a mapping; and what
    differs from it: `rig.lidar.motion_distortion`, `rig.cameras.front.rolling_shutter_s`,
    `rig.cameras.*.noise`.

    Raises:
        ConfigError: unknown names, wrong types, values out of range, no such rig.
    """
    changes = {k: v for k, v in values.items() if k.startswith("rig.")}
    nested = _nested({k: v for k, v in values.items() if k not in changes})
    for name, cls in _SECTIONS.items():
        nested[name] = build(cls, _section(nested, name))
    nested["faults"] = build_faults(_section(nested, "faults"))
    layout = _section(nested, "layout")
    kind = nested.get("kind", SimulationConfig.kind)
    nested["layout"] = build(layout_class(str(kind)), layout) if layout else None
    nested["rig"] = _changed(find_rig(nested.get("rig")), _nested(changes).get("rig", {}))
    return build(SimulationConfig, nested)


def layout_class(kind: str) -> type:
    """The parameters of a kind of world.

    Raises:
        ConfigError: no such kind.
    """
    if kind not in LAYOUTS:
        raise ConfigError(f"there is no world {kind!r}", f"use one of {', '.join(LAYOUTS)}")
    module, name = LAYOUTS[kind]
    found: type = getattr(import_module(module), name)
    return found


def find_rig(rig: Any) -> Rig:
    """A rig by name (`condense sim rigs` lists them), YAML file or mapping; None: the default.

    Raises:
        ConfigError: no such rig, or one that cannot be.
    """
    if rig is None or rig == "":
        return Rig()
    if isinstance(rig, Rig):
        return rig
    if isinstance(rig, Mapping):
        return Rig.from_dict(rig)
    path = Path(str(rig))
    if path.suffix in (".yaml", ".yml"):
        return Rig.from_yaml(path)
    return Rig.named(str(rig))


def _changed(rig: Rig, changes: Mapping[str, Any]) -> Rig:
    """The rig with other values of its LiDAR and of cameras by name (`*`: all)."""
    if not changes:
        return rig
    values = rig.to_dict()
    values["lidar"].update(_section(changes, "lidar"))
    cameras = _section(changes, "cameras")
    names = {"*", *(camera["name"] for camera in values["cameras"])}
    unknown = sorted({*(set(changes) - {"lidar", "cameras"}), *(set(cameras) - names)})
    if unknown:
        raise ConfigError(
            f"the rig has no {', '.join(unknown)}",
            f"use rig.lidar.NAME or rig.cameras.CAMERA.NAME with {', '.join(sorted(names))}",
        )
    for camera in values["cameras"]:
        camera.update({**_section(cameras, "*"), **_section(cameras, camera["name"])})
    return Rig.from_dict(values)


def shipped_rigs() -> dict[str, Path]:
    """Name -> file of the rigs that come along."""
    folder = config_file("rigs/town_default.yaml").parent
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = values.get(name) or {}
    if not isinstance(section, Mapping):
        raise ConfigError(f"{name} = {section!r} is no section", f"set {name}.NAME, one by one")
    return section


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in values.items():
        here, parts = out, name.split(".")
        for part in parts[:-1]:
            inner = here.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{name!r} leads into {part!r}, which is a value", "set one only")
            here = inner
        # a section given whole and in parts: parts are added
        if isinstance(value, Mapping) and isinstance(here.get(parts[-1]), dict):
            here[parts[-1]].update(value)
        else:
            here[parts[-1]] = dict(value) if isinstance(value, Mapping) else value
    return out
