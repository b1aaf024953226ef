"""The FastDDS profile that lets camera images and clouds through.

FastDDS's default shared-memory segment is smaller than one image, so that large best-effort
messages are lost without a word. The profile gives each process a segment that holds several of
them. It has to be in the environment before the first node of a process is made.
"""

from __future__ import annotations

import logging
import os
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from condense_ros.errors import EnvironmentProblem
from condense_ros.resources import config_file

PROFILE_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
#: newer name of the same variable, which FastDDS 3 reads
NEW_PROFILE_VARIABLE = "FASTDDS_DEFAULT_PROFILES_FILE"
MIB = 1024**2
#: one image of 1280 x 960 RGB; a segment has to hold several messages at once
IMAGE_BYTES = 1280 * 960 * 3
#: replay, capture, perception and a viewer
USUAL_NODES = 4
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


@dataclass(frozen=True)
class TransportProblem:
    """Why large messages may get lost.

    Attributes:
        fatal: it is so already; otherwise it may come to that.
        problem, fix: in plain words.
    """

    fatal: bool
    problem: str
    fix: str


def profile_in_force(environment: Mapping[str, str]) -> Profile:
    """The profile that a process with this environment uses, or will once `use_profile` ran.

    Raises:
        EnvironmentProblem: it is missing or no FastDDS profile.
    """
    chosen = environment.get(PROFILE_VARIABLE) or environment.get(NEW_PROFILE_VARIABLE)
    return read_profile(Path(chosen) if chosen else profile_path())


def profile_problem(profile: Profile) -> TransportProblem | None:
    """Whether large messages get through with a profile."""
    mine = f"export {PROFILE_VARIABLE}={profile_path()}"
    if profile.builtin or profile.segment_bytes < 4 * IMAGE_BYTES:
        size = f"{profile.segment_bytes / MIB:g} MiB of shared memory per node"
        what = "built-in transports in use" if profile.builtin else size
        return TransportProblem(True, f"{profile.path}: {what}; large messages are lost", mine)
    if not profile.udp:
        return TransportProblem(
            False, f"{profile.path}: no UDPv4, other machines are cut off", mine
        )
    return None


def shared_memory_problem(
    segment_bytes: int, folder: Path = Path("/dev/shm")
) -> TransportProblem | None:
    """Whether shared memory has room for the segments of the usual nodes."""
    if not folder.is_dir():
        return TransportProblem(
            True,
            f"{folder} is missing: FastDDS has no shared memory",
            f"mount it: sudo mount -t tmpfs -o size=1g tmpfs {folder}",
        )
    usage = shutil.disk_usage(folder)
    needed = USUAL_NODES * segment_bytes
    found = (
        f"{folder} has {usage.free / MIB:.0f} of {usage.total / MIB:.0f} MiB free; {USUAL_NODES} "
        f"nodes take {needed / MIB:.0f} MiB"
    )
    if usage.total < needed:
        fix = f"docker run --shm-size=1g, or sudo mount -o remount,size=1g {folder}"
        return TransportProblem(True, found, fix)
    if usage.free < needed:
        fix = f"end old nodes, then remove what they left: rm {folder}/fastrtps_*"
        return TransportProblem(False, found, fix)
    return None


def transport_problem(environment: Mapping[str, str]) -> TransportProblem | None:
    """The most basic problem of profile and shared memory together; None where all is well."""
    try:
        profile = profile_in_force(environment)
    except EnvironmentProblem as error:
        return TransportProblem(True, error.problem, error.fix)
    return profile_problem(profile) or shared_memory_problem(profile.segment_bytes)
