"""Recorded pairs come back as the frames that were seen."""

from __future__ import annotations

import numpy as np
import pytest
from bag_tools import (
    CAMERA,
    IMAGE_DELAY_NS,
    PERIOD_NS,
    START_NS,
    STRING,
    T_BASE_LIDAR,
    T_CAM_LIDAR,
    calibration,
    pixels,
    points,
    pose,
    record,
    statics,
    text,
)

from condense_ros.bags import BagWriter, PairRecord, RecordConfig
from condense_ros.bags import reader as reader_module
from condense_ros.datasets import Dataset, open_dataset
from condense_ros.datasets.bag import BagDataset
from condense_ros.datasets.base import leave_out_damaged_images
from condense_ros.errors import CalibrationMissing, DatasetError, WireError
from condense_ros.frame import CameraImage, calibration_id
from condense_ros.geometry import R_OPTICAL_BODY, CameraModel, inverse
from condense_ros.wire import (
    CAMERA_INFO,
    IMAGE,
    POINT_CLOUD,
    TF,
    Header,
    encode_camera_info,
    encode_cloud,
    encode_image,
)


@pytest.fixture
def bag(tmp_path):
    with BagWriter(tmp_path / "bag", RecordConfig(chunk_mib=0.02, split_mib=0.1)) as writer:
        record(writer, 8)
    return tmp_path / "bag"


def test_frames_are_what_was_recorded(bag):
    data = open_dataset(bag)
    assert isinstance(data, BagDataset)
    assert isinstance(data, Dataset)
    assert len(data) == 8
    assert data.period_s == pytest.approx(0.1)
    # in any order
    for k in [5, 0, 7, 3]:
        frame = data[k]
        stamp = START_NS + k * PERIOD_NS
        assert (frame.stamp_ns, frame.index, frame.sequence) == (stamp, k, "bag")
        assert frame.notes == ()
        np.testing.assert_array_equal(frame.cloud.xyz, points(k))
        (image,) = frame.images
        assert (image.name, image.stamp_ns) == ("front", stamp + IMAGE_DELAY_NS)
        np.testing.assert_array_equal(image.pixels, pixels(k))
        np.testing.assert_allclose(image.camera.K, CAMERA.K)
        np.testing.assert_allclose(image.camera.D, CAMERA.D)
        np.testing.assert_allclose(image.T_cam_lidar, T_CAM_LIDAR, atol=1e-9)
        np.testing.assert_allclose(frame.T_world_lidar, pose(stamp) @ T_BASE_LIDAR, atol=1e-9)
    assert data[-1].index == 7
    with pytest.raises(IndexError):
        data[8]
    expected = [pose(START_NS + k * PERIOD_NS) @ T_BASE_LIDAR for k in range(8)]
    np.testing.assert_allclose(data.poses, expected, atol=1e-9)
    np.testing.assert_allclose(data.T_base_lidar, T_BASE_LIDAR, atol=1e-9)


def test_motion_between_cloud_and_image(bag):
    """From the odometry, interpolated between its messages (a curve, so not exactly)."""
    frame = BagDataset(bag)[4]
    before = pose(frame.stamp_ns) @ T_BASE_LIDAR
    after = pose(frame.images[0].stamp_ns) @ T_BASE_LIDAR
    np.testing.assert_allclose(frame.images[0].ego_motion, inverse(after) @ before, atol=2e-4)
    assert not np.allclose(frame.images[0].ego_motion, np.eye(4), atol=1e-2)


def test_random_access_reads_only_what_it_needs(bag, monkeypatch):
    data = BagDataset(bag)
    read = []
    original = reader_module._read

    def counted(path, offset, length):
        read.append(length)
        return original(path, offset, length)

    monkeypatch.setattr(reader_module, "_read", counted)
    data._reader._cache.clear()
    data._reader._cached_bytes = 0
    data[3]
    total = sum(file.stat().st_size for file in bag.glob("*.mcap"))
    assert sum(read) < 0.7 * total
    read.clear()
    data[3]
    assert read == []


def test_cache_is_bounded(bag, monkeypatch):
    monkeypatch.setattr(reader_module, "_CACHE_BYTES", 50_000)
    data = BagDataset(bag)
    for k in range(8):
        data[k]
        assert sum(map(len, data._reader._cache.values())) <= 50_000 + 25_000


def test_killed_bag_gives_its_frames(bag):
    last = max(bag.glob("*.mcap"), key=lambda file: int(file.stem.split("_")[1]))
    size = last.stat().st_size
    with open(last, "r+b") as stream:
        stream.truncate(size * 2 // 3)
    (bag / "metadata.yaml").unlink()
    data = BagDataset(bag)
    assert 5 <= len(data) < 8 or data.incomplete == 0
    np.testing.assert_array_equal(data[2].cloud.xyz, points(2))


def test_lost_message_leaves_the_pair_out(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        record(writer, 2)
        stamp = START_NS + 10 * PERIOD_NS
        writer.pair(PairRecord(stamp, {"points": ("/points", stamp)}))
    data = BagDataset(tmp_path / "bag")
    assert (len(data), data.incomplete) == (2, 1)


def test_bag_without_camera_info(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        record(writer, 2, info=False)
    with pytest.raises(CalibrationMissing, match="record camera_info too"):
        BagDataset(tmp_path / "bag")


def test_bag_without_pairs_and_without_points(tmp_path):
    with BagWriter(tmp_path / "plain") as writer:
        writer.write("/a", STRING, text("x"), 1, 1)
    with pytest.raises(DatasetError, match=r"no pairs, only /a.*condense record"):
        BagDataset(tmp_path / "plain")
    with BagWriter(tmp_path / "images") as writer:
        raw = encode_image(Header(5, "camera"), pixels(0))
        writer.write("/front/image_raw", IMAGE, raw, 5, 5)
        writer.pair(PairRecord(5, {"image": ("/front/image_raw", 5)}))
    with pytest.raises(DatasetError, match="no points, only image"):
        BagDataset(tmp_path / "images")


def test_transform_missing_is_never_identity(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        record(writer, 2, tf=False)
    data = BagDataset(tmp_path / "bag")
    assert data.poses is None
    with pytest.raises(CalibrationMissing, match="camera"):
        data[0]


def test_empty_frame_names_are_refused(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        raw = encode_cloud(Header(5, ""), dict(zip("xyz", points(0).T, strict=True)))
        writer.write("/points", POINT_CLOUD, raw, 5, 5)
        writer.write("/i/image", IMAGE, encode_image(Header(5, ""), pixels(0)), 5, 5)
        info = encode_camera_info(Header(5, ""), CAMERA)
        writer.write("/i/camera_info", CAMERA_INFO, info, 5, 5)
        writer.pair(PairRecord(5, {"points": ("/points", 5), "image": ("/i/image", 5)}))
    with pytest.raises(CalibrationMissing, match="empty frame_id"):
        BagDataset(tmp_path / "bag")[0]


def test_calibration_of_another_id_is_refused(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        record(writer, 2)
        # the mounting is corrected, but the next pair still names the old calibration
        moved = T_CAM_LIDAR.copy()
        moved[0, 3] += 0.01
        late = START_NS + 50 * PERIOD_NS
        writer.write("/tf_static", TF, statics(moved), late, late)
        xyz = dict(zip("xyz", points(9).T, strict=True))
        writer.write(
            "/points", POINT_CLOUD, encode_cloud(Header(late + 1, "lidar"), xyz), late + 1, late + 1
        )
        image = encode_image(Header(late + 1, "camera"), pixels(9))
        writer.write("/front/image_raw", IMAGE, image, late + 1, late + 1)
        messages = {
            "points": ("/points", late + 1),
            "image/front": ("/front/image_raw", late + 1),
        }
        writer.pair(PairRecord(late + 1, messages, calibration()))
        writer.pair(PairRecord(late + 1, messages, calibration(T_cam_lidar=moved)))
    data = BagDataset(tmp_path / "bag")
    assert len(data) == 4
    np.testing.assert_allclose(data[1].images[0].T_cam_lidar, T_CAM_LIDAR, atol=1e-9)
    with pytest.raises(DatasetError, match="recorded with calibration"):
        data[2]
    np.testing.assert_allclose(data[3].images[0].T_cam_lidar, moved, atol=1e-9)


def test_depth_becomes_a_cloud(tmp_path):
    camera = CameraModel([[50.0, 0, 15.5], [0, 50.0, 11.5], [0, 0, 1]], 32, 24)
    depth = np.zeros((24, 32), np.float32)
    depth[12, 20] = 2.0
    stamp = START_NS
    with BagWriter(tmp_path / "bag") as writer:
        header = Header(stamp, "optical")
        writer.write("/d/image", IMAGE, encode_image(header, depth, "32FC1"), stamp, stamp)
        writer.write(
            "/d/camera_info", CAMERA_INFO, encode_camera_info(header, camera), stamp, stamp
        )
        colour = np.zeros((24, 32, 3), np.uint8)
        writer.write("/c/image", IMAGE, encode_image(header, colour), stamp, stamp)
        messages = {"depth": ("/d/image", stamp), "image": ("/c/image", stamp)}
        writer.pair(PairRecord(stamp, messages))
    frame = BagDataset(tmp_path / "bag")[0]
    optical = np.array([(20 - 15.5) / 50 * 2, (12 - 11.5) / 50 * 2, 2.0])
    np.testing.assert_allclose(frame.cloud.xyz, [R_OPTICAL_BODY.T @ optical], rtol=1e-6)
    uv, _, inside = frame.images[0].camera.project(
        frame.cloud.xyz @ frame.images[0].T_cam_lidar[:3, :3].T
    )
    assert inside.all()
    np.testing.assert_allclose(uv, [[20, 12]], atol=1e-4)
    np.testing.assert_array_equal(frame.images[0].depth, depth)
    assert "no calibration" in frame.notes[0]


def test_damaged_frame_is_a_typed_error(bag):
    first = bag / "bag_0.mcap"
    data = bytearray(first.read_bytes())
    position = data.index(points(0)[:, 0].tobytes()[:4])
    data[position] ^= 1
    first.write_bytes(data)
    with pytest.raises(DatasetError, match="damaged part"):
        BagDataset(bag)[0]


def test_a_damaged_image_can_be_left_out(tmp_path):
    """With two cameras; the calibration of the other one is not taken on trust silently."""
    blank = np.zeros((48, 64, 3), np.uint8)
    rig = tuple(CameraImage(name, 0, blank, CAMERA, T_CAM_LIDAR) for name in ("back", "front"))
    with BagWriter(tmp_path / "bag", RecordConfig()) as writer:
        record(writer, 3, pair=False)
        for k in range(3):
            stamp = START_NS + k * PERIOD_NS
            seen = stamp + IMAGE_DELAY_NS
            header = Header(seen, "camera")
            raw = encode_image(header, pixels(k))
            writer.write("/back/image_raw", IMAGE, raw[:-100] if k == 1 else raw, seen, seen)
            info = encode_camera_info(header, CAMERA)
            writer.write("/back/camera_info", CAMERA_INFO, info, seen, seen)
            messages = {
                "points": ("/points", stamp),
                "image/back": ("/back/image_raw", seen),
                "image/front": ("/front/image_raw", seen),
            }
            pose_then = pose(stamp)
            writer.pair(
                PairRecord(stamp, messages, calibration_id(rig), pose_then, "odom", "lidar")
            )
    data = BagDataset(tmp_path / "bag")
    with pytest.raises(WireError):
        data[1]
    told = []
    with leave_out_damaged_images(lambda camera, error: told.append((camera, type(error)))):
        assert [image.name for image in data[0].images] == ["back", "front"]
        assert not told
        frame = data[1]
    assert told == [("back", WireError)]
    (image,) = frame.images
    assert image.name == "front"
    np.testing.assert_array_equal(image.pixels, pixels(1))
    assert any("left out" in note for note in frame.notes)
    with pytest.raises(WireError):
        data[1]
