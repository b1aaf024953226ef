"""Injected errors found in simulated drives: a short one by default, the benchmark when asked."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from condense_ros.calibration.flow import AXES
from condense_ros.calibration.solve import Guess
from condense_ros.calibration.watch import conclude
from condense_ros.geometry import inverse

TOWN = 641  # none of the benchmark's


def benchmark() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "bench_calibration.py"
    spec = importlib.util.spec_from_file_location("bench_calibration", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_short_drive_shows_rotation_and_translation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = benchmark()
    monkeypatch.setattr(bench, "SECONDS", 9.0)
    drive = bench.Drive(TOWN, tmp_path)
    keys = drive.collect(0.0, seed=5)
    assert keys.aligned >= len(keys.poses) - 2
    truth = np.array([*np.radians([0.7, -0.5, 0.6]), 0.05, -0.08, 0.06, 0.0])
    given = Guess(inverse(Guess(np.eye(4)).moved(truth).T_cam_lidar) @ drive.T_cam_lidar)
    estimate = conclude("front", given, list(keys.done), keys.trajectory(), [], bench.CONFIG)
    for k, name in enumerate(AXES[:6]):
        axis = estimate.axes[name]
        if axis.status != "unobservable":
            error = axis.value - truth[k] * bench.UNIT[k]
            # nine seconds are little: the benchmark's drives of twenty tell twice as well
            assert abs(error) < (0.3 if k < 3 else 0.08), (name, axis)
    assert estimate.axes["rotation_x"].status == "off"
    assert estimate.axes["rotation_y"].status == "off"
    assert estimate.verdict == "off"


@pytest.mark.slow
def test_a_hundred_runs(tmp_path: Path) -> None:
    bench = benchmark()
    runs = []
    for town in range(bench.FIRST_TOWN, bench.FIRST_TOWN + 10):
        for setting in (0, 1):
            runs += bench.runs_of(town, setting, tmp_path)
    result = bench.summary(runs)
    bench.show(result)
    rows = result["axes"]
    assert rows["time_offset"]["within"] >= 0.9 * rows["time_offset"]["observable"]
    for name, row in rows.items():
        assert row["covered"] >= 0.75 * row["observable"], name
    # the goals that docs/benchmarks/calibration.md says are missed
    missed = [
        f"{name}: {row['within']} within and {row['covered']} covered of {row['observable']}"
        for name, row in rows.items()
        if min(row["within"], row["covered"]) < 0.9 * row["observable"]
    ]
    if missed:
        pytest.xfail("; ".join(missed))
