"""Calibration of a pair: intrinsics by topic, extrinsics by frame, and the id of both together."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from condense_ros import wire
from condense_ros.errors import CalibrationMissing
from condense_ros.frame import CameraImage, calibration_id
from condense_ros.geometry import R_OPTICAL_BODY, Array, CameraModel, se3
from condense_ros.wire.cdr import Bytes

#: camera_info messages remembered per camera: a pair may be matched after later ones have come
_RECENT = 64
_T_OPTICAL_BODY = se3(R_OPTICAL_BODY, np.zeros(3))


#: intrinsics of a camera, and (4, 4) T_cam_points
View = tuple[CameraModel, Array]


@dataclass(frozen=True)
class ImageFacts:
    """What calibration needs to know of an image: where, when, how large; no pixels."""

    frame_id: str
    stamp_ns: int
    width: int
    height: int


class CalibrationState:
    """Keeps the recent camera_info of each camera and all transforms, and names their state.

    Args:
        cache_s: how long transforms are kept.
    """

    def __init__(self, cache_s: float = 10.0) -> None:
        self.tf = wire.TfBuffer(cache_s)
        self._cameras: dict[str, deque[tuple[int, CameraModel]]] = {}
        self._cached: tuple[object, str] | None = None

    def add_camera_info(self, topic: str, raw: Bytes) -> None:
        """Takes a camera_info message.

        Raises:
            WireError: malformed, uncalibrated (K = 0), or of an unsupported distortion model.
        """
        header, camera = wire.decode_camera_info(raw)
        recent = self._cameras.setdefault(topic, deque(maxlen=_RECENT))
        recent.append((header.stamp_ns, camera))

    def camera(self, topic: str, image: ImageFacts) -> CameraModel:
        """The intrinsics for an image: of the camera_info sent with it or last before it.

        Where all stamps are later (or of another clock), the one that came last counts.

        Raises:
            CalibrationMissing: no usable camera_info came, or it is of another image size.
        """
        recent = self._cameras.get(topic)
        if recent is None:
            raise CalibrationMissing(
                f"no camera_info on {topic}",
                "publish the camera's calibration there; intrinsics are never guessed",
            )
        # reversed: of equal stamps, the one that came last
        before = [entry for entry in reversed(recent) if entry[0] <= image.stamp_ns]
        _, camera = max(before, key=lambda entry: entry[0]) if before else recent[-1]
        if (camera.width, camera.height) != (image.width, image.height):
            raise CalibrationMissing(
                f"{topic} is for {camera.width}x{camera.height}, the image is "
                f"{image.width}x{image.height}",
                "publish the calibration of exactly the image that is sent",
            )
        return camera

    def views(
        self, images: Mapping[str, tuple[str, ImageFacts]], cloud_frame: str, depth: bool
    ) -> dict[str, View]:
        """Calibration of every camera of a pair.

        Args:
            images: camera name -> (camera_info topic, image).
            cloud_frame: frame of the cloud or depth image.
            depth: the cloud comes from a depth image; its points are in the body frame.

        Raises:
            CalibrationMissing: intrinsics or extrinsics of a camera are not known.
        """
        T_frame_cloud = _T_OPTICAL_BODY if depth else np.eye(4)
        found: dict[str, View] = {}
        for name, (topic, image) in images.items():
            camera = self.camera(topic, image)
            if not image.frame_id or not cloud_frame:
                raise CalibrationMissing(
                    f"the messages of camera {name!r} or of the cloud have an empty frame_id",
                    "set frame_id in the drivers, so that tf can place them",
                )
            T = self.tf.lookup(image.frame_id, cloud_frame, image.stamp_ns) @ T_frame_cloud
            found[name] = (camera, T)
        return found

    def identify(self, views: Mapping[str, View]) -> str:
        """The calibration id of a pair, as `BagDataset` computes it when it reads the pair."""
        state = tuple(
            (name, c.width, c.height, c.K.tobytes(), c.D.tobytes(), T.tobytes())
            for name, (c, T) in views.items()
        )
        if self._cached is None or self._cached[0] != state:
            self._cached = (state, _identify(views))
        return self._cached[1]


def _identify(views: Mapping[str, View]) -> str:
    return calibration_id(
        tuple(
            # a picture of the right shape that takes no memory
            CameraImage(
                name,
                0,
                np.broadcast_to(np.uint8(0), (camera.height, camera.width, 3)),
                camera,
                T,
            )
            for name, (camera, T) in views.items()
        )
    )
