"""Simulated sweeps beside real ones: what a network sees of them, in numbers and pictures.

    python benchmarks/bench_realism.py [--data DIR] [--seeds 1 2] [--frames 8] [--json F] [--out D]

DIR holds real data (default CONDENSE_TEST_DATA): kitti_jam_camlidar and kitti_object3 (HDL-64) and
nuscenes_frame (a 32-beam unit on a car's roof). They are compared with towns seen by the rigs
`kitti_like` and `nuscenes_like`: range, incidence, intensity, points per ring, and how many of the
26 voxels around an occupied one are occupied too, at 10 cm. Incidence is estimated in the same way
from all sweeps: the angle between the ray and the normal of the ten nearest points.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from condense_ros import sim
from condense_ros.datasets import open_dataset
from condense_ros.draw.style import PALETTE, add_axes, new_figure, save
from condense_ros.frame import PointCloud
from condense_ros.resources import config_file

VOXEL_M = 0.1
#: returns from the vehicle itself, which simulated robots do not have
NEAR_M = 2.0


def voxel_neighbours(xyz: npt.NDArray[np.floating], voxel_m: float = VOXEL_M) -> float:
    """Mean number of occupied voxels among the 26 around each occupied voxel."""
    cells = np.unique(np.floor(xyz / voxel_m).astype(np.int64), axis=0) + 2**19
    keys = np.sort(cells[:, 0] << 40 | cells[:, 1] << 20 | cells[:, 2])
    count = 0
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            for dz in (-1, 0, 1):
                if (dx, dy, dz) != (0, 0, 0):
                    wanted = keys + ((dx << 40) + (dy << 20) + dz)
                    row = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
                    count += int((keys[row] == wanted).sum())
    return count / len(keys)


def incidence_deg(xyz: npt.NDArray[np.floating], rng: np.random.Generator) -> np.ndarray:
    """(n,) angle between ray and surface normal, 0..90, at up to 4000 random points."""
    picked = xyz[rng.choice(len(xyz), min(4000, len(xyz)), replace=False)].astype(np.float64)
    _, rows = cKDTree(xyz).query(picked, k=10)
    around = xyz[rows].astype(np.float64)
    around -= around.mean(axis=1, keepdims=True)
    _, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", around, around))
    ray = picked / np.linalg.norm(picked, axis=1, keepdims=True)
    cosine = np.abs(np.einsum("ni,ni->n", axes[:, :, 0], ray))
    return np.degrees(np.arccos(np.clip(cosine, 0, 1)))


def rings(cloud: PointCloud, beams: int) -> npt.NDArray[np.integer]:
    """Ring of each point: the sensor's own, or counted where the azimuth starts anew (KITTI)."""
    if cloud.ring is not None:
        return cloud.ring
    azimuth = np.mod(np.arctan2(cloud.xyz[:, 1], cloud.xyz[:, 0]), 2 * np.pi)
    anew = np.diff(azimuth, prepend=azimuth[0]) < -np.pi
    return np.minimum(np.cumsum(anew), beams - 1)


@dataclass
class Sweeps:
    """Sweeps of one sensor, near returns removed."""

    clouds: list[PointCloud]
    beams: int
    intensity_scale: float

    def figures(self) -> dict[str, Any]:
        rng = np.random.default_rng(0)
        near = [voxel_neighbours(c.xyz) for c in self.clouds]
        distance = np.concatenate([np.linalg.norm(c.xyz, axis=1) for c in self.clouds])
        intensity = np.concatenate(
            [c.intensity / self.intensity_scale for c in self.clouds if c.intensity is not None]
        )
        per_ring = np.mean(
            [np.bincount(rings(c, self.beams), minlength=self.beams) for c in self.clouds], axis=0
        )
        return {
            "sweeps": len(self.clouds),
            "points": float(np.mean([len(c) for c in self.clouds])),
            "voxel_neighbours": float(np.mean(near)),
            "voxel_neighbours_range": [float(min(near)), float(max(near))],
            "range_m": distance,
            "incidence_deg": np.concatenate([incidence_deg(c.xyz, rng) for c in self.clouds]),
            "intensity": np.clip(intensity, 0, 1),
            "points_per_ring": per_ring,
        }


def cleaned(cloud: PointCloud) -> PointCloud:
    near = np.linalg.norm(cloud.xyz, axis=1) < NEAR_M
    return cloud.select(cloud.finite() & ~near)


def real(data: Path) -> dict[str, Sweeps]:
    """The real sweeps by sensor."""
    kitti = [cleaned(f.cloud) for name in ("kitti_jam_camlidar", "kitti_object3")
             for f in _frames(open_dataset(data / name), 8)]  # fmt: skip
    nuscenes = [cleaned(f.cloud) for f in _frames(open_dataset(data / "nuscenes_frame"), 8)]
    return {"kitti": Sweeps(kitti, 64, 1.0), "nuscenes": Sweeps(nuscenes, 32, 255.0)}


def _frames(dataset: Any, wanted: int) -> list[Any]:
    taken = min(len(dataset), wanted)
    return [dataset[i * len(dataset) // taken] for i in range(taken)]


def simulated(seeds: list[int], frames: int) -> dict[str, Sweeps]:
    """Sweeps in towns by the rigs that stand for the real sensors."""
    found = {}
    for name, beams in (("kitti", 64), ("nuscenes", 32)):
        rig = sim.Rig.from_yaml(config_file(f"rigs/{name}_like.yaml"))
        rig = replace(rig, cameras=())
        clouds = []
        for seed in seeds:
            world = sim.build_world("town", seed)
            simulator = sim.Simulator(world, rig)
            poses = sim.drive(world, 20.0 * frames, 1.0, seed=seed)
            for i in range(frames):
                frame = simulator.frame(poses[20 * i], 10**18 + i, images=False)
                clouds.append(cleaned(frame.cloud))
        found[name] = Sweeps(clouds, beams, 1.0)
    return found


def draw(name: str, real: dict[str, Any], simulated: dict[str, Any], out: Path) -> Path:
    """Histograms of both, side by side."""
    figure = new_figure(11, 7)
    axes = add_axes(figure, 2, 2)
    panels = (
        ("range_m", "range, m", np.linspace(0, 80, 41)),
        ("incidence_deg", "incidence, degrees (0 = straight on)", np.linspace(0, 90, 31)),
        ("intensity", "intensity, share of the largest", np.linspace(0, 1, 41)),
    )
    for axis, (key, label, bins) in zip(axes, panels, strict=False):
        for source, colour, title in ((real, PALETTE[0], "real"), (simulated, PALETTE[3], "sim")):
            share = np.histogram(source[key], bins)[0] / max(1, len(source[key]))
            axis.stairs(share, bins, color=colour, fill=True, alpha=0.25)
            axis.stairs(share, bins, color=colour, label=title)
        axis.set_xlabel(label)
        axis.set_ylabel("share of the points")
        axis.legend()
    for source, colour, title in ((real, PALETTE[0], "real"), (simulated, PALETTE[3], "sim")):
        axes[3].plot(np.sort(source["points_per_ring"]), color=colour, label=title)
    axes[3].set_xlabel("rings in order of their number of points")
    axes[3].set_ylabel("points per ring")
    axes[3].set_ylim(bottom=0)
    axes[3].legend()
    figure.suptitle(
        f"{name}: {real['sweeps']} real sweeps and {simulated['sweeps']} simulated; occupied "
        f"neighbours of a 10 cm voxel {real['voxel_neighbours']:.2f} and "
        f"{simulated['voxel_neighbours']:.2f}"
    )
    return save(figure, out / f"realism_{name}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--data", type=Path, default=os.environ.get("CONDENSE_TEST_DATA"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--frames", type=int, default=8, help="sweeps per town")
    parser.add_argument("--out", type=Path, help="folder for the pictures")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.data is None:
        parser.error("no real data: give --data DIR or set CONDENSE_TEST_DATA")
    found, made = real(Path(options.data)), simulated(options.seeds, options.frames)
    results: dict[str, Any] = {}
    for name in found:
        a, b = found[name].figures(), made[name].figures()
        results[name] = {}
        print(f"{name:28s}{'real':>22s}{'simulated':>22s}")
        for key in ("sweeps", "points", "voxel_neighbours"):
            results[name][key] = [a[key], b[key]]
            print(f"{key:28s}{a[key]:22.2f}{b[key]:22.2f}")
        for key in ("range_m", "incidence_deg", "intensity", "points_per_ring"):
            quartiles = [np.percentile(source[key], [25, 50, 75]).tolist() for source in (a, b)]
            results[name][key] = quartiles
            shown = ["  ".join(f"{v:.4g}" for v in row) for row in quartiles]
            print(f"{key + ' quartiles':28s}{shown[0]:>22s}{shown[1]:>22s}")
        ratio = b["voxel_neighbours"] / a["voxel_neighbours"]
        results[name]["voxel_neighbours_ratio"] = ratio
        print(f"{'voxel neighbours, ratio':28s}{ratio:22.2f}\n")
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            print(f"picture: {draw(name, a, b, options.out)}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
