"""The transform buffer: trees, time, and what is missing."""

from __future__ import annotations

import numpy as np
import pytest

from condense_ros.errors import CalibrationMissing, GeometryError, WireError
from condense_ros.geometry import inverse, rotation_rpy, se3, yaw_of
from condense_ros.wire import StampedTransform, TfBuffer, cdr, decode_tf, encode_tf

SECOND = 10**9
T_BASE_LIDAR = se3(rotation_rpy(0, 0.1, 0.2), [0.5, 0, 1.2])
T_BASE_CAM = se3(rotation_rpy(-1.5, 0, -1.5), [0.8, 0.1, 1.0])


@pytest.fixture
def buffer():
    out = TfBuffer(cache_s=10)
    out.add(StampedTransform(0, "base", "lidar", T_BASE_LIDAR), static=True)
    out.add(StampedTransform(0, "base", "cam", T_BASE_CAM), static=True)
    for i in range(5):
        pose = se3(rotation_rpy(0, 0, 0.4 * i), [2.0 * i, 0, 0])
        out.add(StampedTransform(i * SECOND, "odom", "base", pose))
    return out


def test_common_ancestor(buffer):
    expected = inverse(T_BASE_CAM) @ T_BASE_LIDAR
    np.testing.assert_allclose(buffer.lookup("cam", "lidar", 3), expected, atol=1e-12)
    np.testing.assert_allclose(buffer.lookup("lidar", "cam", 3), inverse(expected), atol=1e-12)
    assert buffer.is_static("cam", "lidar")
    assert buffer.newest("odom", "lidar") == 4 * SECOND
    assert buffer.frames == ("base", "cam", "lidar", "odom")


def test_interpolates(buffer):
    T = buffer.lookup("odom", "base", 2_500_000_000)
    np.testing.assert_allclose(T[:3, 3], [5, 0, 0], atol=1e-9)
    assert yaw_of(T) == pytest.approx(1.0)
    chained = buffer.lookup("odom", "lidar", 2_500_000_000)
    np.testing.assert_allclose(chained, T @ T_BASE_LIDAR, atol=1e-12)
    np.testing.assert_array_equal(buffer.lookup("odom", "base", 2 * SECOND)[0, 3], 4.0)
    np.testing.assert_array_equal(buffer.lookup("odom", "base")[0, 3], 8.0)


def test_never_extrapolates(buffer):
    for stamp in (-1, 4 * SECOND + 1):
        with pytest.raises(CalibrationMissing, match=r"odom -> base .* newest 4\.000000 s"):
            buffer.lookup("cam", "odom", stamp)


def test_missing_links_are_named(buffer):
    with pytest.raises(CalibrationMissing, match="frame 'radar' appears in no transform"):
        buffer.lookup("base", "radar", 0)
    with pytest.raises(CalibrationMissing, match="frame '' appears"):
        buffer.lookup("base", "", 0)
    buffer.add(StampedTransform(0, "earth", "map", np.eye(4)), static=True)
    with pytest.raises(CalibrationMissing, match="joins the tree of 'earth' with that of 'odom'"):
        buffer.lookup("map", "base", 0)


def test_same_frame_is_the_only_identity(buffer):
    np.testing.assert_array_equal(buffer.lookup("radar", "radar", 0), np.eye(4))


def test_loops_are_rejected(buffer):
    for parent, child in (("lidar", "odom"), ("base", "base"), ("cam", "base")):
        with pytest.raises(GeometryError, match="closes a loop"):
            buffer.add(StampedTransform(0, parent, child, np.eye(4)))
    buffer.lookup("odom", "lidar", 0)  # the tree is as before


def test_cache_forgets_and_refuses_what_is_old(buffer):
    for i in range(200):
        buffer.add(StampedTransform((5 + i) * SECOND, "odom", "base", np.eye(4)))
    with pytest.raises(CalibrationMissing, match="oldest"):
        buffer.lookup("odom", "base", SECOND)
    assert not buffer.add(StampedTransform(SECOND, "odom", "base", np.eye(4)))
    assert len(buffer._links["base"].stamps) < 30
    buffer.clear()
    with pytest.raises(CalibrationMissing):
        buffer.lookup("odom", "base", None)
    buffer.lookup("cam", "lidar", None)
    assert buffer.add(StampedTransform(SECOND, "odom", "base", np.eye(4)))


def test_out_of_order_and_repeated_stamps():
    buffer = TfBuffer()
    for stamp, x in ((3, 3.0), (1, 1.0), (2, 9.0), (2, 2.0)):
        buffer.add(StampedTransform(stamp * SECOND, "a", "b", se3(np.eye(3), [x, 0, 0])))
    for stamp in (1, 2, 3):
        assert buffer.lookup("a", "b", stamp * SECOND)[0, 3] == stamp
    assert buffer.lookup("a", "b", SECOND * 3 // 2)[0, 3] == pytest.approx(1.5)


def test_static_transform_published_differently(buffer):
    buffer.add(StampedTransform(9, "base", "cam", np.eye(4)), static=True)
    np.testing.assert_allclose(buffer.lookup("base", "cam", 9), np.eye(4))
    np.testing.assert_allclose(buffer.lookup("base", "cam"), np.eye(4))


def test_static_transform_holds_from_its_stamp():
    """A mounting that changes is looked up as it was when the data were taken."""
    buffer = TfBuffer()
    for stamp, x in ((20, 2.0), (10, 1.0), (21, 2.0)):
        T = se3(np.eye(3), [x, 0, 0])
        buffer.add(StampedTransform(stamp, "base", "cam", T), static=True)
    found = [buffer.lookup("base", "cam", stamp)[0, 3] for stamp in (10, 19, 20, 99)]
    assert found == [1.0, 1.0, 2.0, 2.0]
    # before all stamps, and without one, what came last counts
    assert buffer.lookup("base", "cam", 5)[0, 3] == buffer.lookup("base", "cam")[0, 3] == 2.0


def test_frame_moves_to_another_parent(buffer):
    buffer.add(StampedTransform(0, "map", "base", np.eye(4)))
    np.testing.assert_allclose(buffer.lookup("map", "lidar", 0), T_BASE_LIDAR)
    with pytest.raises(CalibrationMissing):
        buffer.lookup("odom", "base", 0)


def broken_tf(**rotation):
    stamped = cdr.message("geometry_msgs/msg/TransformStamped", child_frame_id="b")
    stamped.header.frame_id = "a"
    stamped.transform.rotation.w = 1.0
    for axis, value in rotation.items():
        setattr(stamped.transform.rotation, axis, value)
    return cdr.message("tf2_msgs/msg/TFMessage", transforms=[stamped])


@pytest.mark.parametrize("rotation", [{"w": 0.0}, {"w": float("nan")}, {"x": 0.5}])
def test_quaternions_that_are_no_rotation(rotation):
    raw = cdr.serialize("tf2_msgs/msg/TFMessage", broken_tf(**rotation))
    with pytest.raises(WireError, match="transform a -> b: quaternion"):
        decode_tf(raw)


def test_transforms_without_names_or_with_nan():
    message = broken_tf()
    message.transforms[0].child_frame_id = "/"
    with pytest.raises(WireError, match="lacks a frame name"):
        decode_tf(cdr.serialize("tf2_msgs/msg/TFMessage", message))
    message = broken_tf()
    message.transforms[0].transform.translation.y = float("inf")
    with pytest.raises(WireError, match="a -> b has translation"):
        decode_tf(cdr.serialize("tf2_msgs/msg/TFMessage", message))


def test_round_trip():
    sent = [StampedTransform(5 * SECOND + i, "a", f"b{i}", T_BASE_CAM) for i in range(3)]
    for one, back in zip(sent, decode_tf(encode_tf(sent)), strict=True):
        assert (back.stamp_ns, back.parent, back.child) == (one.stamp_ns, one.parent, one.child)
        np.testing.assert_allclose(back.T, one.T, atol=1e-12)
