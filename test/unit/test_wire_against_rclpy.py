"""The bytes of every codec, compared both ways with rclpy's own serialisation."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
import pytest

from condense_ros import wire
from condense_ros.geometry import CameraModel, rotation_rpy, se3
from condense_ros.wire import cdr

serialization = pytest.importorskip("rclpy.serialization")
pytestmark = pytest.mark.ros

STAMP = 1_700_000_000_123_456_789
HEADER = wire.Header(STAMP, "lidar_top")
T = se3(rotation_rpy(0.1, -0.2, 2.5), [1.0, -2.0, 3.5])


def ros(module: str, kind: str, /, **fields: Any) -> Any:
    return getattr(pytest.importorskip(f"{module}.msg"), kind)(**fields)


def ros_header(stamp: int = STAMP, frame: str = "lidar_top") -> Any:
    time = ros("builtin_interfaces", "Time", sec=stamp // 10**9, nanosec=stamp % 10**9)
    return ros("std_msgs", "Header", stamp=time, frame_id=frame)


def ros_bytes(message: Any) -> bytes:
    return bytes(serialization.serialize_message(message))


def same_bytes(ours: bytes, theirs: Any) -> bool:
    """Whether bytes equal rclpy's, but for padding between fields.

    rclpy leaves whatever was in memory there. Padding is told by experiment: changing such a byte
    of ours changes nothing for rclpy.
    """
    expected = ros_bytes(theirs)
    assert len(ours) == len(expected)
    assert serialization.deserialize_message(ours, type(theirs)) == theirs
    differing = [i for i in range(len(ours)) if ours[i] != expected[i]]
    for i in differing:
        changed = bytearray(ours)
        changed[i] ^= 0xFF
        assert ours[i] == 0
        assert serialization.deserialize_message(bytes(changed), type(theirs)) == theirs
    return len(differing) < 64


def filled(kind: str, values: np.ndarray) -> array.array:
    out = array.array(kind)
    out.frombytes(values.tobytes())
    return out


def ros_image(pixels: np.ndarray, encoding: str) -> Any:
    return ros(
        "sensor_msgs",
        "Image",
        header=ros_header(),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        step=pixels.nbytes // pixels.shape[0],
        data=filled("B", pixels),
    )


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (48, 64)])
def test_image(rng, size):
    pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    theirs = ros_image(pixels, "rgb8")
    assert same_bytes(wire.encode_image(HEADER, pixels), theirs)
    ours = wire.decode_image(ros_bytes(theirs))
    assert ours.header == HEADER
    np.testing.assert_array_equal(ours.pixels, pixels)


def test_depth_image(rng):
    depth = rng.uniform(0.5, 20, (6, 9)).astype(np.float32)
    assert same_bytes(wire.encode_image(HEADER, depth, "32FC1"), ros_image(depth, "32FC1"))
    millimetres = np.rint(depth * 1000).astype(np.uint16)
    theirs = ros_image(millimetres, "16UC1")
    assert same_bytes(wire.encode_image(HEADER, depth, "16UC1"), theirs)
    decoded = wire.decode_image(ros_bytes(theirs)).pixels
    np.testing.assert_allclose(decoded, millimetres / 1000, atol=1e-6)


def test_compressed_image(rng):
    pixels = rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)
    raw = wire.encode_compressed_image(HEADER, pixels, "png")
    kind = type(ros("sensor_msgs", "CompressedImage"))
    theirs = serialization.deserialize_message(raw, kind)
    assert theirs.format == "png"
    assert theirs.header == ros_header()
    assert same_bytes(raw, theirs)
    np.testing.assert_array_equal(wire.decode_compressed_image(ros_bytes(theirs)).pixels, pixels)


@pytest.mark.parametrize(
    ("coefficients", "name"), [(5, "plumb_bob"), (8, "rational_polynomial"), (4, "equidistant")]
)
def test_camera_info(rng, coefficients, name):
    K = np.array([[500.0, 0, 320], [0, 510, 240], [0, 0, 1]])
    model = "fisheye" if name == "equidistant" else "pinhole"
    camera = CameraModel(K, 640, 480, rng.normal(size=coefficients) * 0.01, model)
    raw = wire.encode_camera_info(HEADER, camera)
    theirs = ros(
        "sensor_msgs",
        "CameraInfo",
        header=ros_header(),
        width=640,
        height=480,
        distortion_model=name,
        d=camera.D.tolist(),
        k=K.reshape(9),
        r=np.eye(3).reshape(9),
        p=np.hstack([K, np.zeros((3, 1))]).reshape(12),
    )
    assert same_bytes(raw, theirs)
    header, decoded = wire.decode_camera_info(ros_bytes(theirs))
    assert header == HEADER
    np.testing.assert_array_equal(decoded.D, camera.D)
    np.testing.assert_array_equal(decoded.K, K)


def test_point_cloud(rng):
    xyz = rng.normal(size=(33, 3)).astype(np.float32)
    ring = rng.integers(0, 64, 33).astype(np.uint16)
    fields = {"x": xyz[:, 0], "y": xyz[:, 1], "z": xyz[:, 2], "ring": ring}
    layout = [("x", 0, 7), ("y", 4, 7), ("z", 8, 7), ("ring", 12, 4)]
    packed = np.empty(33, np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("ring", "<u2")]))
    for name, values in fields.items():
        packed[name] = values
    theirs = ros(
        "sensor_msgs",
        "PointCloud2",
        header=ros_header(),
        height=1,
        width=33,
        fields=[
            ros("sensor_msgs", "PointField", name=name, offset=offset, datatype=kind, count=1)
            for name, offset, kind in layout
        ],
        point_step=14,
        row_step=14 * 33,
        data=filled("B", packed),
        is_dense=True,
    )
    assert same_bytes(wire.encode_cloud(HEADER, fields), theirs)
    cloud = wire.decode_cloud(ros_bytes(theirs)).cloud()
    np.testing.assert_array_equal(cloud.xyz, xyz)
    np.testing.assert_array_equal(cloud.ring, ring)


def test_odometry_and_pose(rng):
    twist, covariance = rng.normal(size=6), np.diag(np.arange(1.0, 7.0))
    odometry = wire.Odometry(wire.Header(STAMP, "odom"), "base_link", T, twist, covariance)
    raw = wire.encode_odometry(odometry)
    theirs = serialization.deserialize_message(raw, type(ros("nav_msgs", "Odometry")))
    assert theirs.child_frame_id == "base_link"
    assert theirs.pose.pose.position.x == 1.0
    assert theirs.twist.twist.angular.z == twist[5]
    assert same_bytes(raw, theirs)
    decoded = wire.decode_odometry(ros_bytes(theirs))
    np.testing.assert_allclose(decoded.T_odom_base, T, atol=1e-12)
    np.testing.assert_array_equal(decoded.twist, twist)

    raw = wire.encode_pose(HEADER, T, covariance)
    kind = type(ros("geometry_msgs", "PoseWithCovarianceStamped"))
    theirs = serialization.deserialize_message(raw, kind)
    np.testing.assert_array_equal(theirs.pose.covariance.reshape(6, 6), covariance)
    assert same_bytes(raw, theirs)
    np.testing.assert_allclose(wire.decode_pose(ros_bytes(theirs))[1], T, atol=1e-12)


def test_transforms():
    raw = wire.encode_tf([wire.StampedTransform(STAMP, "lidar_top", "camera", T)])
    message = cdr.deserialize(wire.TF, raw).transforms[0]
    one = cdr.serialize("geometry_msgs/msg/TransformStamped", message)
    theirs = serialization.deserialize_message(one, type(ros("geometry_msgs", "TransformStamped")))
    assert theirs.header == ros_header()
    assert theirs.child_frame_id == "camera"
    assert same_bytes(one, theirs)
    tf2 = pytest.importorskip("tf2_msgs.msg", reason="the interface workspace is not built")
    assert same_bytes(raw, tf2.TFMessage(transforms=[theirs]))
    back = wire.decode_tf(ros_bytes(tf2.TFMessage(transforms=[theirs])))[0]
    np.testing.assert_allclose(back.T, T, atol=1e-12)


def test_clock_and_diagnostics():
    time = ros("builtin_interfaces", "Time", sec=STAMP // 10**9, nanosec=STAMP % 10**9)
    clock = ros("rosgraph_msgs", "Clock", clock=time)
    assert same_bytes(wire.encode_clock(STAMP), clock)
    assert wire.decode_clock(ros_bytes(clock)) == STAMP
    status = ros(
        "diagnostic_msgs",
        "DiagnosticStatus",
        level=b"\x02",
        name="capture",
        message="no camera_info",
        values=[ros("diagnostic_msgs", "KeyValue", key="pairs", value="7")],
    )
    theirs = ros("diagnostic_msgs", "DiagnosticArray", header=ros_header(), status=[status])
    ours = wire.Diagnostic("capture", 2, "no camera_info", {"pairs": 7})
    assert same_bytes(wire.encode_diagnostics(HEADER, [ours]), theirs)
    assert wire.decode_diagnostics(ros_bytes(theirs))[1][0].values == {"pairs": "7"}


@pytest.mark.parametrize(
    "type_name",
    ["Image", "CompressedImage", "CameraInfo", "PointCloud2", "Range", "LaserScan"],
)
def test_default_message(type_name):
    """`cdr.message` fills nested defaults as ROS does."""
    name = f"sensor_msgs/msg/{type_name}"
    assert same_bytes(cdr.serialize(name, cdr.message(name)), ros("sensor_msgs", type_name))
