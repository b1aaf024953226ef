"""Message bytes <-> arrays. No ROS import: CDR is read through the `rosbags` type system."""

from condense_ros.wire.camera_info import CAMERA_INFO, decode_camera_info, encode_camera_info
from condense_ros.wire.cloud import (
    POINT_CLOUD,
    CloudMessage,
    cloud_fields,
    decode_cloud,
    encode_cloud,
    pack_rgb,
    unpack_rgb,
)
from condense_ros.wire.compressed_image import (
    COMPRESSED_IMAGE,
    decode_compressed_image,
    encode_compressed_image,
)
from condense_ros.wire.header import Header, read_header
from condense_ros.wire.image import IMAGE, ImageMessage, decode_image, encode_image
from condense_ros.wire.poses import (
    ODOMETRY,
    POSE,
    TF,
    Odometry,
    StampedTransform,
    decode_odometry,
    decode_pose,
    decode_tf,
    encode_odometry,
    encode_pose,
    encode_tf,
    pose_from_message,
    pose_to_message,
)
from condense_ros.wire.status import (
    CLOCK,
    DIAGNOSTICS,
    Diagnostic,
    decode_clock,
    decode_diagnostics,
    encode_clock,
    encode_diagnostics,
)
from condense_ros.wire.tf_buffer import TfBuffer

__all__ = [
    "CAMERA_INFO",
    "CLOCK",
    "COMPRESSED_IMAGE",
    "DIAGNOSTICS",
    "IMAGE",
    "ODOMETRY",
    "POINT_CLOUD",
    "POSE",
    "TF",
    "CloudMessage",
    "Diagnostic",
    "Header",
    "ImageMessage",
    "Odometry",
    "StampedTransform",
    "TfBuffer",
    "cloud_fields",
    "decode_camera_info",
    "decode_clock",
    "decode_cloud",
    "decode_compressed_image",
    "decode_diagnostics",
    "decode_image",
    "decode_odometry",
    "decode_pose",
    "decode_tf",
    "encode_camera_info",
    "encode_clock",
    "encode_cloud",
    "encode_compressed_image",
    "encode_diagnostics",
    "encode_image",
    "encode_odometry",
    "encode_pose",
    "encode_tf",
    "pack_rgb",
    "pose_from_message",
    "pose_to_message",
    "read_header",
    "unpack_rgb",
]
