"""Time and memory of opening the tables of a nuScenes folder of the size of v1.0-trainval.

    python benchmarks/bench_nuscenes_tables.py [--scenes 850] [--json F]

Writes made-up tables as the devkit lays them out (850 scenes: 2.6 million files of 12 sensors, of
which every seventh or so is a key frame; 2 GB) to a temporary folder, then reads them in a process
of its own: the first time, and again from the index kept in the cache.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from condense_ros.files import write_json

#: sensor -> files per key frame
SENSORS = {
    "LIDAR_TOP": 9.7,
    **dict.fromkeys((f"CAM_{n}" for n in ("FRONT", "FRONT_LEFT", "FRONT_RIGHT")), 5.8),
    **dict.fromkeys((f"CAM_{n}" for n in ("BACK", "BACK_LEFT", "BACK_RIGHT")), 5.8),
    **dict.fromkeys((f"RADAR_{n}" for n in ("FRONT", "FRONT_LEFT", "FRONT_RIGHT")), 6.5),
    **dict.fromkeys((f"RADAR_{n}" for n in ("BACK_LEFT", "BACK_RIGHT")), 6.5),
}
KEY_FRAMES = 40


class Entry(NamedTuple):
    """One file of a sensor."""

    scene: int
    sensor: str
    number: int
    key_frame: int
    is_key: bool

    @property
    def token(self) -> str:
        """32 hex digits, as nuScenes has them."""
        return f"{self.scene:08x}{list(SENSORS).index(self.sensor):08x}{self.number:016x}"


def entries(scenes: int) -> Iterator[Entry]:
    """The files of all scenes, sensor by sensor."""
    for scene in range(scenes):
        for sensor, rate in SENSORS.items():
            for number in range(int(KEY_FRAMES * rate)):
                frame = int(number / rate)
                last = int((number + 1) / rate) > frame
                yield Entry(scene, sensor, number, min(frame, KEY_FRAMES - 1), last)


def rows_of(scenes: int) -> dict[str, Iterable[dict[str, object]]]:
    """Table -> its rows."""
    stamp = 1_532_402_927_612_460
    pose = {
        "translation": [411.3039349319818, 1180.8903791765097, 0.0],
        "rotation": [0.5720320396729, -0.0016977771610471, 0.0117980019301, -0.8201446642457],
    }
    intrinsic = [[1260.8474, 0.0, 807.9682], [0.0, 1260.8474, 495.3344], [0.0, 0.0, 1.0]]
    return {
        "scene": (
            {"token": f"s{i:031x}", "name": f"scene-{i:04d}", "log_token": "l"}
            for i in range(scenes)
        ),
        "log": [{"token": "l", "location": "singapore-onenorth"}],
        "category": [{"token": "c", "name": "vehicle.car", "index": 17}],
        "sensor": ({"token": name, "channel": name} for name in SENSORS),
        "calibrated_sensor": (
            {
                **{"token": f"{scene}{name}", "sensor_token": name, **pose},
                "camera_intrinsic": intrinsic if name.startswith("CAM") else [],
            }
            for scene in range(scenes)
            for name in SENSORS
        ),
        "sample": (
            {
                **{"token": f"p{scene:015x}{k:016x}", "scene_token": f"s{scene:031x}"},
                **{"timestamp": stamp + scene * 10**9 + k * 500_000, "prev": "", "next": ""},
            }
            for scene in range(scenes)
            for k in range(KEY_FRAMES)
        ),
        "sample_data": (
            {
                "token": one.token,
                "sample_token": f"p{one.scene:015x}{one.key_frame:016x}",
                "ego_pose_token": one.token,
                "calibrated_sensor_token": f"{one.scene}{one.sensor}",
                "timestamp": stamp + one.scene * 10**9 + one.number * 50_000,
                "fileformat": "jpg",
                "is_key_frame": one.is_key,
                "height": 900,
                "width": 1600,
                "filename": f"{'samples' if one.is_key else 'sweeps'}/{one.sensor}/n015-2018-07-24-"
                f"11-22-45+0800__{one.sensor}__1532402927{one.number:06d}.jpg",
                "prev": one.token,
                "next": one.token,
            }
            for one in entries(scenes)
        ),
        "ego_pose": ({"token": one.token, "timestamp": stamp, **pose} for one in entries(scenes)),
    }


def write_tables(folder: Path, scenes: int) -> dict[str, int]:
    """Writes them; returns the bytes of each."""
    folder.mkdir(parents=True)
    for name, rows in rows_of(scenes).items():
        with open(folder / f"{name}.json", "w") as file:
            for number, row in enumerate(rows):
                file.write(("[\n" if number == 0 else ",\n") + json.dumps(row, indent=0))
            file.write("\n]")
    return {path.stem: path.stat().st_size for path in folder.iterdir()}


def read(folder: Path) -> None:
    """Prints what opening the folder costs, as JSON; runs in a process of its own."""
    from condense_ros.datasets.nuscenes_tables import cache_folder, open_tables

    def peak_mib() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    before = peak_mib()
    result: dict[str, float] = {}
    for name in ("first", "again"):
        start, cpu = time.perf_counter(), time.process_time()
        frames = open_tables(folder)
        result[f"{name}_s"] = round(time.perf_counter() - start, 2)
        result[f"{name}_cpu_s"] = round(time.process_time() - cpu, 2)
    result["key_frames"] = len(frames)
    result["memory_before_mib"], result["memory_peak_mib"] = round(before), round(peak_mib())
    sizes = [file.stat().st_size for file in cache_folder().glob("*.npz")]
    result["index_mb"] = round(sum(sizes) / 1e6, 1)
    print(json.dumps(result))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=850)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        read(options.read)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "v1.0-trainval"
        sizes = write_tables(folder, options.scenes)
        environment = {**os.environ, "XDG_CACHE_HOME": temporary}
        command = [sys.executable, __file__, "--read", str(folder)]
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    result = {"scenes": options.scenes, "bytes": sizes, **json.loads(done.stdout)}
    print(json.dumps(result, indent=1))
    if options.json:
        write_json(options.json, result)


if __name__ == "__main__":
    main()
