"""ROS distribution, rclpy, the message packages, and the environment they start in."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
from pathlib import Path

from condense_ros.cli.checks.finding import Finding

#: rclpy's minor versions name the distribution when no ROS installation does
DISTRIBUTIONS = {"3.3": "humble", "7.1": "jazzy", "9.1": "kilted"}
BUILD = "run `make env`; with a ROS installation: `colcon build` and source install/setup.bash"


def _import(module: str) -> str:
    """Empty, or why `module` does not import."""
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken shared library raises more than ImportError
        return f"{type(error).__name__}: {error}"
    return ""


def distribution() -> Finding:
    """Where ROS comes from: a sourced installation, or the wheels."""
    sourced = os.environ.get("ROS_DISTRO", "")
    try:
        wheel = importlib.metadata.version("ros-rclpy")
    except importlib.metadata.PackageNotFoundError:
        wheel = ""
    if sourced and wheel:
        return Finding(
            "ROS distribution",
            "warning",
            f"{sourced} is sourced and rclpy {wheel} is installed with pip: they mix",
            "use a shell without the sourced installation, or another Python environment",
        )
    if sourced:
        return Finding("ROS distribution", "ok", f"{sourced}, sourced")
    if wheel:
        name = DISTRIBUTIONS.get(".".join(wheel.split(".")[:2]), "unknown")
        return Finding("ROS distribution", "ok", f"{name}, rclpy {wheel} from PyPI")
    return Finding(
        "ROS distribution",
        "error",
        "none: neither a sourced installation nor the wheels",
        "run `make env`, or source /opt/ros/DISTRO/setup.bash",
    )


def imports() -> list[Finding]:
    """rclpy and the message packages of the nodes."""
    found = []
    problem = _import("rclpy")
    if problem:
        return [Finding("rclpy", "error", problem, "run `make env`, or source a ROS installation")]
    found.append(Finding("rclpy", "ok", "imports"))
    for package in ("condense_msgs", "tf2_msgs"):
        problem = _import(f"{package}.msg")
        if problem:
            found.append(Finding(package, "error", problem, BUILD))
        else:
            found.append(Finding(package, "ok", "imports"))
    return found


def environment() -> list[Finding]:
    """Variables that stop rclpy from starting, or nodes from meeting."""
    found = []
    if not os.environ.get("HOME"):
        found.append(
            Finding(
                "HOME",
                "error",
                "not set: rclpy.init() fails",
                "export HOME, or ROS_LOG_DIR for the logs",
            )
        )
    if os.environ.get("_ROS_WHEELS_BOOTSTRAP_COMPLETE") and not os.environ.get("LD_LIBRARY_PATH"):
        found.append(
            Finding(
                "library path",
                "error",
                "_ROS_WHEELS_BOOTSTRAP_COMPLETE is inherited without LD_LIBRARY_PATH",
                "unset _ROS_WHEELS_BOOTSTRAP_COMPLETE before starting Python",
            )
        )
    middleware = os.environ.get("RMW_IMPLEMENTATION", "")
    if middleware and middleware != "rmw_fastrtps_cpp":
        found.append(
            Finding(
                "middleware",
                "note",
                f"RMW_IMPLEMENTATION={middleware}: the FastDDS profile does not apply to it",
                "check that it passes messages of several MB",
            )
        )
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    if not domain.isdigit() or int(domain) > 101:
        found.append(
            Finding(
                "ROS domain",
                "error",
                f"ROS_DOMAIN_ID={domain}",
                "set ROS_DOMAIN_ID to a number from 0 to 101",
            )
        )
    else:
        reach = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
        found.append(Finding("ROS domain", "ok", f"{domain}, discovery range {reach}"))
    logs = Path(os.environ.get("ROS_LOG_DIR") or Path(os.environ.get("HOME", "/"), ".ros/log"))
    existing = next(p for p in (logs, *logs.parents) if p.exists())
    if not os.access(existing, os.W_OK):
        found.append(
            Finding(
                "ROS logs",
                "error",
                f"{logs} cannot be written: rclpy.init() fails",
                "export ROS_LOG_DIR to a writable folder",
            )
        )
    return found
