"""Intrinsics, extrinsics and motion at any time of a recorded bag."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from condense_ros.bags.reader import BagReader
from condense_ros.errors import CalibrationMissing
from condense_ros.geometry import Array, CameraModel
from condense_ros.wire import (
    CAMERA_INFO,
    ODOMETRY,
    TF,
    StampedTransform,
    TfBuffer,
    decode_camera_info,
    decode_odometry,
    decode_tf,
)
from condense_ros.wire.topics import camera_info_topic

#: moving transforms are taken from this long before and after a frame
WINDOW_NS = 2_000_000_000
#: states of the static transforms kept at hand; a bag may repeat /tf_static for ever
MAX_BUFFERS = 4


class BagCalibration:
    """Calibration in force at a message of a bag.

    Static transforms recorded later than the frame are used only where no earlier one joins the
    frames: a recorder may hear /tf_static after the first clouds.
    """

    def __init__(self, reader: BagReader) -> None:
        self._reader = reader
        index = reader.index
        kinds = {topic: kind.type_name for topic, kind in reader.topics.items()}
        # rows of the bag's index, by stamp
        self._infos: dict[str, npt.NDArray[np.int64]] = {}
        for topic in (topic for topic, kind in kinds.items() if kind == CAMERA_INFO):
            rows = reader.rows([topic])
            if rows.size:
                self._infos[topic] = rows[np.argsort(index["stamp_ns"][rows], kind="stable")]
        static = {t for t, kind in kinds.items() if kind == TF and t.endswith("tf_static")}
        moving = {t for t, kind in kinds.items() if kind in (TF, ODOMETRY)} - static
        rows = reader.rows(moving)
        self._moving = rows[np.argsort(index["log_ns"][rows], kind="stable")]
        self._moving_log = index["log_ns"][self._moving]
        rows = reader.rows(static)
        self._static_log = index["log_ns"][rows]
        self._statics = [self._transforms(int(row)) for row in rows]
        # static transforms known after so many messages; the least recently used give way
        self._buffers: OrderedDict[int, TfBuffer] = OrderedDict()

    @property
    def has_cameras(self) -> bool:
        """Whether any camera_info was recorded."""
        return bool(self._infos)

    def camera(self, image_topic: str, frame_id: str, stamp_ns: int) -> CameraModel:
        """Intrinsics of an image: the last camera_info before it, or the first after it.

        The topic beside the image counts, else the one with the image's frame.

        Raises:
            CalibrationMissing: no camera_info was recorded for it.
            WireError: it cannot be used (K = 0, ...).
        """
        beside = camera_info_topic(image_topic)
        for topic in [beside] if beside in self._infos else self._infos:
            rows = self._infos[topic]
            before = np.searchsorted(self._reader.index["stamp_ns"][rows], stamp_ns, "right")
            message = self._reader.read(int(rows[max(0, int(before) - 1)]))
            if message is None:
                continue
            header, camera = decode_camera_info(message.raw)
            if topic == beside or header.frame_id == frame_id:
                return camera
        raise CalibrationMissing(
            f"{self._reader.path} has no camera_info for {image_topic} (frame {frame_id!r})",
            f"record camera_info too: add {beside} to the recorded topics",
        )

    def extrinsics(self, target: str, source: str, stamp_ns: int, log_ns: int) -> Array:
        """T_target_source (4, 4) at a stamp, for a message received at `log_ns`.

        Raises:
            CalibrationMissing: no recorded transform joins the frames at that time.
        """
        if not target or not source:
            raise CalibrationMissing(
                f"{self._reader.path} has messages with an empty frame_id",
                "set frame_id in the drivers, so that tf can place them",
            )
        if target == source:
            return np.eye(4)
        known = int(np.searchsorted(self._static_log, log_ns, "right"))
        for buffer in (self._static(known), self._static(len(self._statics))):
            try:
                if buffer.is_static(target, source):
                    return buffer.lookup(target, source, stamp_ns)
            except CalibrationMissing:
                pass
        return self.around(log_ns).lookup(target, source, stamp_ns)

    def around(self, log_ns: int) -> TfBuffer:
        """All transforms received around a time, moving ones and odometry included."""
        buffer = TfBuffer(cache_s=1e9)
        for transforms in self._statics:
            _add(buffer, transforms, static=True)
        window = np.array([max(0, log_ns - WINDOW_NS), log_ns + WINDOW_NS], np.uint64)
        first, last = np.searchsorted(self._moving_log, window, "right").tolist()
        children = {t.child for transforms in self._statics for t in transforms}
        odometry: list[StampedTransform] = []
        for row in self._moving[first:last].tolist():
            transforms = self._transforms(row)
            if self._kind(row) == TF:
                _add(buffer, transforms, static=False)
                children.update(t.child for t in transforms)
            else:
                odometry += transforms
        # where tf already places a frame, a second source would tear it from its parent
        _add(buffer, [t for t in odometry if t.child not in children], static=False)
        return buffer

    def base_frame(self, world_frame: str) -> str:
        """The frame whose pose the recorded odometry gives in `world_frame`; base_link if none."""
        for row in self._moving[:200].tolist():
            if self._kind(row) == ODOMETRY:
                for transform in self._transforms(row):
                    if transform.parent == world_frame:
                        return transform.child
        return "base_link"

    def _static(self, known: int) -> TfBuffer:
        if known not in self._buffers:
            buffer = self._buffers[known] = TfBuffer()
            for transforms in self._statics[:known]:
                _add(buffer, transforms, static=True)
            if len(self._buffers) > MAX_BUFFERS:
                self._buffers.popitem(last=False)
        self._buffers.move_to_end(known)
        return self._buffers[known]

    def _kind(self, row: int) -> str:
        return self._reader.topics[self._reader.topic(row)].type_name

    def _transforms(self, row: int) -> list[StampedTransform]:
        message = self._reader.read(row)
        if message is None:
            return []
        if message.type_name == TF:
            return decode_tf(message.raw)
        odometry = decode_odometry(message.raw)
        header = odometry.header
        T = odometry.T_odom_base
        return [StampedTransform(header.stamp_ns, header.frame_id, odometry.child_frame_id, T)]


def _add(buffer: TfBuffer, transforms: list[StampedTransform], *, static: bool) -> None:
    for transform in transforms:
        buffer.add(transform, static=static)
