"""The clocks that stamps come from."""

from __future__ import annotations

import shutil
import subprocess
import time
from datetime import datetime, timezone

from condense_ros.cli.checks.finding import Finding
from condense_ros.resources import config_file

SYNCHRONISE = "sudo timedatectl set-ntp true, or start chrony"


def system_clock(now_s: float | None = None) -> Finding:
    """Whether the time of day can be right: files of this software cannot be from the future."""
    now_s = time.time() if now_s is None else now_s
    stamp = datetime.fromtimestamp(now_s, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    installed_s = config_file("fastdds.xml").stat().st_mtime
    if now_s < installed_s - 60:
        behind = (installed_s - now_s) / 86400
        return Finding(
            "system clock",
            "error",
            f"{stamp}, {behind:.1f} days before this software was installed",
            f"set the clock: {SYNCHRONISE}",
        )
    return Finding("system clock", "ok", stamp)


def steadiness(seconds: float = 0.2) -> Finding:
    """Whether the time of day runs as fast as the steady clock: stamps jump where it is stepped."""
    wall, steady = time.time(), time.monotonic()
    time.sleep(seconds)
    drift = (time.time() - wall) - (time.monotonic() - steady)
    if abs(drift) > 0.01:
        return Finding(
            "clock steps",
            "warning",
            f"the system clock moved by {drift * 1e3:+.0f} ms within {seconds} s",
            "let one program alone set the clock (chrony slews, ntpdate steps)",
        )
    return Finding("clock steps", "ok", f"none within {seconds:g} s")


def synchronisation() -> Finding:
    """Whether the clock follows a time server; sensors on other machines need that."""
    if shutil.which("timedatectl"):
        asked = subprocess.run(
            ["timedatectl", "show", "--property=NTPSynchronized", "--value"],
            capture_output=True,
            text=True,
            timeout=5,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if asked.stdout.strip() == "yes":
            return Finding("time server", "ok", "synchronised")
        if asked.stdout.strip() == "no":
            return Finding(
                "time server",
                "warning",
                "not synchronised: stamps of sensors on other machines will not match",
                SYNCHRONISE,
            )
    return Finding(
        "time server",
        "note",
        "unknown here (no timedatectl)",
        "matters only where sensors are stamped on another machine",
    )
