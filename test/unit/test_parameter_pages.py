"""The reference page says what the code does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_parameter_page_is_up_to_date():
    pytest.importorskip("rclpy", reason="the page covers the nodes, which need ROS")
    pytest.importorskip("condense_msgs", reason="the interface workspace is not built: `make env`")
    command = [sys.executable, str(ROOT / "tools/write_parameter_pages.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
