"""The soak through its command, short: the nodes bear the faults and the verdict is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_fault_74_a_soak_under_faults(tmp_path: Path) -> None:
    """Four minutes; `condense soak` alone runs the forty that the figures are about."""
    pytest.importorskip("rclpy", reason="needs ROS")
    command = [
        *(sys.executable, "-m", "condense_ros.cli", "soak", "--out", str(tmp_path / "soak")),
        *("--minutes", "4", "--warm-up", "1.5", "--domain", "78"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "soak/soak.json").read_text())
    assert all(check["passed"] for check in report["checks"])
    assert len(report["sent"]["episodes"]) >= 20
    matched = [count["matched"] for count in report["account"]["topics"].values()]
    assert min(matched) > 200
