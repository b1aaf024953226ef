"""The FastDDS profile that lets camera images and clouds through.

FastDDS's default shared-memory segment is smaller than one image, so that large best-effort
messages are lost without a word. The profile gives each process a segment that holds several of
them. It has to be in the environment before the first node of a process is made.
"""

from __future__ import annotations

import logging
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from condense_ros.errors import EnvironmentProblem
from condense_ros.resources import config_file

PROFILE_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
#: newer name of the same variable, which FastDDS 3 reads
NEW_PROFILE_VARIABLE = "FASTDDS_DEFAULT_PROFILES_FILE"
_NAMESPACE = "{http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles}"

Environment = TypeVar("Environment", bound=MutableMapping[str, str])

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Profile:
    """What a FastDDS profile file says about transports.

    Attributes:
        segment_bytes: size of the shared-memory segment of each participant; 0 without one.
        udp: whether a UDPv4 transport is among the participant's transports.
        builtin: whether the built-in transports (with their small segment) stay in use.
    """

    path: Path
    segment_bytes: int
    udp: bool
    builtin: bool


def profile_path() -> Path:
    """Path of the profile that comes with the package.

    Raises:
        EnvironmentProblem: the installation lacks it.
    """
    return config_file("fastdds.xml")


def profile_environment(environment: Environment) -> Environment:
    """Adds the profile to `environment`, in place, unless the user has chosen one; returns it."""
    chosen = environment.get(PROFILE_VARIABLE) or environment.get(NEW_PROFILE_VARIABLE)
    path = str(profile_path())
    if chosen and chosen != path:
        log.info("FastDDS profile of the environment: %s", chosen)
    elif not chosen:
        environment[PROFILE_VARIABLE] = environment[NEW_PROFILE_VARIABLE] = path
        log.info("FastDDS profile: %s", path)
    return environment


def use_profile() -> None:
    """Sets the profile for this process and its children; call it before `rclpy.init()`."""
    profile_environment(os.environ)


def read_profile(path: Path) -> Profile:
    """Reads what a profile file says about transports.

    Raises:
        EnvironmentProblem: the file is missing, is no XML, or has no default participant.
    """
    fix = f"unset {PROFILE_VARIABLE}, or set it to {profile_path()}"
    try:
        tree = ElementTree.parse(path)
    except OSError as error:
        raise EnvironmentProblem(
            f"FastDDS profile {path} cannot be read: {error.strerror}", fix
        ) from None
    except ElementTree.ParseError as error:
        raise EnvironmentProblem(f"FastDDS profile {path} is no XML: {error}", fix) from None

    def text(element: ElementTree.Element | None, tag: str) -> str:
        found = None if element is None else element.find(f"{_NAMESPACE}{tag}")
        return (found.text or "").strip() if found is not None else ""

    transports = {
        text(item, "transport_id"): item for item in tree.iter(f"{_NAMESPACE}transport_descriptor")
    }
    participants = list(tree.iter(f"{_NAMESPACE}participant"))
    default = next((p for p in participants if p.get("is_default_profile") == "true"), None)
    if default is None:
        raise EnvironmentProblem(f"FastDDS profile {path} has no default participant profile", fix)
    rtps = default.find(f"{_NAMESPACE}rtps")
    names = default.findall(f".//{_NAMESPACE}userTransports/{_NAMESPACE}transport_id")
    used = [transports[name] for n in names if (name := (n.text or "").strip()) in transports]
    sizes = [text(item, "segment_size") for item in used if text(item, "type") == "SHM"]
    return Profile(
        path=Path(path),
        segment_bytes=max((int(size) for size in sizes if size.isdigit()), default=0),
        udp=any(text(item, "type") == "UDPv4" for item in used),
        builtin=text(rtps, "useBuiltinTransports") != "false",
    )
