"""`FramePlayback`: the frames of a data set as the messages a robot would send."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from condense_ros import wire
from condense_ros.datasets import Dataset
from condense_ros.frame import Frame
from condense_ros.geometry import Array, inverse
from condense_ros.playback.messages import LATCHED, STATE, Outgoing, PlaybackConfig
from condense_ros.playback.sensor_messages import (
    BASE,
    LIDAR,
    MAP,
    ODOM,
    camera_messages,
    cloud_message,
    optical_frame,
    twist_between,
)
from condense_ros.wire import Header, StampedTransform
from condense_ros.wire.header import SECOND_NS


class FramePlayback:
    """Topics: /points, /camera/NAME/image(/compressed), /camera/NAME/depth,
    /camera/NAME/camera_info, /tf, /tf_static, /odom.

    Frames of tf: odom -> base_link -> lidar and NAME_optical_frame. A simulated folder has odometry
    of its own, which drifts: there odom -> base_link is that odometry and map -> odom what corrects
    it to the truth, as a localisation system would. Other data sets have one pose, which becomes
    odom -> base_link; map is not published. Without poses there is neither.
    """

    def __init__(self, dataset: Dataset, config: PlaybackConfig) -> None:
        self._dataset = dataset
        self._config = config
        self.name = dataset.name
        first = dataset[0]
        self._first = first
        self._stamps: Any = getattr(dataset, "stamps_ns", None)
        self._odometry: Array | None = getattr(dataset, "T_odom_base", None)
        mounting = dataset.T_base_lidar
        self._T_base_lidar = np.eye(4) if mounting is None else mounting
        self._mountings: dict[str, Array] = {}
        notes = list(first.notes)
        if mounting is None:
            notes.append(
                f"the data set ships no mounting of the lidar: {BASE} is defined as its frame"
            )
        if first.T_world_lidar is None:
            notes.append(f"the data set ships no poses: /odom and {ODOM} -> {BASE} are not sent")
        elif self._odometry is None:
            notes.append(
                f"the data set ships one pose per frame: it is sent as {ODOM} -> {BASE}; "
                f"{MAP} -> {ODOM} is not sent"
            )
        self.notes = tuple(notes)
        self.topics = {
            message.topic: (message.type_name, message.kind)
            for message in [*self.latched(), *self.step(0)]
        }

    @property
    def start_ns(self) -> int:
        return self._first.stamp_ns

    def __len__(self) -> int:
        return len(self._dataset)

    def step_at(self, offset_s: float) -> int:
        if self._stamps is not None:
            return int(np.searchsorted(self._stamps, self.start_ns + round(offset_s * SECOND_NS)))
        return min(len(self), int(np.ceil(offset_s / self._dataset.period_s - 1e-6)))

    def latched(self) -> list[Outgoing]:
        self._mountings = {}
        return list(self._static(self._first))

    def step(self, index: int, *, late: bool = False) -> list[Outgoing]:
        frame = self._dataset[index]
        out = [*self._static(frame), *self._motion(frame, index)]
        for image in frame.images:
            out += camera_messages(image, self._config)
        out.append(self._points(frame))
        # stable: at one stamp transforms and camera_info stay before the data
        out.sort(key=lambda message: message.stamp_ns)
        return out

    def _static(self, frame: Frame) -> Iterator[Outgoing]:
        """The mountings, where they differ from those sent last (KITTI's objects)."""
        mountings = {LIDAR: self._T_base_lidar}
        for image in frame.images:
            T_base_cam = self._T_base_lidar @ inverse(image.T_cam_lidar)
            mountings[optical_frame(image.name)] = T_base_cam
        known = self._mountings
        if all(name in known and np.array_equal(known[name], T) for name, T in mountings.items()):
            return
        self._mountings = known | mountings
        stamp_ns = min([frame.stamp_ns, *(image.stamp_ns for image in frame.images)])
        transforms = [StampedTransform(stamp_ns, BASE, name, T) for name, T in mountings.items()]
        yield Outgoing("/tf_static", wire.TF, stamp_ns, wire.encode_tf(transforms), LATCHED)

    def _base_pose(self, frame: Frame, index: int) -> Array | None:
        """T_odom_base at the cloud's stamp."""
        if self._odometry is not None:
            return np.asarray(self._odometry[index])
        if frame.T_world_lidar is None:
            return None
        return frame.T_world_lidar @ inverse(self._T_base_lidar)

    def _motion(self, frame: Frame, index: int) -> Iterator[Outgoing]:
        pose = self._base_pose(frame, index)
        if pose is None:
            return
        stamp_ns = frame.stamp_ns
        twist = self._twist(pose, stamp_ns, index)
        odometry = wire.Odometry(Header(stamp_ns, ODOM), BASE, pose, twist)
        yield Outgoing("/odom", wire.ODOMETRY, stamp_ns, wire.encode_odometry(odometry), STATE)
        poses = {stamp_ns: [StampedTransform(stamp_ns, ODOM, BASE, pose)]}
        if self._odometry is not None and frame.T_world_lidar is not None:
            T_map_base = frame.T_world_lidar @ inverse(self._T_base_lidar)
            correction = T_map_base @ inverse(pose)
            poses[stamp_ns].append(StampedTransform(stamp_ns, MAP, ODOM, correction))
        for image in frame.images:
            if image.ego_motion is not None and image.stamp_ns not in poses:
                T_base_lidar = self._T_base_lidar
                moved = pose @ T_base_lidar @ inverse(image.ego_motion) @ inverse(T_base_lidar)
                poses[image.stamp_ns] = [StampedTransform(image.stamp_ns, ODOM, BASE, moved)]
        for at, transforms in poses.items():
            yield Outgoing("/tf", wire.TF, at, wire.encode_tf(transforms), STATE)

    def _twist(self, pose: Array, stamp_ns: int, index: int) -> Array:
        """(6,) velocity in the base frame since the frame before; zero at the first."""
        if not index:
            return np.zeros(6)
        if self._odometry is not None and self._stamps is not None:
            before, then_ns = np.asarray(self._odometry[index - 1]), int(self._stamps[index - 1])
        elif self._dataset.poses is not None:
            before = self._dataset.poses[index - 1] @ inverse(self._T_base_lidar)
            then_ns = stamp_ns - round(self._dataset.period_s * SECOND_NS)
        else:
            return np.zeros(6)
        return twist_between(before, pose, (stamp_ns - then_ns) / SECOND_NS)

    def _points(self, frame: Frame) -> Outgoing:
        extra = {}
        if self._config.labels and frame.labels is not None:
            extra["label"] = frame.labels
        return cloud_message(frame.cloud, frame.stamp_ns, extra)

    def close(self) -> None:
        """Nothing is held open."""
