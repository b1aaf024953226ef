"""`SimulatedPlayback`: every sensor of a simulated robot at its own rate, with its faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from condense_ros import wire
from condense_ros.frame import CameraImage
from condense_ros.geometry import Array, inverse
from condense_ros.playback.messages import LATCHED, STATE, Outgoing, PlaybackConfig
from condense_ros.playback.sensor_messages import (
    BASE,
    LIDAR,
    MAP,
    ODOM,
    camera_messages,
    cloud_message,
    imu_message,
    optical_frame,
    token,
    twist_between,
)
from condense_ros.sim.driving.motion import Motion, Stops
from condense_ros.sim.folders.encode import NO_INSTANCE
from condense_ros.sim.folders.faults import IMU, ODOMETRY
from condense_ros.sim.folders.plan import Series, world_times
from condense_ros.sim.folders.render import Picture, Sweep
from condense_ros.sim.sensors.rig import Rig
from condense_ros.wire import Header, StampedTransform
from condense_ros.wire.header import SECOND_NS

#: of messages of one time, what others need comes first
_FIRST = {ODOMETRY: 0, IMU: 1}
#: a second copy of a message comes this much later
_COPY_NS = 1_000_000
Sample = tuple[str, int]


class Source(Protocol):
    """Samples of a simulated robot: from a folder, or rendered when they are needed.

    Attributes:
        name: of the drive.
        notes: for the log.
        rig: sensors as published.
        motion: exact T_world_base at any time.
        series: times and fate of every sensor's samples.
        T_odom_base, imu: one row per sample of these sensors.
    """

    name: str
    notes: tuple[str, ...]
    rig: Rig
    motion: Motion | Stops
    series: dict[str, Series]
    T_odom_base: Array
    imu: Array

    def sweep(self, number: int, ahead: Sequence[Sample]) -> Sweep:
        """A sweep; `ahead`: the samples that will be asked for next."""
        ...

    def picture(self, camera: str, number: int, ahead: Sequence[Sample]) -> Picture:
        """An image with the pixel truth there is, stamps and calibration as published."""
        ...

    def close(self) -> None:
        """Ends what works for this source."""
        ...


class SimulatedPlayback:
    """Topics: /points, /camera/NAME/image(/compressed), /camera/NAME/depth,
    /camera/NAME/camera_info, /tf, /tf_static, /odom, /imu; with `truth` /ground_truth/odom and
    /camera/NAME/{semantic,instance,depth_truth}.

    One step per message of a sensor, by the time of its arrival: that is when it was taken in
    truth, later by its delay. A sweep with motion distortion arrives at its end. odom -> base_link
    is wheel odometry at its own rate, map -> odom what corrects it to the truth, as a localisation
    system would.

    Attributes:
        left_out: samples per sensor that were not made because their time was over.
    """

    def __init__(self, source: Source, config: PlaybackConfig) -> None:
        self._source, self._config = source, config
        self.name, self.notes = source.name, source.notes
        self._sensors = tuple(source.series)
        self._time, self._sensor, self._number = self._timeline()
        # samples that cost something to make, in the order of their arrival
        costly = np.array([name not in (ODOMETRY, IMU) for name in self._sensors])
        self._costly = np.flatnonzero(costly[self._sensor])
        self.left_out: Counter[str] = Counter()
        self.topics = self._topics()

    @property
    def start_ns(self) -> int:
        return int(self._time[0])

    def __len__(self) -> int:
        return len(self._time)

    def step_at(self, offset_s: float) -> int:
        return int(np.searchsorted(self._time, self.start_ns + round(offset_s * SECOND_NS)))

    def latched(self) -> list[Outgoing]:
        rig = self._source.rig
        mounts = {LIDAR: rig.lidar.T_base_lidar}
        mounts |= {optical_frame(c.name): c.T_base_cam for c in rig.cameras if self._has(c.name)}
        at = self.start_ns
        transforms = [StampedTransform(at, BASE, name, T) for name, T in mounts.items()]
        return [Outgoing("/tf_static", wire.TF, at, wire.encode_tf(transforms), LATCHED)]

    def step(self, index: int, *, late: bool = False) -> list[Outgoing]:
        sensor, number = self._sensors[self._sensor[index]], int(self._number[index])
        at = int(self._time[index])
        if sensor == ODOMETRY:
            return self._odometry(number, at)
        if sensor == IMU:
            stamp_ns = int(self._source.series[IMU].stamp_ns[number])
            return [imu_message(stamp_ns, self._source.imu[number], at)]
        if late:
            self.left_out[sensor] += 1
            return []
        place = int(np.searchsorted(self._costly, index))
        ahead = [
            (self._sensors[self._sensor[k]], int(self._number[k]))
            for k in self._costly[place : place + self._config.prefetch]
        ]
        if sensor == LIDAR:
            return [self._points(self._source.sweep(number, ahead), number, at)]
        return self._camera(self._source.picture(sensor, number, ahead), at)

    def close(self) -> None:
        """Ends the source."""
        self._source.close()

    def _has(self, sensor: str) -> bool:
        return sensor in self._sensors

    def _timeline(self) -> tuple[npt.NDArray[np.int64], ...]:
        """Arrival, sensor and number of every message, by arrival."""
        rows = []
        for k, (sensor, series) in enumerate(self._source.series.items()):
            at, number = series.true_ns.copy(), np.arange(len(series))
            spec = self._source.rig.lidar
            if sensor == LIDAR and spec.motion_distortion:
                at += round(spec.period_s * SECOND_NS)
            first = np.full(len(series), _FIRST.get(sensor, 2 + k))
            if self._config.delivery:
                fate = series.delivery
                at += np.round(fate.delay_s * SECOND_NS).astype(np.int64)
                copies = np.where(fate.lost, 0, fate.copies)
                again = np.concatenate([np.arange(n) for n in copies]).astype(np.int64)
                at, number, first = (np.repeat(v, copies) for v in (at, number, first))
                at = at + again * _COPY_NS
            rows.append(np.stack([at, first, np.full(len(at), k), number], axis=1))
        table = np.concatenate(rows)
        table = table[np.lexsort((table[:, 3], table[:, 1], table[:, 0]))]
        return table[:, 0], table[:, 2], table[:, 3]

    def _topics(self) -> dict[str, tuple[str, str]]:
        topics = {
            "/tf_static": (wire.TF, LATCHED),
            "/tf": (wire.TF, STATE),
            "/odom": (wire.ODOMETRY, STATE),
            "/points": (wire.POINT_CLOUD, "sensor"),
        }
        if self._has(IMU):
            topics["/imu"] = ("sensor_msgs/msg/Imu", "sensor")
        if self._config.truth:
            topics["/ground_truth/odom"] = (wire.ODOMETRY, STATE)
        for camera in self._source.rig.cameras:
            if self._has(camera.name):
                base = f"/camera/{token(camera.name)}"
                topics[f"{base}/camera_info"] = (wire.CAMERA_INFO, LATCHED)
                if self._config.compressed:
                    topics[f"{base}/image/compressed"] = (wire.COMPRESSED_IMAGE, "sensor")
                else:
                    topics[f"{base}/image"] = (wire.IMAGE, "sensor")
                if camera.depth:
                    topics[f"{base}/depth"] = (wire.IMAGE, "sensor")
        return topics

    def _odometry(self, number: int, at: int) -> list[Outgoing]:
        source, series = self._source, self._source.series[ODOMETRY]
        stamp_ns, pose = int(series.stamp_ns[number]), source.T_odom_base[number]
        twist = np.zeros(6)
        if number:
            seconds = float(series.true_ns[number] - series.true_ns[number - 1]) / SECOND_NS
            twist = twist_between(source.T_odom_base[number - 1], pose, seconds)
        t = world_times(series.true_ns[number : number + 1])
        T_map_base = source.motion.at(t)[0]
        transforms = [
            StampedTransform(stamp_ns, ODOM, BASE, pose),
            StampedTransform(stamp_ns, MAP, ODOM, T_map_base @ inverse(pose)),
        ]
        odometry = wire.Odometry(Header(stamp_ns, ODOM), BASE, pose, twist)
        out = [
            Outgoing("/odom", wire.ODOMETRY, at, wire.encode_odometry(odometry), STATE),
            Outgoing("/tf", wire.TF, at, wire.encode_tf(transforms), STATE),
        ]
        if self._config.truth:
            # by the true clock, whatever the odometry's own says
            header = Header(int(series.true_ns[number]), MAP)
            exact = wire.Odometry(header, BASE, T_map_base, source.motion.twist(t)[0])
            raw = wire.encode_odometry(exact)
            out.append(Outgoing("/ground_truth/odom", wire.ODOMETRY, at, raw, STATE))
        return out

    def _points(self, sweep: Sweep, number: int, at: int) -> Outgoing:
        extra: dict[str, npt.NDArray[Any]] = {}
        if self._config.labels:
            extra = {"label": sweep.labels, "instance": sweep.instance, "visible": sweep.visible}
        stamp_ns = int(self._source.series[LIDAR].stamp_ns[number])
        return cloud_message(sweep.cloud, stamp_ns, extra, at)

    def _camera(self, picture: Picture, at: int) -> list[Outgoing]:
        out = camera_messages(picture.image, self._config, at)
        if self._config.truth and picture.truth is not None:
            image, truth = picture.image, picture.truth
            header = Header(image.stamp_ns, optical_frame(image.name))
            instance = np.where(truth.instance < 0, NO_INSTANCE, truth.instance)
            for kind, pixels, encoding in (
                ("semantic", truth.semantic, "mono8"),
                ("instance", instance.astype(np.uint16), "mono16"),
                ("depth_truth", truth.depth, "32FC1"),
            ):
                raw = wire.encode_image(header, pixels, encoding)
                topic = f"/camera/{token(image.name)}/{kind}"
                out.append(Outgoing(topic, wire.IMAGE, at, raw))
        return out


def as_published(image: CameraImage, rig: Rig, stamp_ns: int) -> CameraImage:
    """A rendered image with the stamp and calibration that its robot gets to see."""
    spec = next(camera for camera in rig.cameras if camera.name == image.name)
    return replace(
        image,
        stamp_ns=stamp_ns,
        camera=spec.model,
        T_cam_lidar=inverse(spec.T_base_cam) @ rig.lidar.T_base_lidar,
        ego_motion=None,
    )
