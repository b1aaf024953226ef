"""Faults 12 to 25, messages, through capture nodes over DDS and the bags that they leave."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from condense_ros import wire
from condense_ros.datasets import open_dataset
from condense_ros.frame import Frame
from condense_ros.geometry import CameraModel, se3
from condense_ros.wire import Header, StampedTransform, cdr

from .conftest import CAMERA, IMAGE, INFO, POINTS, Robot, Session, cloud, jpeg
from .live import Live

pytestmark = pytest.mark.ros

MALFORMED = f"{POINTS} dropped malformed"
XYZ = np.linspace([1, -2, 0.5], [9, 2, 1.5], 50).astype(np.float32)
FLUSH = {"record.flush_interval_s": 0.2}


@pytest.fixture(scope="module")
def live(tmp_path_factory, worker_domain):
    robot = Robot(worker_domain)
    node = Live(Session(tmp_path_factory.mktemp("clouds"), worker_domain), robot, **FLUSH)
    try:
        yield node
    finally:
        node.close()
        robot.close()


def xyz_cloud(stamp_ns: int, xyz: np.ndarray = XYZ, **fields: np.ndarray) -> bytes:
    values = {axis: xyz[:, i] for i, axis in enumerate("xyz")}
    return wire.encode_cloud(Header(stamp_ns, "lidar"), values | fields)


def changed(raw: bytes, kind: str = wire.POINT_CLOUD, **fields: Any) -> bytes:
    """The message with some of its fields set otherwise."""
    message = cdr.deserialize(kind, raw)
    for name, value in fields.items():
        setattr(message, name, value)
    return cdr.serialize(kind, message)


def refused(live: Live, raw: bytes, key: str, *words: str) -> None:
    """A cloud is dropped and counted under `key`, the log says why, and pairs go on.

    The log says the same thing, numbers apart, once in ten seconds: repeated faults give no words.
    """
    live.settle()
    live.until_counted(key, lambda: live.robot.send(POINTS, wire.POINT_CLOUD, raw))
    for text in words:
        live.hears(text)
        assert f"{POINTS}: " in live.said()
    live.pairs_come()
    live.account()


def recorded(live: Live, stamp_ns: int, timeout_s: float = 20.0) -> Frame:
    """The frame of a stamp, read from the bag while it is being written."""
    found: list[Frame] = []

    def there() -> bool:
        data = open_dataset(live.session.folder / "bag")
        wanted = [i for i, pair in enumerate(data._pairs) if pair.stamp_ns == stamp_ns]
        found.extend(data[i] for i in wanted)
        return bool(found)

    live.until(there, timeout_s)
    return found[0]


def taken(live: Live, make: Any) -> Frame:
    """A cloud is paired and recorded; the frame that the bag gives back."""
    live.settle()
    stamp = live.step()
    live.robot.frame(stamp, points=make(stamp))
    live.pairs_come(2)
    live.account()
    return recorded(live, stamp)


def test_fault_12_empty_cloud(live):
    raw = cloud(live.now_ns, count=0)
    refused(live, raw, f"{POINTS} dropped empty_cloud", "it is empty", "check the lidar")


def test_fault_13_all_points_nan_or_infinite(live):
    key = f"{POINTS} dropped empty_cloud"
    for values, words in (
        ([np.nan] * 3, ("none of its 3000 points is finite", "check the lidar")),
        ([np.inf, 1, 1], ()),
        ([1, 2, -np.inf], ()),
    ):
        xyz = np.tile(np.array(values, np.float32), (3000, 1))
        refused(live, xyz_cloud(live.now_ns, xyz), key, *words)
    xyz = np.full((3000, 3), np.nan, np.float32)
    xyz[1234] = 5.0
    frame = taken(live, lambda stamp: xyz_cloud(stamp, xyz))
    assert frame.cloud.finite().sum() == 1


def test_fault_14_size_differs_from_the_data(live):
    for fields, words in (
        (
            {"width": 51},
            (
                "cloud of 51x1 points of 12 bytes with row_step 600 has 600 bytes",
                "send height x row_step bytes; the message may have been cut short",
            ),
        ),
        ({"height": 4_000_000_000}, ()),
        ({"point_step": 13}, ()),
    ):
        refused(live, changed(xyz_cloud(live.now_ns), **fields), MALFORMED, *words)


def test_fault_15_truncated_data(live):
    raw = xyz_cloud(live.now_ns)
    refused(live, raw[:-200], MALFORMED, "bytes are no sensor_msgs/msg/PointCloud2", "cut it short")
    short = cdr.deserialize(wire.POINT_CLOUD, raw).data[:-24]
    refused(live, changed(raw, data=short), MALFORMED)


def test_fault_16_big_endian(live):
    """Values, then values and the whole message, in big-endian order."""

    def values(stamp: int) -> bytes:
        raw = xyz_cloud(stamp, intensity=np.arange(50, dtype=np.uint16))
        points = wire.decode_cloud(raw).points
        swapped = points.byteswap().view(np.uint8)
        return changed(raw, data=swapped, is_bigendian=True)

    def message(stamp: int) -> bytes:
        store = cdr.typestore()
        decoded = cdr.deserialize(wire.POINT_CLOUD, values(stamp))
        return bytes(store.serialize_cdr(decoded, wire.POINT_CLOUD, little_endian=False))

    for make in (values, message):
        frame = taken(live, make)
        np.testing.assert_array_equal(frame.cloud.xyz, XYZ)
        np.testing.assert_array_equal(frame.cloud.intensity, np.arange(50))


def test_fault_17_unknown_datatype(live):
    fields = cdr.deserialize(wire.POINT_CLOUD, xyz_cloud(live.now_ns)).fields
    fields[1].datatype = 9
    raw = changed(xyz_cloud(live.now_ns), fields=fields)
    refused(live, raw, MALFORMED, "field 'y' of the cloud has datatype 9", "use datatypes 1 (INT8)")


def test_fault_17_odd_layout(live):
    """float64, no intensity, fields in odd order with gaps, a field of count 3."""

    def make(stamp: int) -> bytes:
        dtype = np.dtype(
            {
                "names": ["normal", "z", "x", "ring", "y"],
                "formats": [("<f4", (3,)), "<f8", "<f8", "u1", "<f4"],
                "offsets": [3, 20, 30, 40, 43],
                "itemsize": 53,
            }
        )
        points = np.zeros(50, dtype)
        for i, axis in enumerate("xyz"):
            points[axis] = XYZ[:, i]
        points["ring"] = np.arange(50)
        layout = [("normal", 3, 7, 3), ("z", 20, 8, 1), ("x", 30, 8, 0), ("ring", 40, 2, 1)]
        message = cdr.deserialize(wire.POINT_CLOUD, xyz_cloud(stamp))
        message.fields = [
            cdr.message("sensor_msgs/msg/PointField", name=n, offset=o, datatype=d, count=c)
            for n, o, d, c in [*layout, ("y", 43, 7, 1)]
        ]
        message.point_step, message.row_step = 53, 53 * 50
        message.data = points.view(np.uint8)
        return cdr.serialize(wire.POINT_CLOUD, message)

    frame = taken(live, make)
    np.testing.assert_array_equal(frame.cloud.xyz, XYZ)
    np.testing.assert_array_equal(frame.cloud.ring, np.arange(50))
    assert frame.cloud.intensity is None


def test_fault_18_is_dense_false(live):
    """An organised cloud with holes: every point keeps its place."""
    holes = XYZ.copy()
    holes[::7] = np.nan

    def make(stamp: int) -> bytes:
        values = {axis: holes[:, i] for i, axis in enumerate("xyz")}
        raw = wire.encode_cloud(Header(stamp, "lidar"), values, height=5)
        assert not cdr.deserialize(wire.POINT_CLOUD, raw).is_dense
        return raw

    frame = taken(live, make)
    np.testing.assert_array_equal(frame.cloud.xyz, holes)
    assert frame.cloud.finite().sum() == 50 - 8


def test_fault_20_garbage_row_step(live):
    """Where the data length leaves no doubt row_step is not believed, else the cloud is refused."""
    frame = taken(live, lambda stamp: changed(xyz_cloud(stamp), row_step=3_141_592_653))
    np.testing.assert_array_equal(frame.cloud.xyz, XYZ)
    raw = changed(xyz_cloud(live.now_ns), row_step=7, height=2, width=26)
    refused(live, raw, MALFORMED)


def test_fault_22_corrupt_jpeg(live):
    key = f"{IMAGE} dropped malformed"
    good = cdr.deserialize(wire.COMPRESSED_IMAGE, jpeg(live.now_ns)).data
    header = good.copy()
    header[:20] ^= 0x5A
    wide = good.copy()
    at = bytes(good).index(b"\xff\xc0") + 5
    wide[at : at + 4] = 0x3F  # claims 16191x16191 pixels
    for data, words in (
        (good[:-30], ("JPEG of", "the message was cut short")),
        (header, ("are neither JPEG nor PNG",)),
        (good[:0], ()),
        (wide, ("compressed image: Image size (262148481 pixels) exceeds limit",)),
    ):
        live.settle()
        raw = changed(jpeg(live.now_ns), wire.COMPRESSED_IMAGE, data=data)
        live.until_counted(key, lambda raw=raw: live.robot.send(IMAGE, wire.COMPRESSED_IMAGE, raw))
        for text in words:
            live.hears(text)
            assert f"{IMAGE}: " in live.said()
        live.pairs_come()
        live.account()


def info(stamp_ns: int, camera: CameraModel = CAMERA) -> bytes:
    return wire.encode_camera_info(Header(stamp_ns, "cam"), camera)


def test_fault_23_camera_info_without_calibration(live):
    """K = 0 is refused and said; the calibration that is known stays in force."""
    live.settle()
    raw = changed(info(live.now_ns), wire.CAMERA_INFO, k=np.zeros(9))
    live.until_counted(
        f"{INFO} dropped malformed", lambda: live.robot.send(INFO, wire.CAMERA_INFO, raw)
    )
    live.hears(f"{INFO}: camera_info has K = 0: the camera is not calibrated")
    live.hears("intrinsics are never guessed")
    live.pairs_come()
    live.account()


def test_fault_23_camera_info_changes_while_recording(live):
    """The log names the new calibration; each frame is read with its own."""
    live.settle()
    moved = CameraModel(CAMERA.K + [[3, 0, 0], [0, 3, 0], [0, 0, 0]], 64, 48)
    try:
        before = live.step()
        live.robot.send(INFO, wire.CAMERA_INFO, info(before))
        live.robot.frame(before)
        live.pairs_come(2)
        live.step(1.0)
        live.robot.send(INFO, wire.CAMERA_INFO, info(live.step(), moved))
        after = live.step()
        live.robot.frame(after)
        live.pairs_come(2)
        live.hears("the calibration changed: its id is now")
        assert recorded(live, before).images[0].camera.K[0, 0] == CAMERA.K[0, 0]
        assert recorded(live, after).images[0].camera.K[0, 0] == CAMERA.K[0, 0] + 3
    finally:
        live.robot.send(INFO, wire.CAMERA_INFO, info(live.step()))
    live.pairs_come()
    live.account()


def test_fault_23_camera_info_of_another_size(live):
    live.settle()
    key = f"{IMAGE} dropped no_camera_info"
    live.robot.send(INFO, wire.CAMERA_INFO, info(live.step(), CAMERA.scaled(32, 24)))
    live.until_counted(key, live.frame)
    live.hears(f"{INFO} is for 32x24, the image is 64x48")
    live.hears("publish the calibration of exactly the image that is sent")
    live.robot.send(INFO, wire.CAMERA_INFO, info(live.step()))
    live.pairs_come()
    live.account()


def renamed(stamp_ns: int, frame_id: str) -> bytes:
    values = {axis: XYZ[:, i] for i, axis in enumerate("xyz")}
    return wire.encode_cloud(Header(stamp_ns, frame_id), values)


def test_fault_24_frame_id_empty(live):
    live.settle()
    key = f"{POINTS} dropped no_transform"
    live.until_counted(key, lambda: live.frame(points=renamed(live.now_ns, "")))
    live.hears("or of the cloud have an empty frame_id")
    live.hears("set frame_id in the drivers, so that tf can place them")
    live.pairs_come()
    live.account()


def test_fault_24_frame_id_with_a_slash(live):
    """ROS 1 wrote a leading slash; it names the same frame."""
    frame = taken(live, lambda stamp: renamed(stamp, "/lidar"))
    assert frame.cloud.frame_id == "lidar"
    assert (
        frame.images[0].T_cam_lidar[0, 3]
        == recorded(live, frame.stamp_ns).images[0].T_cam_lidar[0, 3]
    )


def test_fault_24_frame_id_not_ascii(live):
    live.settle()
    link = StampedTransform(1, "lidar", "lidar_größe", se3(np.eye(3), [0, 0, 0.25]))
    live.robot.send("/tf_static", wire.TF, wire.encode_tf([link]))
    frame = taken(live, lambda stamp: renamed(stamp, "lidar_größe"))
    assert frame.cloud.frame_id == "lidar_größe"
    broken = bytearray(renamed(live.now_ns, "lidar_groesse"))
    at = broken.index(b"groesse")
    broken[at : at + 2] = b"\xff\xfe"
    refused(live, bytes(broken), MALFORMED)


def test_fault_25_random_and_mutated_bytes(live):
    """A node that hears garbage on every topic counts it and goes on."""
    live.settle()
    rng = np.random.default_rng(25)
    before = live.account()
    topics = {
        POINTS: (wire.POINT_CLOUD, xyz_cloud(live.now_ns)),
        IMAGE: (wire.COMPRESSED_IMAGE, jpeg(live.now_ns)),
        INFO: (wire.CAMERA_INFO, info(live.now_ns)),
        "/tf": (wire.TF, wire.encode_tf([StampedTransform(9, "odom", "base_link", np.eye(4))])),
    }
    sent = 0
    for topic, (kind, valid) in topics.items():
        for k in range(25):
            if k % 5 == 0:
                raw = b"\0\1\0\0" + rng.bytes(int(rng.integers(0, 300)))
            elif k % 5 == 1:
                raw = valid[: int(rng.integers(5, len(valid) - 4))]
            else:
                raw = valid[:12] + struct.pack("<I", int(rng.integers(2**20, 2**32))) + valid[16:]
            live.robot.send(topic, kind, raw)
            sent += 1
    live.pairs_come(5)
    after = live.account()
    told = ("dropped malformed", "dropped empty_cloud")
    counted = sum(after[k] - before.get(k, 0) for k in after if k.endswith(told))
    # best-effort topics may lose some on the way to the node, which cannot count those
    assert counted >= 0.8 * sent
    assert "Traceback" not in live.said()
    assert live.process.process.poll() is None
