"""`recover`, `thin` and `concatenate`: what comes out opens everywhere and holds what it should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bag_tools import PERIOD_NS, START_NS, STRING, calibration, record, statics, text
from mcap.reader import make_reader
from rosbags.rosbag2 import Reader, StoragePlugin, Writer

from condense_ros.bags import (
    PAIR_TOPIC,
    BagReader,
    BagWriter,
    PairRecord,
    RecordConfig,
    bag_info,
    concatenate,
    recover,
    thin,
)
from condense_ros.datasets.bag import BagDataset
from condense_ros.errors import BagError, ConfigError, StorageFull
from condense_ros.geometry import se3
from condense_ros.wire import IMAGE, TF, Header, cdr, encode_image


def messages(path: Path) -> list[tuple[str, int, bytes]]:
    return [(m.topic, m.log_ns, m.raw) for m in BagReader(path).messages()]


def opens_everywhere(folder: Path) -> int:
    """Messages that rosbags and mcap's indexed reader find; they must agree with ours."""
    count = len(list(BagReader(folder).messages()))
    with Reader(folder) as foreign:
        assert len(list(foreign.messages())) >= count
    found = 0
    for file in folder.glob("*.mcap"):
        with open(file, "rb") as stream:
            reader = make_reader(stream, validate_crcs=True)
            assert reader.get_summary() is not None
            found += len(list(reader.iter_messages()))
    assert found >= count
    return count


@pytest.fixture
def bag(tmp_path):
    with BagWriter(tmp_path / "bag", RecordConfig(chunk_mib=0.005)) as writer:
        record(writer, 12)
    return tmp_path / "bag"


def cut(bag: Path, share: float) -> None:
    file = next(bag.glob("*.mcap"))
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])


def test_recover_of_a_whole_bag_is_a_copy(bag, tmp_path):
    found = recover(bag, tmp_path / "out")
    assert found.complete
    assert messages(tmp_path / "out") == messages(bag)
    assert opens_everywhere(tmp_path / "out") == found.messages
    with Reader(bag) as before, Reader(tmp_path / "out") as after:
        assert [(c.topic, c.msgtype, c.msgdef, c.digest) for c in before.connections] == [
            (c.topic, c.msgtype, c.msgdef, c.digest) for c in after.connections
        ]


def test_recover_of_a_cut_bag(bag, tmp_path):
    before = messages(bag)
    cut(bag, 0.7)
    found = recover(bag, tmp_path / "out")
    assert (found.cut, found.unfinished, found.damaged) == (1, 1, 0)
    assert not found.complete
    after = messages(tmp_path / "out")
    assert 20 < len(after) < len(before)
    assert after == before[: len(after)]
    assert opens_everywhere(tmp_path / "out") == len(after)


def test_a_lost_index_is_no_loss(bag, tmp_path):
    """As mcap's own tool sees it: what follows the data is only made anew."""
    file = next(bag.glob("*.mcap"))
    data = file.read_bytes()
    # DataEnd, which has a CRC of four bytes, is followed by the first schema of the summary
    end = data.rindex(b"\x0f\x04" + bytes(7 + 4)) + 13
    for size in (end, end + 5, len(data) - 3):
        file.write_bytes(data[:size])
        found = recover(bag, tmp_path / f"out{size}")
        assert (found.complete, found.unfinished) == (True, 1)
        assert messages(tmp_path / f"out{size}") == messages(bag)
    file.write_bytes(data[: end - 14])
    assert not recover(bag, tmp_path / "cut").complete


def test_recover_into_one_file(bag, tmp_path):
    recover(bag, tmp_path / "one.mcap")
    assert messages(tmp_path / "one.mcap") == messages(bag)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bag", "one.mcap"]


def test_recover_keeps_foreign_types_and_qos(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        writer.write("/raw", "my_msgs/msg/Raw", b"\0\1\0\0", 1, 1, definition="uint8[] data\n")
        writer.write("/tf_static", TF, statics(), 2, 2)
    recover(tmp_path / "bag", tmp_path / "out")
    before, after = BagReader(tmp_path / "bag").topics, BagReader(tmp_path / "out").topics
    assert before == after
    assert after["/raw"].definition == "uint8[] data\n"
    assert "durability: 1" in after["/tf_static"].qos


def test_a_split_bag_stays_split(tmp_path):
    with BagWriter(tmp_path / "bag", RecordConfig(chunk_mib=0.1, split_mib=1.0)) as writer:
        for k in range(1, 300):
            writer.write("/a", STRING, text("x" * 10_000), k, k)
    assert len(list((tmp_path / "bag").glob("*.mcap"))) >= 2
    recover(tmp_path / "bag", tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.mcap"))) >= 2
    assert messages(tmp_path / "out") == messages(tmp_path / "bag")


def test_nothing_is_overwritten_and_nothing_half_is_left(bag, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    with pytest.raises(BagError, match="exists already"):
        recover(bag, tmp_path / "there")

    def interrupt(done: int, total: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recover(bag, tmp_path / "out", interrupt)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bag", "there"]
    # what a killed run leaves does not hinder the next
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "out_0.mcap").write_bytes(b"half")
    recover(bag, tmp_path / "out")
    assert messages(tmp_path / "out") == messages(bag)
    assert not (tmp_path / ".out.partial").exists()
    with (
        BagWriter(tmp_path / ".other.partial"),
        pytest.raises(BagError, match="another command is writing"),
    ):
        recover(bag, tmp_path / "other")


def test_a_full_disk_leaves_nothing(bag, tmp_path, monkeypatch):
    def full(handle: int, buffers: list[memoryview]) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("condense_ros.bags.logfile.os.writev", full)
    with pytest.raises(StorageFull):
        recover(bag, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["bag"]


def test_nothing_to_recover(tmp_path):
    (tmp_path / "empty.mcap").write_bytes(b"")
    with pytest.raises(BagError, match="no message"):
        recover(tmp_path / "empty.mcap", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def drive(folder: Path, poses: list[np.ndarray | None], ids: list[str] | None = None) -> None:
    """A bag of pairs with these poses, an unmatched topic beside them."""
    picture = np.zeros((2, 2, 3), np.uint8)
    with BagWriter(folder) as writer:
        writer.write("/tf_static", TF, statics(), START_NS, START_NS)
        for k, pose in enumerate(poses):
            stamp = START_NS + k * PERIOD_NS
            raw = encode_image(Header(stamp, "camera"), picture)
            writer.write("/image", IMAGE, raw, stamp, stamp)
            writer.write("/note", STRING, text(str(k)), stamp, stamp)
            name = ids[k] if ids else "one"
            writer.pair(
                PairRecord(stamp, {"image": ("/image", stamp)}, name, pose, "odom", "lidar")
            )


def kept(folder: Path) -> list[int]:
    pairs = [(p.stamp_ns - START_NS) // PERIOD_NS for p in BagReader(folder).pairs()]
    images = [(m.stamp_ns - START_NS) // PERIOD_NS for m in BagReader(folder).messages(["/image"])]
    assert pairs == images
    return pairs


def test_thin_by_way_and_turn(tmp_path):
    """By hand: 0.4 m per step, then a turn of 4 degrees per step on the spot."""
    way = [se3(np.eye(3), [0.4 * k, 0, 0]) for k in range(10)]
    turn = []
    for k in range(1, 11):
        a = np.radians(4 * k)
        turn.append(
            se3([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]], [3.6, 0, 0])
        )
    drive(tmp_path / "bag", way + turn)
    found = thin(tmp_path / "bag", tmp_path / "m", metres=1.0)
    # 1.2 m is the first step of at least a metre
    assert kept(tmp_path / "m") == [0, 3, 6, 9]
    assert (found.pairs, found.kept_pairs, found.messages) == (20, 4, 61)
    thin(tmp_path / "bag", tmp_path / "d", degrees=15.0)
    assert kept(tmp_path / "d") == [0, 13, 17]
    thin(tmp_path / "bag", tmp_path / "both", metres=1.0, degrees=15.0)
    assert kept(tmp_path / "both") == [0, 3, 6, 9, 13, 17]
    reader = BagReader(tmp_path / "both")
    assert reader.topics["/note"].count == 20
    assert reader.topics["/tf_static"].count == 1
    opens_everywhere(tmp_path / "both")


def test_thin_keeps_the_first_pair_of_each_calibration(tmp_path):
    drive(tmp_path / "bag", [np.eye(4)] * 6, ["a", "a", "b", "b", "a", "a"])
    thin(tmp_path / "bag", tmp_path / "out", metres=1.0)
    assert kept(tmp_path / "out") == [0, 2, 4]


def test_thinned_frames_are_those_of_the_bag(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        record(writer, 12)
    # the robot of `bag_tools` drives 0.2 m per frame
    thin(tmp_path / "bag", tmp_path / "out", metres=0.59)
    whole, thinned = BagDataset(tmp_path / "bag"), BagDataset(tmp_path / "out")
    assert len(thinned) == 4
    for frame, other in zip(thinned, [whole[k] for k in (0, 3, 6, 9)], strict=True):
        assert frame.stamp_ns == other.stamp_ns
        np.testing.assert_array_equal(frame.cloud.xyz, other.cloud.xyz)
        np.testing.assert_array_equal(frame.images[0].pixels, other.images[0].pixels)
        np.testing.assert_array_equal(frame.T_world_lidar, other.T_world_lidar)


def test_thin_takes_odometry_where_pairs_have_no_pose(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        record(writer, 12, pair=False)
        for k in range(12):
            stamp = START_NS + k * PERIOD_NS
            writer.pair(PairRecord(stamp, {"points": ("/points", stamp)}))
    assert thin(tmp_path / "bag", tmp_path / "out", metres=0.59).kept_pairs == 4
    drive(tmp_path / "none", [None, None])
    with pytest.raises(BagError, match="no odometry"):
        thin(tmp_path / "none", tmp_path / "x", metres=1.0)
    with pytest.raises(ConfigError, match="positive"):
        thin(tmp_path / "bag", tmp_path / "x")
    with pytest.raises(ConfigError, match="positive"):
        thin(tmp_path / "bag", tmp_path / "x", metres=-1.0, degrees=3.0)
    with BagWriter(tmp_path / "plain") as writer:
        writer.write("/a", STRING, text("a"), 1, 1)
    with pytest.raises(BagError, match="no pairs"):
        thin(tmp_path / "plain", tmp_path / "x", metres=1.0)


def test_cat_is_in_order_of_time(tmp_path):
    for name, numbers in (("a", (1, 4, 5)), ("b", (2, 3, 9)), ("c", (7, 6))):
        with BagWriter(tmp_path / name) as writer:
            for k in numbers:
                writer.write(f"/{name}", STRING, text(str(k)), k, k)
    found = concatenate([tmp_path / name for name in "abc"], tmp_path / "out")
    assert [k for _, k, _ in messages(tmp_path / "out")] == [1, 2, 3, 4, 5, 6, 7, 9]
    assert (found.messages, found.repeated, found.damaged) == (8, 0, 0)
    opens_everywhere(tmp_path / "out")


def test_cat_keeps_calibration(tmp_path):
    """The second drive hears its camera_info and tf_static only after its first clouds."""
    moved = se3(np.eye(3), [0.5, 0, 0])
    for number in (0, 1):
        with BagWriter(tmp_path / f"drive{number}") as writer:
            T = moved if number else np.eye(4)
            offset = number * 3600 * 10**9
            for k in range(4):
                _rig(writer, START_NS + offset + k * PERIOD_NS, T, late=number == 1 and k == 0)
    alone = [BagDataset(tmp_path / f"drive{number}") for number in (0, 1)]
    concatenate([tmp_path / "drive1", tmp_path / "drive0"], tmp_path / "out")
    joined = BagDataset(tmp_path / "out")
    assert len(joined) == 8
    ids = [pair.calibration_id for pair in BagReader(tmp_path / "out").pairs()]
    assert len(set(ids[:4])) == len(set(ids[4:])) == 1
    assert ids[0] != ids[4]
    for k, frame in enumerate(joined):
        other = alone[k // 4][k % 4]
        np.testing.assert_allclose(frame.images[0].T_cam_lidar, other.images[0].T_cam_lidar)


def _rig(writer, stamp: int, T_cam_lidar: np.ndarray, late: bool) -> None:
    from bag_tools import CAMERA, pixels, points

    from condense_ros.wire import CAMERA_INFO, POINT_CLOUD, encode_camera_info, encode_cloud

    def calibrate(at: int) -> None:
        writer.write("/tf_static", TF, statics(T_cam_lidar), at, at)
        raw = encode_camera_info(Header(at, "camera"), CAMERA)
        writer.write("/front/camera_info", CAMERA_INFO, raw, at, at)

    if not late:
        calibrate(stamp)
    xyz = dict(zip("xyz", points(0).T, strict=True))
    writer.write("/points", POINT_CLOUD, encode_cloud(Header(stamp, "lidar"), xyz), stamp, stamp)
    raw = encode_image(Header(stamp, "camera"), pixels(0))
    writer.write("/front/image_raw", IMAGE, raw, stamp, stamp)
    if late:
        calibrate(stamp + 1000)
    matched = {"points": ("/points", stamp), "image/front": ("/front/image_raw", stamp)}
    name = calibration(T_cam_lidar=T_cam_lidar)
    writer.pair(PairRecord(stamp, matched, name, None, "", "lidar"), stamp + 2000)


def test_cat_refuses_what_would_mix_up(tmp_path):
    with BagWriter(tmp_path / "a") as writer:
        writer.write("/x", STRING, text("a"), 1, 1)
    with BagWriter(tmp_path / "b") as writer:
        writer.write("/x", TF, statics(), 2, 2)
    with pytest.raises(BagError, match=r"/x is std_msgs.*a and tf2_msgs.*b"):
        concatenate([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    with pytest.raises(BagError, match="named twice"):
        concatenate([tmp_path / "a", tmp_path / "b" / ".." / "a"], tmp_path / "out")
    drive(tmp_path / "c", [np.eye(4)] * 3, ["one"] * 3)
    drive(tmp_path / "d", [np.eye(4)] * 3, ["two"] * 3)
    with pytest.raises(BagError, match="different calibration"):
        concatenate([tmp_path / "c", tmp_path / "d"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_cat_makes_mcap_of_sqlite(data_dir, tmp_path):
    folder = next((data_dir / "nebula_ros2bags" / "vlp16").glob("*/metadata.yaml")).parent
    concatenate([folder], tmp_path / "out")
    before, after = bag_info(folder), bag_info(tmp_path / "out")
    assert {t: (i.type_name, i.count) for t, i in before.topics.items()} == {
        t: (i.type_name, i.count) for t, i in after.topics.items()
    }
    assert [m.raw for m in BagReader(folder).messages()] == [
        m.raw for m in BagReader(tmp_path / "out").messages()
    ]


def test_sequence_numbers_of_other_recorders_are_no_repeats(tmp_path):
    """Only our own files repeat calibration; elsewhere each file may count from 1 again."""
    from mcap.writer import Writer as McapWriter

    (tmp_path / "bag").mkdir()
    for number in (0, 1):
        with open(tmp_path / "bag" / f"bag_{number}.mcap", "wb") as stream:
            writer = McapWriter(stream)
            writer.start(profile="ros2", library="another recorder")
            schema = writer.register_schema(TF, "ros2msg", cdr.definition(TF).encode())
            channel = writer.register_channel("/tf_static", "cdr", schema)
            for k in (1, 2):
                writer.add_message(channel, 10 * number + k, statics(), 1, sequence=k)
            writer.finish()
    assert [m.log_ns for m in BagReader(tmp_path / "bag").messages()] == [1, 2, 11, 12]


def test_recover_of_a_compressed_foreign_bag(tmp_path):
    from rosbags.rosbag2 import CompressionFormat, CompressionMode

    writer = Writer(tmp_path / "other", version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/a", STRING, typestore=cdr.typestore())
        for k in range(3000):
            writer.write(connection, k + 1, text(f"{k:09d}" * 50))
    cut(tmp_path / "other", 0.8)
    whole = messages(tmp_path / "other")
    assert recover(tmp_path / "other", tmp_path / "out").messages == len(whole) > 100
    assert messages(tmp_path / "out") == whole
    assert PAIR_TOPIC not in BagReader(tmp_path / "out").topics
