"""KITTI sequences: velodyne scans, optionally with a rectified camera, calibration and poses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from condense_ros.datasets.base import (
    FIRST_STAMP_NS,
    check_index,
    describe_folder,
    read_image,
    read_numbers,
    rows_to_poses,
)
from condense_ros.datasets.clouds import read_cloud
from condense_ros.errors import CalibrationMissing, DatasetError, GeometryError
from condense_ros.frame import CameraImage, Frame
from condense_ros.geometry import Array, CameraModel, check_se3, inverse, se3
from condense_ros.ontology import Ontology

#: the Velodyne of KITTI turns at 10 Hz and file names count its turns
SCAN_NS = 100_000_000


@dataclass(frozen=True, eq=False)
class KittiCalibration:
    """Calibration of the left colour camera of KITTI, whose images are rectified.

    Attributes:
        K: (3, 3) pixels.
        T_cam_cam0: (4, 4) rectified frame of camera 0, in which KITTI gives boxes and odometry
            poses, to the optical frame of camera 2: the baseline in the fourth column of P2.
        T_cam0_lidar: (4, 4) lidar to the rectified frame of camera 0, R0_rect @ Tr_velo_to_cam.
        T_imu_lidar: (4, 4) lidar to the inertial unit, KITTI's vehicle frame, or None.
    """

    K: Array
    T_cam_cam0: Array
    T_cam0_lidar: Array
    T_imu_lidar: Array | None

    @property
    def T_cam_lidar(self) -> Array:
        return self.T_cam_cam0 @ self.T_cam0_lidar


def _entries(path: Path) -> dict[str, Array]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is not readable ({error})", "restore the file") from None
    entries = {}
    for line in lines:
        key, _, rest = line.partition(":")
        try:
            entries[key.strip()] = np.array(rest.split(), dtype=np.float64)
        except ValueError:
            continue  # raw files also hold dates
    return entries


def _pick(entries: dict[str, Array], path: Path, size: int, *names: str) -> Array:
    for name in names:
        if name in entries:
            if entries[name].size != size:
                raise DatasetError(
                    f"{name} in {path} has {entries[name].size} numbers", f"it needs {size}"
                )
            return entries[name]
    raise CalibrationMissing(
        f"{path} has none of {', '.join(names)}; it has {', '.join(entries) or 'nothing'}",
        "add that line; extrinsics are never guessed",
    )


def read_calibration(path: Path) -> KittiCalibration:
    """Reads a KITTI object, odometry or raw-like calibration file.

    Raises:
        DatasetError: not readable, or a matrix of the wrong size.
        CalibrationMissing: a matrix is absent.
        GeometryError: a transform is not rigid.
    """
    entries = _entries(path)
    P2 = _pick(entries, path, 12, "P2", "P2_rect", "P_rect_02").reshape(3, 4)
    Tr = _pick(entries, path, 12, "Tr_velo_to_cam", "Tr_velo_cam", "Tr").reshape(3, 4)
    T_cam0_lidar = check_se3(se3(Tr[:, :3], Tr[:, 3]), f"Tr_velo_to_cam in {path}")
    # odometry files fold the rectification into Tr and have no R0_rect
    if "Tr" not in entries:
        R0 = _pick(entries, path, 9, "R0_rect", "R_rect", "R_rect_00").reshape(3, 3)
        T_cam0_lidar = check_se3(se3(R0, np.zeros(3)), f"R0_rect in {path}") @ T_cam0_lidar
    T_imu_lidar = None
    if "Tr_imu_to_velo" in entries:
        Ti = _pick(entries, path, 12, "Tr_imu_to_velo").reshape(3, 4)
        T_imu_lidar = inverse(check_se3(se3(Ti[:, :3], Ti[:, 3]), f"Tr_imu_to_velo in {path}"))
    return _calibration(P2, path, T_cam0_lidar, T_imu_lidar)


def read_raw_calibration(folder: Path) -> KittiCalibration:
    """Reads the three files of a day of KITTI's raw recordings.

    Args:
        folder: holds calib_cam_to_cam.txt and calib_velo_to_cam.txt, and calib_imu_to_velo.txt
            where the pose of the lidar on the vehicle is to be known.

    Raises:
        DatasetError: not readable, or a matrix of the wrong size.
        CalibrationMissing: a file or matrix is absent.
        GeometryError: a transform is not rigid, or P_rect_02 is singular.
    """
    cameras = folder / "calib_cam_to_cam.txt"
    entries = _entries(cameras)
    P2 = _pick(entries, cameras, 12, "P_rect_02").reshape(3, 4)
    R0 = _pick(entries, cameras, 9, "R_rect_00").reshape(3, 3)
    T_rect = check_se3(se3(R0, np.zeros(3)), f"R_rect_00 in {cameras}")
    T_cam0_lidar = T_rect @ _rigid(folder / "calib_velo_to_cam.txt")
    imu = folder / "calib_imu_to_velo.txt"
    return _calibration(P2, cameras, T_cam0_lidar, inverse(_rigid(imu)) if imu.is_file() else None)


def _rigid(path: Path) -> Array:
    """The R and T of a raw calibration file."""
    if not path.is_file():
        raise CalibrationMissing(
            f"{path} is missing", "add it from the calibration of the day; it is never guessed"
        )
    entries = _entries(path)
    R = _pick(entries, path, 9, "R").reshape(3, 3)
    return check_se3(se3(R, _pick(entries, path, 3, "T")), f"R and T in {path}")


def _calibration(
    P2: Array, path: Path, T_cam0_lidar: Array, T_imu_lidar: Array | None
) -> KittiCalibration:
    K = P2[:, :3]
    if abs(np.linalg.det(K)) < 1e-9:
        raise GeometryError(f"P2 in {path} is singular", "restore the calibration file")
    T_cam_cam0 = se3(np.eye(3), np.linalg.solve(K, P2[:, 3]))
    return KittiCalibration(K, T_cam_cam0, T_cam0_lidar, T_imu_lidar)


def find_calibration(folder: Path) -> KittiCalibration:
    """`calib.txt` beside the scans, or the raw files there or in the folder of the day above.

    Raises:
        CalibrationMissing: none of them, or as `read_calibration`.
    """
    if (folder / "calib.txt").is_file():
        return read_calibration(folder / "calib.txt")
    for place in (folder, folder.resolve().parent):
        if (place / "calib_cam_to_cam.txt").is_file():
            return read_raw_calibration(place)
    raise CalibrationMissing(
        f"{folder} has images but no calib.txt, nor calib_cam_to_cam.txt there or one folder up",
        "add calib.txt, or the calibration files of the day (KITTI raw)",
    )


class KittiSequence:
    """A KITTI drive: `velodyne/`, `image_02/` or `image_2/` with `calib.txt`, `poses*.txt`.

    Raw drives are read too: `velodyne_points/data/`, `image_02/data/`, and the calibration files
    of the day in the drive's folder or the one above. Images and poses are optional. File names
    count scans at 10 Hz and give the stamps. `poses.txt` holds poses of camera 0 (KITTI odometry),
    any other `poses*.txt` poses of the lidar.

    Raises:
        DatasetError: no scans, or images and poses that do not fit them.
        CalibrationMissing: images without calibration.
    """

    classes: Ontology | None = None
    T_base_lidar: Array | None = None

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.name = self.folder.resolve().name
        self.notes: tuple[str, ...] = ("stamps count scans at the nominal 10 Hz",)
        self._scans = self._files("*.bin", "velodyne", "velodyne_points/data", "velodyne_points")
        if not self._scans:
            raise DatasetError(
                f"{folder} has no velodyne/*.bin scans (it holds {describe_folder(self.folder)})",
                "point to the folder that holds velodyne/",
            )
        images = self._files("*.png", "image_02", "image_02/data", "image_2")
        self._images = {number: path for number, path in images.items() if number in self._scans}
        if images and not self._images:
            raise DatasetError(f"no image of {folder} has the number of a scan", "pair the names")
        self._calibration = None
        if images:
            self._calibration = find_calibration(self.folder)
            self.T_base_lidar = self._calibration.T_imu_lidar
        # pairs only, where there are pairs: a scan whose image is missing teaches nothing
        self._numbers = sorted(self._images or self._scans)
        steps = np.diff(self._numbers)
        self.period_s = float(np.median(steps)) * SCAN_NS * 1e-9 if steps.size else 0.1
        self.poses = self._read_poses()

    def _files(self, pattern: str, *folders: str) -> dict[int, Path]:
        for name in folders:
            files = sorted((self.folder / name).glob(pattern))
            if files:
                return {int(p.stem): p for p in files if re.fullmatch(r"\d+", p.stem)}
        return {}

    def _read_poses(self) -> Array | None:
        files = sorted(self.folder.glob("poses*.txt"))
        if not files:
            return None
        path = files[0]
        poses = rows_to_poses(read_numbers(path, 12))
        if len(poses) == len(self._scans):
            rows = {number: row for row, number in enumerate(sorted(self._scans))}
        elif len(poses) > max(self._scans):
            rows = {number: number for number in self._scans}  # one row per scan of the full drive
        else:
            raise DatasetError(
                f"{path} has {len(poses)} poses for {len(self._scans)} scans numbered up to "
                f"{max(self._scans)}",
                "give one row per scan",
            )
        picked = poses[[rows[number] for number in self._numbers]]
        if path.name == "poses.txt":
            if self._calibration is None:
                raise CalibrationMissing(
                    f"{path} holds camera poses and there is no calib.txt with images",
                    "add calib.txt, or name lidar poses poses_lidar.txt",
                )
            T = self._calibration.T_cam0_lidar
            picked = inverse(T) @ picked @ T
        if "kissicp" in path.name:
            self.notes += ("poses are KISS-ICP estimates, not ground truth",)
        return np.asarray(picked)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Frame:
        row = check_index(index, len(self), self.name)
        number = self._numbers[row]
        stamp_ns = FIRST_STAMP_NS + number * SCAN_NS
        images: tuple[CameraImage, ...] = ()
        if self._calibration is not None:
            pixels = read_image(self._images[number])
            camera = CameraModel(self._calibration.K, pixels.shape[1], pixels.shape[0])
            images = (
                CameraImage("image_02", stamp_ns, pixels, camera, self._calibration.T_cam_lidar),
            )
        return Frame(
            stamp_ns,
            read_cloud(self._scans[number]),
            images,
            None if self.poses is None else self.poses[row],
            sequence=self.name,
            index=row,
            notes=self.notes,
        )
