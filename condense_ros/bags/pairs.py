"""`PairRecord`: which messages of a bag belong together, with calibration id and pose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from condense_ros.errors import BagError
from condense_ros.geometry import Array, check_se3, quaternion_from_rotation, se3
from condense_ros.geometry import rotation_from_quaternion as rotation
from condense_ros.wire import cdr
from condense_ros.wire.header import (
    Header,
    header_from_message,
    header_to_message,
    stamp_from_message,
    stamp_to_message,
)

PAIR_TYPE = "condense_msgs/msg/Pair"
PAIR_TOPIC = "/condense/pairs"


@dataclass(frozen=True, eq=False)
class PairRecord:
    """One match of the synchroniser.

    Attributes:
        stamp_ns: stamp of the pivot message (the cloud's, where there is one), nanoseconds.
        messages: role ("points", "depth", "image", "image/front", ...) to (topic, stamp_ns).
        calibration_id: of the intrinsics and extrinsics in force; empty where unknown.
        T_world_base: (4, 4) pose of the base frame at `stamp_ns`, or None.
        world_frame: parent frame of the pose, e.g. "odom".
        frame_id: frame of the pivot message.

    Raises:
        GeometryError: T_world_base is not rigid.
    """

    stamp_ns: int
    messages: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    calibration_id: str = ""
    T_world_base: Array | None = None
    world_frame: str = ""
    frame_id: str = ""

    def __post_init__(self) -> None:
        if self.T_world_base is not None:
            pose = check_se3(self.T_world_base, "T_world_base of a pair")
            object.__setattr__(self, "T_world_base", pose)

    def encode(self) -> bytes:
        """CDR bytes of a condense_msgs/Pair.

        Raises:
            WireError: a stamp that no ROS message can hold.
        """
        fields = {
            "header": header_to_message(Header(self.stamp_ns, self.frame_id)),
            "roles": list(self.messages),
            "topics": [topic for topic, _ in self.messages.values()],
            "stamps": [stamp_to_message(stamp) for _, stamp in self.messages.values()],
            "offsets_s": _offsets(self),
            "calibration_id": self.calibration_id,
            "has_pose": self.T_world_base is not None,
            "world_frame": self.world_frame,
        }
        if self.T_world_base is not None:
            x, y, z = self.T_world_base[:3, 3].tolist()
            qx, qy, qz, qw = quaternion_from_rotation(self.T_world_base[:3, :3]).tolist()
            fields["pose"] = cdr.message(
                "geometry_msgs/msg/Pose",
                position=cdr.message("geometry_msgs/msg/Point", x=x, y=y, z=z),
                orientation=cdr.message("geometry_msgs/msg/Quaternion", x=qx, y=qy, z=qz, w=qw),
            )
        return cdr.serialize(PAIR_TYPE, cdr.message(PAIR_TYPE, **fields))

    @classmethod
    def decode(cls, raw: cdr.Bytes) -> PairRecord:
        """The record in CDR bytes of a condense_msgs/Pair.

        Raises:
            WireError: malformed bytes.
            BagError: lists of different lengths.
            GeometryError: an invalid pose.
        """
        message = cdr.deserialize(PAIR_TYPE, raw)
        roles, topics, stamps = message.roles, message.topics, message.stamps
        if not len(roles) == len(topics) == len(stamps):
            raise BagError(
                f"pair record with {len(roles)} roles, {len(topics)} topics, {len(stamps)} stamps",
                "record it again with this version",
            )
        header = header_from_message(message.header)
        pose = None
        if message.has_pose:
            p, q = message.pose.position, message.pose.orientation
            pose = se3(rotation([q.x, q.y, q.z, q.w]), [p.x, p.y, p.z])
        matched = zip(topics, map(stamp_from_message, stamps), strict=True)
        return cls(
            header.stamp_ns,
            dict(zip(roles, matched, strict=True)),
            message.calibration_id,
            pose,
            message.world_frame,
            header.frame_id,
        )


def _offsets(record: PairRecord) -> Array:
    stamps = [stamp for _, stamp in record.messages.values()]
    return np.array([(stamp - record.stamp_ns) / 1e9 for stamp in stamps], dtype=np.float64)
