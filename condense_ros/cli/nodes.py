"""Runs one node in the process of a verb."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from condense_ros.cli._processes import ros_arguments
from condense_ros.cli.options import parameter_values
from condense_ros.config import describe
from condense_ros.errors import ConfigError, EnvironmentProblem
from condense_ros.transport import use_profile


def require_ros() -> None:
    """Raises EnvironmentProblem where there is no ROS, or the message packages are not built."""
    for package, fix in (
        ("rclpy", "run `make env`, or source a ROS installation"),
        ("condense_msgs", "run `make env`, or `colcon build` and source install/setup.bash"),
    ):
        if importlib.util.find_spec(package) is None:
            raise EnvironmentProblem(f"{package} is not installed", fix)


def node_main(node: str) -> Callable[[list[str]], Any]:
    """The `main` of a node, with the transport that it needs in the environment."""
    require_ros()
    use_profile()
    return importlib.import_module(f"condense_ros.nodes.{node}").main


def run_node(node: str, parameters: dict[str, Any]) -> None:
    """Runs a node until it ends by itself or Ctrl-C ends it."""
    node_main(node)(ros_arguments(parameters))


#: node -> (module, dataclass, prefix) of its parameters
NODE_PARAMETERS = {
    "capture_node": (
        ("condense_ros.nodes.capture_node", "CaptureNodeConfig", ""),
        ("condense_ros.capture", "CaptureConfig", ""),
        ("condense_ros.sync", "SyncConfig", "sync."),
        ("condense_ros.bags", "RecordConfig", "record."),
        ("condense_ros.capture", "TriggerConfig", "trigger."),
        ("condense_ros.capture", "RingConfig", "ring."),
        ("condense_ros.nodes.calibration_observer", "CalibrationWatchConfig", "calibration."),
    ),
    "replay_node": (
        ("condense_ros.playback", "PlaybackConfig", ""),
        ("condense_ros.playback", "LiveConfig", "simulate."),
    ),
}


def check_names(node: str, names: Iterable[str]) -> None:
    """ROS ignores a parameter that a node does not have; here a slip of the pen is refused.

    Raises:
        ConfigError: a name that the node does not have.
    """
    known = {"use_sim_time"}
    for module, name, prefix in NODE_PARAMETERS[node]:
        cls = getattr(importlib.import_module(module), name)
        known |= {prefix + entry[0] for entry in describe(cls)}
    for name in names:
        if name not in known and not name.startswith("qos_overrides."):
            raise ConfigError(
                f"{node} has no parameter {name!r}", f"use one of: {', '.join(sorted(known))}"
            )


def node_parameters(file: Path | None, settings: Sequence[str] | None) -> dict[str, Any]:
    """Parameters of a node by dotted name; a ROS parameter file is taken as well as a plain one.

    Raises:
        ConfigError: the file or a setting cannot be read.
    """
    values: dict[str, Any] = {}

    def add(prefix: str, content: Mapping[str, Any]) -> None:
        for name, value in content.items():
            if isinstance(value, Mapping):
                # `NODE: ros__parameters: ...` around the parameters is left out
                inner = "" if name == "ros__parameters" or "ros__parameters" in value else name
                add(f"{prefix}{inner}." if inner else prefix, value)
            else:
                values[prefix + name] = value

    add("", parameter_values(file, None))
    return {**values, **parameter_values(None, settings)}
