"""Reads the folders that `condense_ros.sim.writer` writes (their layout is described there)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from condense_ros.errors import CondenseError, DatasetError
from condense_ros.frame import CameraImage, Frame, PointCloud
from condense_ros.geometry import Array, inverse
from condense_ros.ontology import Ontology
from condense_ros.sim.rig import Rig
from condense_ros.sim.writer import FORMAT, POINT

_AGAIN = "run the generation again into the same folder; it goes on where it stopped"


class SimulatedFolder:
    """A simulated drive as Frames, with labels and exact poses.

    Attributes:
        name, period_s, classes: as every data set.
        rig: sensors and their mounting.
        stamps_ns: (T,) int64 stamps of the frames.
        T_world_base: (T, 4, 4) true poses of base_link.
        T_odom_base: (T, 4, 4) odometry, which drifts.

    Raises:
        DatasetError: no such folder, another format, damaged, or its generation did not finish.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        manifest = self._manifest()
        try:
            self.name: str = str(manifest["name"])
            self.period_s: float = float(manifest["period_s"])
            self.classes: Ontology = Ontology.from_dict(manifest["ontology"])
            self.rig: Rig = Rig.from_dict(manifest["config"]["rig"])
            self._format = str(manifest["config"]["image_format"])
            self._cameras = [c for c in self.rig.cameras if c.name in manifest["cameras"]]
            count = int(manifest["frames"])
        except (KeyError, TypeError, ValueError, CondenseError) as error:
            raise DatasetError(
                f"{self.path / 'manifest.json'} is damaged: {error!r}", "generate the folder anew"
            ) from error
        self.stamps_ns, self.T_world_base = self._poses("poses.txt", count)
        _, self.T_odom_base = self._poses("odometry.txt", count)
        there = {file.name for file in (self.path / "clouds").glob("*.npy")}
        missing = [i for i in range(count) if f"{i:06d}.npy" not in there]
        if missing:
            raise DatasetError(f"{self.path} lacks {len(missing)} of {count} frames", _AGAIN)

    @staticmethod
    def matches(path: Path) -> bool:
        """Whether a folder looks like one of these."""
        try:
            return f'"{FORMAT}"' in (Path(path) / "manifest.json").read_text()
        except (OSError, UnicodeDecodeError):
            return False

    @property
    def T_base_lidar(self) -> Array:
        """(4, 4) lidar frame to base_link."""
        return self.rig.lidar.T_base_lidar

    @property
    def poses(self) -> Array:
        """(T, 4, 4) true poses of the lidar in the world."""
        return np.asarray(self.T_world_base @ self.T_base_lidar)

    @property
    def T_base_cam(self) -> dict[str, Array]:
        """(4, 4) optical frame to base_link, per camera name."""
        return {camera.name: camera.T_base_cam for camera in self._cameras}

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def __getitem__(self, index: int) -> Frame:
        """Frame `index`; negative numbers count from the end.

        Raises:
            IndexError: no such frame.
            DatasetError: a file of the frame is missing or damaged.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} frames, not frame {index}")
        index %= len(self)
        stamp_ns = int(self.stamps_ns[index])
        points = self._points(index)
        xyz = np.stack([points["x"], points["y"], points["z"]], axis=1)
        cloud = PointCloud(
            xyz,
            points["intensity"].astype(np.float32) / np.float32(255),
            points["ring"].astype(np.uint16),
            np.ascontiguousarray(points["time"]),
        )
        return Frame(
            stamp_ns,
            cloud,
            tuple(self._image(camera, index, stamp_ns) for camera in self._cameras),
            self.T_world_base[index] @ self.T_base_lidar,
            np.ascontiguousarray(points["label"]),
            self.name,
            index,
        )

    def semantic(self, index: int, camera: str) -> npt.NDArray[np.uint8]:
        """(H, W) uint8 class of every pixel, 255 = sky, where they were generated.

        Raises:
            DatasetError: the folder was generated without them.
        """
        return np.asarray(
            self._read(Path("semantic") / camera / f"{index:06d}.png", cv2.IMREAD_UNCHANGED),
            np.uint8,
        )

    def _manifest(self) -> dict[str, Any]:
        path = self.path / "manifest.json"
        try:
            manifest = json.loads(path.read_text())
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise DatasetError(
                f"cannot read {path}: {error}", "give a folder made by `condense sim generate`"
            ) from error
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise DatasetError(
                f"{self.path} is no simulated folder of format {FORMAT}", "generate it anew"
            )
        return manifest

    def _poses(self, name: str, count: int) -> tuple[npt.NDArray[np.int64], Array]:
        try:
            rows = [line.split() for line in (self.path / name).read_text().splitlines()]
            stamps = np.array([int(row[0]) for row in rows], np.int64)
            values = np.array([row[1:] for row in rows], np.float64).reshape(-1, 3, 4)
        except (OSError, ValueError, IndexError) as error:
            raise DatasetError(f"cannot read {self.path / name}: {error}", _AGAIN) from error
        if len(stamps) != count:
            raise DatasetError(f"{self.path / name} has {len(stamps)} of {count} poses", _AGAIN)
        poses = np.tile(np.eye(4), (count, 1, 1))
        poses[:, :3] = values
        return stamps, poses

    def _points(self, index: int) -> npt.NDArray[np.void]:
        path = self.path / "clouds" / f"{index:06d}.npy"
        try:
            points = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DatasetError(
                f"cannot read {path}: {error}", "delete this file and generate the folder again"
            ) from error
        if points.dtype != POINT or points.ndim != 1:
            raise DatasetError(f"{path} holds {points.dtype}", "generate the folder anew")
        return np.asarray(points)

    def _read(self, name: Path, flag: int) -> npt.NDArray[Any]:
        path = self.path / name
        data = np.frombuffer(path.read_bytes(), np.uint8) if path.exists() else None
        array = cv2.imdecode(data, flag) if data is not None and data.size else None
        if array is None:
            raise DatasetError(
                f"{path} is missing or damaged",
                f"delete clouds/{name.stem}.npy and generate the folder again",
            )
        return np.asarray(array)

    def _image(self, spec: Any, index: int, stamp_ns: int) -> CameraImage:
        bgr = self._read(
            Path("images") / spec.name / f"{index:06d}.{self._format}", cv2.IMREAD_COLOR
        )
        depth = None
        if spec.depth:
            raw = self._read(Path("depth") / spec.name / f"{index:06d}.png", cv2.IMREAD_UNCHANGED)
            depth = raw.astype(np.float32) / np.float32(1000)
        return CameraImage(
            spec.name,
            stamp_ns,
            cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8),
            spec.model,
            inverse(spec.T_base_cam) @ self.T_base_lidar,
            depth=depth,
        )
