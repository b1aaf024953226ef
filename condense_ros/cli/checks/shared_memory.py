"""The FastDDS profile against the shared memory there is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from condense_ros.cli.checks.finding import Finding
from condense_ros.errors import EnvironmentProblem
from condense_ros.transport import (
    MIB,
    NEW_PROFILE_VARIABLE,
    PROFILE_VARIABLE,
    Profile,
    profile_in_force,
    profile_path,
    profile_problem,
    shared_memory_problem,
)


def profile() -> tuple[Finding, Profile | None]:
    """The profile in force, and whether large messages get through with it."""
    subject = "FastDDS profile"
    try:
        found = profile_in_force(os.environ)
    except EnvironmentProblem as error:
        return Finding(subject, "error", error.problem, error.fix), None
    wrong = profile_problem(found)
    if wrong is not None:
        return Finding(subject, "warning", wrong.problem, wrong.fix), found
    size = f"{found.segment_bytes / MIB:g} MiB of shared memory per node"
    if not (os.environ.get(PROFILE_VARIABLE) or os.environ.get(NEW_PROFILE_VARIABLE)):
        return (
            Finding(
                subject,
                "note",
                f"{size}, set by `condense` and our launch files; other programs lack it",
                f"for ros2 and rviz2 type: export {PROFILE_VARIABLE}={profile_path()}",
            ),
            found,
        )
    return Finding(subject, "ok", f"{size} ({found.path})"), found


def shared_memory(segment_bytes: int, folder: Path = Path("/dev/shm")) -> Finding:
    """Size of /dev/shm against the segments of the usual nodes."""
    subject = str(folder)
    wrong = shared_memory_problem(segment_bytes, folder)
    if wrong is not None:
        return Finding(subject, "error" if wrong.fatal else "warning", wrong.problem, wrong.fix)
    usage = shutil.disk_usage(folder)
    return Finding(subject, "ok", f"{usage.free / MIB:.0f} of {usage.total / MIB:.0f} MiB free")
