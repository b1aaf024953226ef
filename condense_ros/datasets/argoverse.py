"""Argoverse 2 logs: LiDAR sweeps with ego poses, boxes and, where shipped, per-point classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from condense_ros.datasets.base import check_index, require
from condense_ros.datasets.boxes import Box3D
from condense_ros.datasets.clouds import fields_to_cloud, read_feather
from condense_ros.errors import DatasetError
from condense_ros.frame import Frame
from condense_ros.geometry import Array, interpolate_pose, rotation_from_quaternion, se3
from condense_ros.ontology import Ontology

#: value 0 and the annotation categories in alphabetical order, as `flow_labels.feather` counts them
CLASSES = (
    *("background", "animal", "articulated_bus", "bicycle", "bicyclist", "bollard", "box_truck"),
    *("bus", "construction_barrel", "construction_cone", "dog", "large_vehicle"),
    *("message_board_trailer", "mobile_pedestrian_crossing_sign", "motorcycle", "motorcyclist"),
    *("official_signaler", "pedestrian", "railed_vehicle", "regular_vehicle", "school_bus", "sign"),
    *("stop_sign", "stroller", "traffic_light_trailer", "truck", "truck_cab"),
    *("vehicular_trailer", "wheelchair", "wheeled_device", "wheeled_rider"),
)


def _ontology() -> Ontology:
    # golden-angle hues keep neighbouring classes apart; background is grey
    import colorsys

    hues = [(i * 0.618034) % 1 for i in range(1, len(CLASSES))]
    rgb = [(0.6, 0.6, 0.6), *(colorsys.hsv_to_rgb(hue, 0.75, 0.9) for hue in hues)]
    return Ontology(CLASSES, np.round(np.array(rgb) * 255).astype(np.uint8))


class ArgoverseLog:
    """One log folder. Clouds are in the vehicle frame (REP-103), as Argoverse ships them.

    Only the sweep that `flow_labels.feather` belongs to (the first) has labels.

    Raises:
        DatasetError: no sweeps, or no ego poses.
    """

    period_s = 0.1

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.name = self.folder.resolve().name
        self._sweeps = sorted((self.folder / "sensors" / "lidar").glob("*.feather"))
        if not self._sweeps or not all(path.stem.isdigit() for path in self._sweeps):
            raise DatasetError(f"{folder} has no sensors/lidar/<stamp>.feather", "add the sweeps")
        self.classes: Ontology | None = None
        if (self.folder / "flow_labels.feather").is_file():
            self.classes = _ontology()
        # the cloud already is in the vehicle frame: this identity is what the data set states
        self.T_base_lidar: Array | None = np.eye(4)
        self.poses: Array | None = self._read_poses()

    def _read_poses(self) -> Array:
        path = self.folder / "city_SE3_egovehicle.feather"
        require((path,), self.name)
        table = read_feather(path)
        try:
            stamps = table["timestamp_ns"]
            poses = []
            for sweep in self._sweeps:
                stamp = int(sweep.stem)
                after = int(np.searchsorted(stamps, stamp))
                if after == len(stamps) or (after == 0 and stamps[0] != stamp):
                    raise DatasetError(f"{path} does not cover sweep {sweep.name}", "restore it")
                T_after = _pose(table, after)
                if stamps[after] != stamp:
                    span = int(stamps[after]) - int(stamps[after - 1])
                    fraction = (stamp - int(stamps[after - 1])) / span
                    T_after = interpolate_pose(_pose(table, after - 1), T_after, fraction)
                poses.append(T_after)
        except (KeyError, IndexError) as error:
            raise DatasetError(f"{path} holds no poses ({error!r})", "restore the file") from None
        return np.array(poses)

    def __len__(self) -> int:
        return len(self._sweeps)

    def __getitem__(self, index: int) -> Frame:
        row = check_index(index, len(self), self.name)
        path = self._sweeps[row]
        columns = read_feather(path)
        cloud = fields_to_cloud(columns, str(path))
        if "offset_ns" in columns:
            cloud = replace(cloud, time_s=(columns["offset_ns"] * 1e-9).astype(np.float32))
        return Frame(
            int(path.stem),
            cloud,
            (),
            None if self.poses is None else self.poses[row],
            self._labels(len(cloud)) if row == 0 and self.classes is not None else None,
            sequence=self.name,
            index=row,
            notes=("the lidar frame is the vehicle frame; two LiDARs merged, motion compensated",),
        )

    def _labels(self, points: int) -> npt.NDArray[np.uint8]:
        path = self.folder / "flow_labels.feather"
        columns = read_feather(path)
        if "classes" not in columns or columns["classes"].shape != (points,):
            raise DatasetError(f"{path} does not fit sweep 0 of {points} points", "restore it")
        return columns["classes"].astype(np.uint8)

    def boxes(self, index: int) -> tuple[Box3D, ...]:
        """Annotated boxes of a sweep in its lidar (vehicle) frame.

        Raises:
            DatasetError: annotations.feather is missing or damaged.
        """
        row = check_index(index, len(self), self.name)
        path = self.folder / "annotations.feather"
        require((path,), self.name)
        table = read_feather(path)
        try:
            rows = np.flatnonzero(table["timestamp_ns"] == int(self._sweeps[row].stem)).tolist()
            size = np.stack([table[f"{side}_m"] for side in ("length", "width", "height")], axis=1)
            return tuple(
                Box3D(
                    str(table["category"][i]).lower(),
                    _pose(table, i),
                    size[i],
                    int(table["num_interior_pts"][i]),
                )
                for i in rows
            )
        except KeyError as error:
            raise DatasetError(f"{path} holds no boxes ({error!r})", "restore the file") from None


def _pose(table: dict[str, npt.NDArray], row: int) -> Array:
    rotation = rotation_from_quaternion([table[key][row] for key in ("qx", "qy", "qz", "qw")])
    return se3(rotation, [table[key][row] for key in ("tx_m", "ty_m", "tz_m")])
