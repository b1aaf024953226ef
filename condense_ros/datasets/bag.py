"""`BagDataset`: the pairs of a recorded bag as frames."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from condense_ros.bags import BagMessage, BagReader, PairRecord
from condense_ros.datasets.bag_calibration import BagCalibration
from condense_ros.datasets.base import check_index, gather_images
from condense_ros.errors import CalibrationMissing, DatasetError
from condense_ros.frame import CameraImage, Frame, PointCloud, calibration_id
from condense_ros.geometry import (
    R_OPTICAL_BODY,
    Array,
    CameraModel,
    inverse,
    same_camera,
    se3,
)
from condense_ros.ontology import Ontology
from condense_ros.registration import DepthRegistration, organised_cloud
from condense_ros.wire import (
    COMPRESSED_IMAGE,
    ImageMessage,
    decode_cloud,
    decode_compressed_image,
    decode_image,
)

_T_OPTICAL_BODY = se3(R_OPTICAL_BODY, np.zeros(3))


@dataclass(frozen=True, eq=False)
class _Cloud:
    """A cloud, and how its own frame hangs on the frame that tf knows."""

    stamp_ns: int
    cloud: PointCloud
    frame_id: str
    T_frame_cloud: Array


@dataclass(frozen=True, eq=False)
class _Depth:
    """A depth image in metres with its camera."""

    topic: str
    stamp_ns: int
    frame_id: str
    camera: CameraModel
    pixels: npt.NDArray[np.float32]


def _camera_name(role: str) -> str:
    return role.partition("/")[2] or role


class BagDataset:
    """Frames of the pairs that were recorded; those that lost a message are left out.

    Roles of a pair: "points" or "depth" gives the cloud; "image" or "image/NAME" give the images,
    named "image" or NAME. Without "points", a depth image becomes a cloud in the body frame (x
    forward) of its camera. It is also registered to every image: `CameraImage.depth` is what that
    camera sees of it.
    Extrinsics come from the recorded tf, intrinsics from the recorded camera_info; neither is
    guessed. Messages are found through an index and decoded only when asked for.

    Args:
        path: bag folder or .mcap file.
        base_frame: frame of which the pairs hold the pose; by default the child frame of the
            recorded odometry, or base_link.

    Attributes:
        incomplete: pairs left out because a message of theirs is not in the bag.

    Raises:
        BagError: no bag there.
        DatasetError: a bag without pairs, or whose pairs hold no points.
        CalibrationMissing: images without any camera_info.
    """

    classes: Ontology | None = None

    def __init__(self, path: Path | str, base_frame: str = "") -> None:
        self.path = Path(path)
        self._reader = BagReader(self.path)
        self.name = self.path.resolve().stem if self.path.is_file() else self.path.resolve().name
        pairs = self._reader.pairs()
        if not pairs:
            found = ", ".join(self._reader.topics) or "nothing"
            raise DatasetError(
                f"{path} holds no pairs, only {found}",
                "record it with `condense record`, which matches the topics as it records",
            )
        self._rows = self._find_messages(pairs)
        self._pairs = [pair for pair in pairs if self._complete(pair)]
        self.incomplete = len(pairs) - len(self._pairs)
        if not self._pairs:
            raise DatasetError(
                f"none of the {len(pairs)} pairs of {path} has all its messages in the bag",
                "record the matched topics too",
            )
        roles = sorted({role for pair in self._pairs for role in pair.messages})
        if not {"points", "depth"} & set(roles):
            raise DatasetError(
                f"the pairs of {path} hold no points, only {', '.join(roles)}",
                "record a PointCloud2 or depth topic too",
            )
        self._calibration = BagCalibration(self._reader)
        #: per image name; made anew when a camera's calibration changes
        self._registrations: dict[str, DepthRegistration] = {}
        if any(role.startswith(("image", "depth")) for role in roles):
            self._require_camera_info()
        #: frame of the recorded poses, empty where none were recorded
        self.world_frame = next((p.world_frame for p in self._pairs if p.world_frame), "")
        self.base_frame = base_frame or self._calibration.base_frame(self.world_frame)
        steps = np.diff([pair.stamp_ns for pair in self._pairs])
        self.period_s = float(np.median(steps)) / 1e9 if steps.size else 0.1

    def _find_messages(self, pairs: list[PairRecord]) -> dict[tuple[str, int], int]:
        """Rows of the bag's index of all matched messages, by topic and stamp."""
        wanted: dict[str, set[int]] = {}
        for pair in pairs:
            for topic, stamp_ns in pair.messages.values():
                wanted.setdefault(topic, set()).add(stamp_ns)
        found: dict[tuple[str, int], int] = {}
        for topic, stamps in wanted.items():
            rows = self._reader.rows([topic])
            for row, stamp in zip(rows, self._reader.index["stamp_ns"][rows].tolist(), strict=True):
                if stamp in stamps:
                    found.setdefault((topic, stamp), int(row))
        return found

    def _complete(self, pair: PairRecord) -> bool:
        return all(message in self._rows for message in pair.messages.values())

    def _require_camera_info(self) -> None:
        if not self._calibration.has_cameras:
            raise CalibrationMissing(
                f"{self.path} has images but no camera_info",
                "record camera_info too: add the camera_info topic beside each image topic",
            )

    def __len__(self) -> int:
        return len(self._pairs)

    @cached_property
    def T_base_lidar(self) -> Array | None:
        """(4, 4) mounting of the lidar, or None where tf does not join it to the base frame."""
        cloud = self._cloud(self._pairs[0], self._depth(self._pairs[0]))
        try:
            T_base_frame = self._calibration.extrinsics(
                self.base_frame, cloud.frame_id, cloud.stamp_ns, self._log_ns(self._pairs[0])
            )
        except CalibrationMissing:
            return None
        return T_base_frame @ cloud.T_frame_cloud

    @cached_property
    def poses(self) -> Array | None:
        """(len, 4, 4) T_world_lidar through `T_base_lidar`, or None if any is unknown."""
        worlds = [pair.T_world_base for pair in self._pairs]
        if self.T_base_lidar is None or any(T is None for T in worlds):
            return None
        return np.array([T @ self.T_base_lidar for T in worlds if T is not None])

    def __getitem__(self, index: int) -> Frame:
        """Frame `index`.

        Raises:
            IndexError: out of range.
            DatasetError: damaged, or recorded with another calibration than its pair says.
            CalibrationMissing: tf does not join its frames.
            WireError: a message cannot be decoded.
        """
        row = check_index(index, len(self), self.name)
        pair = self._pairs[row]
        depth, notes = self._depth_beside_points(pair)
        cloud = self._cloud(pair, depth)
        log_ns = self._log_ns(pair)
        roles = [role for role in pair.messages if role.split("/")[0] == "image"]
        images = gather_images(
            (_camera_name(role), partial(self._image, pair, role, cloud, depth, log_ns))
            for role in roles
        )
        if len(images) == len(roles):
            notes += self._check_calibration(row, pair, images)
        else:
            notes += ("calibration not compared with the pair's: an image is left out",)
        if depth is not None and not any(image.depth is not None for image in images):
            notes += (
                f"{depth.topic} reaches no image: out of view, or tf does not join their frames",
            )
        T_world_lidar = None
        if pair.T_world_base is not None:
            T_base_frame = self._calibration.extrinsics(
                self.base_frame, cloud.frame_id, cloud.stamp_ns, log_ns
            )
            T_world_lidar = pair.T_world_base @ T_base_frame @ cloud.T_frame_cloud
        return Frame(
            cloud.stamp_ns,
            cloud.cloud,
            images,
            T_world_lidar,
            sequence=self.name,
            index=row,
            notes=notes,
        )

    def _message(self, pair: PairRecord, role: str) -> BagMessage:
        topic, stamp_ns = pair.messages[role]
        message = self._reader.read(self._rows[topic, stamp_ns])
        if message is None:
            raise DatasetError(
                f"{topic} at {stamp_ns / 1e9:.6f} s lies in a damaged part of {self.path}",
                "leave this frame out, or restore the bag from a backup",
            )
        return message

    def _log_ns(self, pair: PairRecord) -> int:
        role = "points" if "points" in pair.messages else "depth"
        return int(self._reader.index["log_ns"][self._rows[pair.messages[role]]])

    def _picture(self, pair: PairRecord, role: str) -> ImageMessage:
        message = self._message(pair, role)
        if message.type_name == COMPRESSED_IMAGE:
            return decode_compressed_image(message.raw)
        return decode_image(message.raw)

    def _depth_beside_points(self, pair: PairRecord) -> tuple[_Depth | None, tuple[str, ...]]:
        """The depth image; where the cloud does not need it, one without calibration is a note."""
        try:
            return self._depth(pair), ()
        except CalibrationMissing as error:
            if "points" not in pair.messages:
                raise
            return None, (f"the depth image is left out: {error.problem}",)

    def _depth(self, pair: PairRecord) -> _Depth | None:
        if "depth" not in pair.messages:
            return None
        topic, stamp_ns = pair.messages["depth"]
        picture = self._picture(pair, "depth")
        if not picture.is_depth:
            raise DatasetError(
                f"{topic} holds {picture.encoding} images, not depth", "record 16UC1 or 32FC1"
            )
        frame_id = picture.header.frame_id
        camera = self._calibration.camera(topic, frame_id, stamp_ns)
        depth = picture.pixels
        if depth.shape != (camera.height, camera.width):
            raise DatasetError(
                f"{topic} is {depth.shape}, its camera_info {(camera.height, camera.width)}",
                "publish the camera_info of exactly this image size",
            )
        return _Depth(topic, stamp_ns, frame_id, camera, depth)

    def _cloud(self, pair: PairRecord, depth: _Depth | None) -> _Cloud:
        if depth is None or "points" in pair.messages:
            decoded = decode_cloud(self._message(pair, "points").raw)
            frame_id = decoded.header.frame_id
            return _Cloud(pair.messages["points"][1], decoded.cloud(), frame_id, np.eye(4))
        xyz_cam = organised_cloud(depth.pixels, depth.camera).reshape(-1, 3)
        xyz_cam = xyz_cam[np.isfinite(xyz_cam[:, 0])]
        body = PointCloud((xyz_cam @ R_OPTICAL_BODY).astype(np.float32), frame_id=depth.frame_id)
        return _Cloud(depth.stamp_ns, body, depth.frame_id, _T_OPTICAL_BODY)

    def _image(
        self, pair: PairRecord, role: str, cloud: _Cloud, depth: _Depth | None, log_ns: int
    ) -> CameraImage:
        topic, stamp_ns = pair.messages[role]
        picture = self._picture(pair, role)
        frame_id = picture.header.frame_id
        camera = self._calibration.camera(topic, frame_id, stamp_ns)
        T_cam_frame = self._calibration.extrinsics(frame_id, cloud.frame_id, stamp_ns, log_ns)
        C = cloud.T_frame_cloud
        motion = self._motion(pair, cloud.frame_id, cloud.stamp_ns, stamp_ns, log_ns)
        image = CameraImage(
            _camera_name(role),
            stamp_ns,
            picture.pixels,
            camera,
            T_cam_frame @ C,
            None if motion is None else inverse(C) @ motion @ C,
        )
        if depth is None:
            return image
        try:
            T_colour_depth = self._calibration.extrinsics(
                frame_id, depth.frame_id, stamp_ns, log_ns
            )
        except CalibrationMissing:
            return image  # of a cloud that is not made from depth; a note tells it
        motion = self._motion(pair, depth.frame_id, depth.stamp_ns, stamp_ns, log_ns)
        if motion is not None:
            T_colour_depth = T_colour_depth @ motion
        return replace(image, depth=self._register(image, depth, T_colour_depth))

    def _register(
        self, image: CameraImage, depth: _Depth, T_colour_depth: Array
    ) -> npt.NDArray[np.float32] | None:
        """The depth image as the colour camera sees it; None where it sees nothing of it."""
        camera = depth.camera
        if same_camera(camera, image.camera) and np.allclose(T_colour_depth, np.eye(4), atol=1e-9):
            return depth.pixels  # the driver has registered it
        known = self._registrations.get(image.name)
        if (
            known is None
            or not same_camera(known.depth_camera, camera)
            or not same_camera(known.colour_camera, image.camera)
        ):
            known = self._registrations[image.name] = DepthRegistration(camera, image.camera)
        seen = known(depth.pixels, T_colour_depth)
        return seen if seen.any() else None

    def _motion(
        self, pair: PairRecord, frame_id: str, start_ns: int, end_ns: int, log_ns: int
    ) -> Array | None:
        """A frame at one time to the same frame at another; None where that is not known."""
        if start_ns == end_ns or not pair.world_frame:
            return None
        buffer = self._calibration.around(log_ns)
        try:
            before = buffer.lookup(pair.world_frame, frame_id, start_ns)
            after = buffer.lookup(pair.world_frame, frame_id, end_ns)
        except CalibrationMissing:
            return None
        return inverse(after) @ before

    def _check_calibration(
        self, row: int, pair: PairRecord, images: tuple[CameraImage, ...]
    ) -> tuple[str, ...]:
        if not pair.calibration_id:
            return ("the pair names no calibration; the one recorded last before it was used",)
        found = calibration_id(images)
        if found != pair.calibration_id:
            raise DatasetError(
                f"frame {row} of {self.path} was recorded with calibration {pair.calibration_id}, "
                f"but its camera_info and tf give {found}",
                "record camera_info and /tf_static completely; leave out frames in which the "
                "calibration changes",
            )
        return ()
