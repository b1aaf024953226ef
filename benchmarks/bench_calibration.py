"""How well the calibration watch finds injected errors in simulated drives, and covers them.

    python benchmarks/bench_calibration.py [--runs 100] [--json F] [--cache DIR] [--share 0/1]

Each drive (a town of its own, about 7 m/s, 20 s) is rendered once at 5 Hz and kept in the cache.
For every drive two time offsets are injected: the images stay, LiDAR and odometry are taken that
much earlier, so every sweep is measured anew. The estimator gets drifting odometry
(`sim.odometry_poses`), deskewed sweeps, and a given mounting that is wrong by a random rotation
about every axis, translation along every axis, both, or neither; never the truth. Five mountings
share the corners and sweeps of one drive and offset, which do not depend on the mounting.

Finished runs are kept in the cache, so an interrupted benchmark goes on where it was; with --share
k/n only every n-th drive is run, so that n processes share the work. The seeds of these towns
are used nowhere else; the model errors of `CalibrationConfig` were set on other towns.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from condense_ros import sim
from condense_ros.calibration.config import CalibrationConfig
from condense_ros.calibration.flow import AXES
from condense_ros.calibration.keyframes import KeyFrames
from condense_ros.calibration.solve import Guess
from condense_ros.calibration.watch import conclude
from condense_ros.frame import CameraImage, Frame
from condense_ros.geometry import Array, interpolate_pose, inverse

FIRST_TOWN = 701
SECONDS, RATE_HZ, POSE_HZ = 20.0, 5.0, 100.0
START_NS = 1_000_000_000
PER_SETTING = 5
#: errors allowed: degrees or 15 % of the injected one, metres, seconds
ALLOWED = np.array([0.1] * 3 + [0.03] * 3 + [0.005])
UNIT = np.array([180 / np.pi] * 3 + [1.0] * 4)
#: at 5 Hz two images span as much way as four at 10 Hz
CONFIG = CalibrationConfig(follow_frames=2)


class Drive:
    """A rendered drive: images once, sweeps when asked for."""

    def __init__(self, town: int, cache: Path) -> None:
        self.town = town
        world, rig = sim.World(town), sim.Rig()
        self.simulator, self.camera = sim.Simulator(world, rig), rig.cameras[0].model
        self.T_base_lidar = rig.lidar.T_base_lidar
        self.T_cam_lidar = inverse(rig.cameras[0].T_base_cam) @ self.T_base_lidar
        self.poses = sim.drive(world, SECONDS + 2, POSE_HZ, seed=town, speed=7.0)
        self.times = 1.0 + np.arange(round(SECONDS * RATE_HZ)) / RATE_HZ
        what = hashlib.sha256(world.mesh.triangles.tobytes() + self.poses.tobytes())
        path = cache / f"images_{town}_{what.hexdigest()[:12]}.npz"
        if not path.is_file():
            pixels = [
                self.simulator.frame(self.at(self.poses, t), stamp(t)).images[0].pixels
                for t in self.times
            ]
            np.savez(path, pixels=np.array(pixels))
        self.pixels = np.load(path)["pixels"]

    @staticmethod
    def at(poses: Array, time_s: float) -> Array:
        k = int(time_s * POSE_HZ)
        return interpolate_pose(poses[k], poses[k + 1], time_s * POSE_HZ - k)

    def collect(self, offset_s: float, seed: int) -> KeyFrames:
        """What a watch collects when images carry stamps `offset_s` too early."""
        odometry = sim.odometry_poses(self.poses, seed)
        keys = KeyFrames(CONFIG)
        for t, pixels in zip(self.times, self.pixels, strict=True):
            seen = t - offset_s
            sweep = self.simulator.frame(self.at(self.poses, seen), stamp(seen), images=False)
            image = CameraImage("front", stamp(seen), pixels, self.camera, self.T_cam_lidar)
            pose = self.at(odometry, seen) @ self.T_base_lidar
            keys.add(Frame(stamp(seen), sweep.cloud, (image,), pose), image)
        return keys


def stamp(time_s: float) -> int:
    return START_NS + round(time_s * 1e9)


def injected(rng: np.random.Generator, kind: str) -> Array:
    """(6,) error of the mounting: about the given size in all, in a random direction."""
    error = np.zeros(6)
    if kind in ("rotation", "both"):
        error[:3] = np.radians(rng.uniform(0.1, 1.0, 3)) * rng.choice([-1, 1], 3)
    if kind in ("translation", "both"):
        error[3:] = rng.uniform(0.02, 0.1, 3) * rng.choice([-1, 1], 3)
    return error


def runs_of(town: int, setting: int, folder: Path) -> list[dict[str, Any]]:
    """The runs of one drive and one time offset; those done before are read."""
    rng = np.random.default_rng([town, setting])
    offset = float(rng.uniform(0.005, 0.1) * rng.choice([-1, 1])) if setting else 0.0
    kinds = ("rotation", "translation", "both", "both", "none" if setting else "both")
    truths = [np.append(injected(rng, kind), offset) for kind in kinds]
    files = [folder / f"run_{town}_{setting}_{k}.json" for k in range(PER_SETTING)]
    if all(file.is_file() for file in files):
        return [json.loads(file.read_text()) for file in files]
    drive = Drive(town, folder)
    start = time.process_time()
    keys = drive.collect(offset, seed=town * 10 + setting)
    collect_s = time.process_time() - start
    results = []
    for kind, truth, file in zip(kinds, truths, files, strict=True):
        # the true mounting is the given one moved by the error
        step = np.append(truth[:6], 0.0)
        E = Guess(np.eye(4)).moved(step).T_cam_lidar
        given = Guess(inverse(E) @ drive.T_cam_lidar)
        singles = [
            (cloud, CameraImage("front", i.stamp_ns, i.pixels, i.camera, given.T_cam_lidar))
            for cloud, i in keys.singles
        ]
        start = time.process_time()
        estimate = conclude("front", given, list(keys.done), keys.trajectory(), singles, CONFIG, {})
        result = {
            "town": town,
            "kind": kind,
            "truth": dict(zip(AXES, (truth * UNIT).tolist(), strict=True)),
            "estimate": estimate.to_dict(),
            "collect_s": collect_s,
            "estimate_s": time.process_time() - start,
        }
        file.write_text(json.dumps(result))
        results.append(result)
        print(line(result), flush=True)
    return results


def line(run: dict[str, Any]) -> str:
    cells = []
    for name in AXES:
        axis = run["estimate"]["axes"].get(name)
        if axis is None or axis["status"] == "unobservable":
            cells.append("   hidden")
            continue
        error = axis["value"] - run["truth"][name]
        covered = axis["low"] <= run["truth"][name] <= axis["high"]
        cells.append(f"{error:+8.4f}{' ' if covered else '!'}")
    return f"{run['town']} {run['kind']:12s} {' '.join(cells)}"


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Per axis: runs that show it, errors, how many are within what is allowed, and covered."""
    table = {}
    whole = {"within": 0, "covered": 0}
    good = {id(run): [True, True] for run in runs}
    for k, name in enumerate(AXES):
        shown = [
            run
            for run in runs
            if run["estimate"]["axes"].get(name, {"status": "unobservable"})["status"]
            != "unobservable"
        ]
        errors, within, covered, widths = [], 0, 0, []
        for run in shown:
            axis, truth = run["estimate"]["axes"][name], run["truth"][name]
            error = abs(axis["value"] - truth)
            allowed = max(ALLOWED[k], 0.15 * abs(truth)) if k < 3 else ALLOWED[k]
            inside = axis["low"] <= truth <= axis["high"]
            within, covered = within + (error <= allowed), covered + inside
            good[id(run)][0] &= bool(error <= allowed)
            good[id(run)][1] &= bool(inside)
            errors.append(error)
            widths.append((axis["high"] - axis["low"]) / 2)
        table[name] = {
            "observable": len(shown),
            "median_error": float(np.median(errors)) if errors else None,
            "p90_error": float(np.percentile(errors, 90)) if errors else None,
            "worst_error": float(np.max(errors)) if errors else None,
            "within": int(within),
            "covered": int(covered),
            "median_half_width": float(np.median(widths)) if widths else None,
        }
    whole["within"] = sum(a for a, _ in good.values())
    whole["covered"] = sum(b for _, b in good.values())
    return {"runs": len(runs), "axes": table, "all_axes": whole}


def show(result: dict[str, Any]) -> None:
    print(f"\n{result['runs']} runs")
    print("axis            shown  median     p90   worst  within  covered  half width")
    for name, row in result["axes"].items():
        if row["observable"]:
            print(
                f"{name:14s} {row['observable']:6d} {row['median_error']:7.4f} "
                f"{row['p90_error']:7.4f} {row['worst_error']:7.4f} {row['within']:7d} "
                f"{row['covered']:8d} {row['median_half_width']:11.4f}"
            )
    whole = result["all_axes"]
    print(f"all shown axes within: {whole['within']}, all covered: {whole['covered']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=100, help="in steps of ten (one drive)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("build/bench_calibration"))
    parser.add_argument("--first-town", type=int, default=FIRST_TOWN)
    parser.add_argument("--share", default="0/1", help="k/n: only part k of n of the drives")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    part, parts = (int(x) for x in options.share.split("/"))
    runs: list[dict[str, Any]] = []
    for number in range(-(-options.runs // (2 * PER_SETTING))):
        if number % parts != part:
            continue
        for setting in (0, 1):
            runs += runs_of(options.first_town + number, setting, options.cache)
    result = summary(runs)
    result["process_s"] = {
        "collect": float(np.mean([run["collect_s"] for run in runs])),
        "estimate": float(np.mean([run["estimate_s"] for run in runs])),
    }
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result | {"each": runs}, indent=1))


if __name__ == "__main__":
    main()
