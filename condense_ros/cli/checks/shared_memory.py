"""The FastDDS profile against the shared memory there is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from condense_ros.cli.checks.finding import Finding
from condense_ros.errors import EnvironmentProblem
from condense_ros.transport import (
    NEW_PROFILE_VARIABLE,
    PROFILE_VARIABLE,
    Profile,
    profile_path,
    read_profile,
)

MIB = 1024**2
#: one image of 1280 x 960 RGB; a segment has to hold several messages at once
IMAGE_BYTES = 1280 * 960 * 3
#: replay, capture, perception and a viewer
USUAL_NODES = 4


def profile() -> tuple[Finding, Profile | None]:
    """The profile in force, and whether large messages get through with it."""
    chosen = os.environ.get(PROFILE_VARIABLE) or os.environ.get(NEW_PROFILE_VARIABLE)
    subject = "FastDDS profile"
    try:
        found = read_profile(Path(chosen) if chosen else profile_path())
    except EnvironmentProblem as error:
        return Finding(subject, "error", error.problem, error.fix), None
    size = f"{found.segment_bytes / MIB:g} MiB of shared memory per node"
    mine = f"export {PROFILE_VARIABLE}={profile_path()}"
    if found.builtin or found.segment_bytes < 4 * IMAGE_BYTES:
        what = "built-in transports in use" if found.builtin else size
        return (
            Finding(subject, "warning", f"{found.path}: {what}; large messages are lost", mine),
            found,
        )
    if not found.udp:
        return (
            Finding(
                subject, "warning", f"{found.path}: no UDPv4, other machines are cut off", mine
            ),
            found,
        )
    if not chosen:
        return (
            Finding(
                subject,
                "note",
                f"{size}, set by `condense` and our launch files; other programs lack it",
                f"for ros2 and rviz2 type: {mine}",
            ),
            found,
        )
    return Finding(subject, "ok", f"{size} ({found.path})"), found


def shared_memory(segment_bytes: int, folder: Path = Path("/dev/shm")) -> Finding:
    """Size of /dev/shm against the segments of the usual nodes."""
    subject = str(folder)
    if not folder.is_dir():
        return Finding(
            subject,
            "error",
            "missing: FastDDS has no shared memory",
            "mount it: sudo mount -t tmpfs -o size=1g tmpfs /dev/shm",
        )
    usage = shutil.disk_usage(folder)
    needed = USUAL_NODES * segment_bytes
    found = f"{usage.free / MIB:.0f} of {usage.total / MIB:.0f} MiB free"
    if usage.total < needed:
        return Finding(
            subject,
            "error",
            f"{found}; {USUAL_NODES} nodes take {needed / MIB:.0f} MiB",
            "docker run --shm-size=1g, or sudo mount -o remount,size=1g /dev/shm",
        )
    if usage.free < needed:
        return Finding(
            subject,
            "warning",
            f"{found}; {USUAL_NODES} nodes take {needed / MIB:.0f} MiB",
            "end old nodes, then remove what they left: rm /dev/shm/fastrtps_*",
        )
    return Finding(subject, "ok", found)
