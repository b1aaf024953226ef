"""Writes folders in the layout of the nuScenes devkit, small ones and one around a real sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from condense_ros.geometry import inverse, quaternion_from_rotation

#: official names of nuScenes-lidarseg; a name's place is its id
CATEGORIES = (
    *("noise", "animal", "human.pedestrian.adult", "human.pedestrian.child"),
    *("human.pedestrian.construction_worker", "human.pedestrian.personal_mobility"),
    *("human.pedestrian.police_officer", "human.pedestrian.stroller"),
    *("human.pedestrian.wheelchair", "movable_object.barrier", "movable_object.debris"),
    *("movable_object.pushable_pullable", "movable_object.trafficcone"),
    *("static_object.bicycle_rack", "vehicle.bicycle", "vehicle.bus.bendy", "vehicle.bus.rigid"),
    *("vehicle.car", "vehicle.construction", "vehicle.emergency.ambulance"),
    *("vehicle.emergency.police", "vehicle.motorcycle", "vehicle.trailer", "vehicle.truck"),
    *("flat.driveable_surface", "flat.other", "flat.sidewalk", "flat.terrain"),
    *("static.manmade", "static.other", "static.vegetation", "vehicle.ego"),
)
#: its official class in the challenge by id, 0 = none (as in the released code of SLidR)
CHALLENGE = (
    *(0, 0, 7, 7, 7, 0, 7, 0, 0, 1, 0, 0, 8, 0, 2, 3, 3, 4, 5, 0, 0, 6, 9, 10),
    *(11, 12, 13, 14, 15, 0, 16, 0),
)


def rigid(T: np.ndarray) -> dict[str, list[float]]:
    """Translation, and rotation as w x y z."""
    x, y, z, w = quaternion_from_rotation(T[:3, :3]).tolist()
    return {"translation": T[:3, 3].tolist(), "rotation": [w, x, y, z]}


class Devkit:
    """Tables that grow by scenes and key frames; `write` stores them."""

    def __init__(self, root: Path, version: str = "v1.0-mini") -> None:
        self.root, self.version = root, version
        names = ("scene", "sample", "sample_data", "calibrated_sensor", "sensor", "ego_pose", "log")
        self.tables: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        self.tables["category"] = [
            {"token": f"category{i}", "name": name, "index": i} for i, name in enumerate(CATEGORIES)
        ]
        self.tables["lidarseg"] = []

    def scene(self, name: str, location: str = "singapore-onenorth") -> str:
        """Adds a scene; returns its token."""
        number = len(self.tables["scene"])
        self.tables["log"].append({"token": f"log{number}", "location": location})
        row = {"token": f"scene{number}", "name": name, "log_token": f"log{number}"}
        self.tables["scene"].append({**row, "description": 'a {brace} and a "quote"'})
        return row["token"]

    def sample(self, scene: str, stamp_us: int) -> str:
        """Adds a key frame; returns its token."""
        token = f"sample{len(self.tables['sample'])}"
        self.tables["sample"].append(
            {"token": token, "timestamp": stamp_us, "scene_token": scene, "next": "", "prev": ""}
        )
        return token

    def data(
        self,
        sample: str,
        channel: str,
        path: str,
        stamp_us: int,
        T_base_sensor: np.ndarray,
        T_world_base: np.ndarray,
        *,
        K: np.ndarray | None = None,
        key: bool = True,
    ) -> str:
        """Adds one file of a sensor with its calibration and the vehicle's pose."""
        number = len(self.tables["sample_data"])
        self.tables["sensor"].append({"token": f"sensor{number}", "channel": channel})
        self.tables["calibrated_sensor"].append(
            {
                "token": f"calibrated{number}",
                "sensor_token": f"sensor{number}",
                **rigid(T_base_sensor),
                "camera_intrinsic": [] if K is None else K.tolist(),
            }
        )
        self.tables["ego_pose"].append({"token": f"ego{number}", **rigid(T_world_base)})
        self.tables["sample_data"].append(
            {
                "token": f"data{number}",
                "sample_token": sample,
                "ego_pose_token": f"ego{number}",
                "calibrated_sensor_token": f"calibrated{number}",
                "timestamp": stamp_us,
                "is_key_frame": key,
                "filename": path,
            }
        )
        return f"data{number}"

    def labels(self, data: str, values: np.ndarray) -> Path:
        """Writes label ids of a cloud and adds them to lidarseg.json."""
        name = f"lidarseg/{self.version}/{data}_lidarseg.bin"
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        values.astype(np.uint8).tofile(path)
        self.tables["lidarseg"].append({"token": data, "sample_data_token": data, "filename": name})
        return path

    def write(self) -> Path:
        """Stores the tables as the devkit does; returns the folder."""
        folder = self.root / self.version
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in self.tables.items():
            (folder / f"{name}.json").write_text(json.dumps(rows, indent=0))
        return self.root


def tiny_devkit(
    root: Path, rng: np.random.Generator, scenes: int = 3, samples: int = 2, **names: str
) -> Devkit:
    """Scenes of key frames of one 64x48 camera and a LiDAR of 30 points; not yet written."""
    devkit = Devkit(root, **names)
    T_base_lidar, T_base_cam = np.eye(4), np.eye(4)
    T_base_lidar[:3, 3] = 0.9, 0.0, 1.8
    T_base_cam[:3] = [[0, 0, 1, 1.7], [-1, 0, 0, 0], [0, -1, 0, 1.5]]
    K = np.array([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]])
    for folder in ("samples/LIDAR_TOP", "samples/CAM_FRONT"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number in range(scenes):
        scene = devkit.scene(f"scene-{number + 1:04d}")
        for step in range(samples):
            stamp = 1_000_000 * (100 * number + 1) + 500_000 * step
            sample = devkit.sample(scene, stamp)
            pose = np.eye(4)
            pose[:3, 3] = 10.0 * step, 5.0 * number, 0.0
            name = f"samples/LIDAR_TOP/{number}_{step}.pcd.bin"
            points = rng.uniform(-20, 20, (30, 5))
            points[:, 4] = np.arange(30)
            points.astype("<f4").tofile(root / name)
            data = devkit.data(sample, "LIDAR_TOP", name, stamp, T_base_lidar, pose)
            devkit.labels(data, np.arange(30))
            later = pose.copy()
            later[0, 3] += 0.5
            picture = f"samples/CAM_FRONT/{number}_{step}.png"
            Image.fromarray(np.full((48, 64, 3), 10 * number + step, np.uint8)).save(root / picture)
            devkit.data(sample, "CAM_FRONT", picture, stamp + 12_000, T_base_cam, later, K=K)
            devkit.data(sample, "RADAR_FRONT", "samples/none.pcd", stamp, T_base_lidar, pose)
            sweep = "sweeps/LIDAR_TOP/none.pcd.bin"
            devkit.data(sample, "LIDAR_TOP", sweep, stamp + 50_000, T_base_lidar, pose, key=False)
    return devkit


def real_devkit(source: Path, root: Path) -> tuple[Devkit, dict[str, Any]]:
    """The sample of `source/sample.json` as a devkit folder whose files are links to the originals.

    Returns:
        The folder, not yet written, and the content of a sample.json with exactly its calibration:
        the original's matrices were rounded to float32, and turn into rotations only here.
    """
    content = json.loads((source / "sample.json").read_text())
    (sample,) = content["data_list"]
    devkit = Devkit(root)
    stamp = round(sample["timestamp"] * 1e6)
    token = devkit.sample(devkit.scene("scene-0061"), stamp)
    T_world_base = exact(np.array(sample["ego2global"]))
    T_base_lidar = exact(np.array(sample["lidar_points"]["lidar2ego"]))
    name = link(source, root, "LIDAR_TOP", sample["lidar_points"]["lidar_path"])
    data = devkit.data(token, "LIDAR_TOP", name, stamp, T_base_lidar, T_world_base)
    points = (root / name).stat().st_size // 20
    devkit.labels(data, np.arange(points) % len(CATEGORIES))
    sample["ego2global"] = T_world_base.tolist()
    sample["lidar_points"]["lidar2ego"] = T_base_lidar.tolist()
    for channel, entry in sample["images"].items():
        K, T_base_cam = np.array(entry["cam2img"])[:3, :3], exact(np.array(entry["cam2ego"]))
        # lidar2cam = cam2ego^-1 ego(t_cam)^-1 ego(t_lidar) lidar2ego, solved for ego(t_cam)
        T_cam_lidar = np.array(entry["lidar2cam"])
        T_later = exact(
            T_world_base @ T_base_lidar @ np.linalg.inv(T_cam_lidar) @ inverse(T_base_cam)
        )
        name = link(source, root, channel, entry["img_path"])
        stamp = round(entry["timestamp"] * 1e6)
        devkit.data(token, channel, name, stamp, T_base_cam, T_later, K=K)
        entry["cam2ego"] = T_base_cam.tolist()
        entry["lidar2cam"] = (
            inverse(T_base_cam) @ inverse(T_later) @ T_world_base @ T_base_lidar
        ).tolist()
    return devkit, content


def exact(T: np.ndarray) -> np.ndarray:
    """The nearest transform whose rotation is one (by its singular vectors), float64."""
    U, _, Vt = np.linalg.svd(T[:3, :3])
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = U @ Vt, T[:3, 3]
    return out


def link(source: Path, root: Path, channel: str, path: str) -> str:
    """A link samples/CHANNEL/FILE to a file of `source`; returns its name below `root`."""
    name = f"samples/{channel}/{Path(path).name}"
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).symlink_to(source / Path(path).name)
    return name
