"""Runs one node in the process of a verb."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

from condense_ros.cli._processes import ros_arguments
from condense_ros.errors import EnvironmentProblem
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
