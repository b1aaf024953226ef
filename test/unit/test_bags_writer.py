"""What is recorded comes back byte for byte, here and in rosbags; every message is counted."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import yaml
from bag_tools import PERIOD_NS, START_NS, STRING, record, statics, text
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer

from condense_ros.bags import (
    PAIR_TOPIC,
    BagReader,
    BagWriter,
    PairRecord,
    RecordConfig,
    bag_info,
)
from condense_ros.errors import BagError, GeometryError, WireError
from condense_ros.wire import TF, cdr


def check(writer):
    """The identity holds at this instant; returns the counts."""
    counts = writer.accounting()
    for topic, count in counts.items():
        total = count.written + sum(count.dropped.values()) + count.queued
        assert count.accepted == total, (topic, count)
        assert count.acknowledged <= count.written
    return counts


def test_bytes_come_back_in_our_reader_and_in_rosbags(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        written = record(writer)
    reader = BagReader(tmp_path / "bag")
    assert reader.finished
    assert reader.damaged == 0
    for topic, raws in written.items():
        assert [m.raw for m in reader.messages([topic])] == raws
    with Reader(tmp_path / "bag") as foreign:
        found: dict[str, list[bytes]] = {}
        for connection, _, raw in foreign.messages():
            found.setdefault(connection.topic, []).append(bytes(raw))
        latched = {c.topic: c.ext.offered_qos_profiles for c in foreign.connections}
    pairs = found.pop(PAIR_TOPIC)
    assert len(pairs) == 5
    assert found == written
    assert latched["/tf_static"][0].durability.name == "TRANSIENT_LOCAL"
    assert latched["/points"] == []


def test_account_and_metadata(tmp_path):
    writer = BagWriter(tmp_path / "bag")
    opened = yaml.safe_load((tmp_path / "bag" / "metadata.yaml").read_text())
    assert opened["rosbag2_bagfile_information"]["message_count"] == 0
    record(writer, 3)
    check(writer)
    assert writer.flush()
    counts = check(writer)
    assert all(c.acknowledged == c.written == c.accepted for c in counts.values())
    assert counts["/points"].accepted == 3
    writer.close()
    writer.close()
    data = yaml.safe_load((tmp_path / "bag" / "metadata.yaml").read_text())
    information = data["rosbag2_bagfile_information"]
    topics = {
        t["topic_metadata"]["name"]: t["message_count"]
        for t in information["topics_with_message_count"]
    }
    assert topics == {topic: count.written for topic, count in counts.items()}
    assert information["message_count"] == sum(topics.values())
    assert information["starting_time"]["nanoseconds_since_epoch"] == START_NS
    # odometry runs on to 3.5 periods
    assert information["duration"]["nanoseconds"] == int(3.5 * PERIOD_NS)
    assert information["files"][0]["message_count"] == information["message_count"]
    with pytest.raises(BagError, match="closed"):
        writer.write("/a", STRING, text("late"), 1, 1)


def test_split_repeats_calibration_and_loses_nothing(tmp_path):
    config = RecordConfig(split_mib=0.05, chunk_mib=0.005)
    with BagWriter(tmp_path / "bag", config) as writer:
        written = record(writer, 40)
    files = sorted((tmp_path / "bag").glob("*.mcap"))
    assert len(files) > 3
    reader = BagReader(tmp_path / "bag")
    assert {topic: [m.raw for m in reader.messages([topic])] for topic in written} == written
    assert len(reader.pairs()) == 40
    for file in files:
        alone = BagReader(file)
        first = [m.topic for m in alone.messages()][:3]
        assert "/tf_static" in first
        assert alone.finished
    last = max(files, key=lambda file: int(file.stem.split("_")[1]))
    assert [m.topic for m in BagReader(last).messages()][:2] == [
        "/tf_static",
        "/front/camera_info",
    ]
    with Reader(tmp_path / "bag") as foreign:
        assert foreign.message_count >= sum(map(len, written.values())) + 40


def test_split_on_request_and_by_time(tmp_path):
    with BagWriter(tmp_path / "asked") as writer:
        for k in range(3):
            writer.write("/a", STRING, text(str(k)), k + 1, k + 1)
            writer.split()
            assert writer.flush()
    assert len(list((tmp_path / "asked").glob("*.mcap"))) == 4
    assert [m.log_ns for m in BagReader(tmp_path / "asked").messages()] == [1, 2, 3]
    with BagWriter(tmp_path / "timed", RecordConfig(split_s=0.05)) as writer:
        for k in range(20):
            writer.write("/a", STRING, text(str(k)), k + 1, k + 1)
            threading.Event().wait(0.01)
    assert len(list((tmp_path / "timed").glob("*.mcap"))) >= 3
    assert [m.log_ns for m in BagReader(tmp_path / "timed").messages()] == list(range(1, 21))


def test_changed_static_transform_wins_after_a_split(tmp_path):
    moved = statics(np.eye(4))
    with BagWriter(tmp_path / "bag") as writer:
        for raw in (statics(), moved, statics(), moved):
            writer.write("/tf_static", TF, raw, START_NS, START_NS)
        writer.write("/a", STRING, text("a"), START_NS, START_NS)
        writer.split()
        assert writer.flush()
        writer.write("/a", STRING, text("b"), START_NS, START_NS)
    second = [m.raw for m in BagReader(tmp_path / "bag" / "bag_1.mcap").messages(["/tf_static"])]
    assert second == [statics(), moved]


def test_writers_from_many_threads(tmp_path):
    writer = BagWriter(tmp_path / "bag", RecordConfig(chunk_mib=0.01))

    def work(topic):
        for k in range(200):
            writer.write(topic, STRING, text(f"{topic}{k}"), k + 1, k + 1)

    threads = [threading.Thread(target=work, args=(f"/t{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        check(writer)
    for thread in threads:
        thread.join()
    writer.close()
    reader = BagReader(tmp_path / "bag")
    for i in range(4):
        expected = [text(f"/t{i}{k}") for k in range(200)]
        assert [m.raw for m in reader.messages([f"/t{i}"])] == expected


def test_types_are_checked(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        writer.write("/a", STRING, text("x"), 1, 1)
        with pytest.raises(BagError, match="one type per topic"):
            writer.write("/a", TF, b"", 1, 1)
        with pytest.raises(WireError, match="velodyne"):
            writer.write("/raw", "velodyne_msgs/msg/VelodyneScan", b"\0\1\0\0", 1, 1)
        foreign = "uint8[] data\n"
        writer.write("/raw", "my_msgs/msg/Raw", b"\0\1\0\0\0\0\0\0", 1, 1, definition=foreign)
    topics = BagReader(tmp_path / "bag").topics
    assert topics["/raw"].type_name == "my_msgs/msg/Raw"
    assert topics["/raw"].definition == foreign


def test_pair_record_round_trip():
    T = np.eye(4)
    T[:3, 3] = 1, 2, 3
    record_ = PairRecord(
        START_NS,
        {"points": ("/p", START_NS), "image/a": ("/i", START_NS - 5)},
        "abc",
        T,
        "odom",
        "lidar",
    )
    back = PairRecord.decode(record_.encode())
    assert dict(back.messages) == dict(record_.messages)
    assert (back.stamp_ns, back.calibration_id, back.world_frame, back.frame_id) == (
        START_NS,
        "abc",
        "odom",
        "lidar",
    )
    np.testing.assert_allclose(back.T_world_base, T, atol=1e-12)
    assert PairRecord.decode(PairRecord(1).encode()).T_world_base is None
    with pytest.raises(GeometryError):
        PairRecord(1, T_world_base=2 * np.eye(4))


def test_info(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        written = record(writer, 11)
    info = bag_info(tmp_path / "bag")
    assert info.pairs == 11
    assert list(info.calibration_ids.values()) == [11]
    assert info.topics["/points"].count == 11
    assert info.topics["/points"].bytes == sum(map(len, written["/points"]))
    assert info.topics["/points"].rate_hz == pytest.approx(10.0)
    assert info.duration_s == pytest.approx(1.15)
    assert info.finished
    assert info.damaged == 0
    assert info.bytes == sum(f.stat().st_size for f in (tmp_path / "bag").glob("*.mcap"))


@pytest.mark.parametrize("mode", ["NONE", "STORAGE"])
def test_reads_mcap_bags_of_other_writers(tmp_path, mode):
    """Plain and with zstd chunks, whole and cut off."""
    writer = Writer(tmp_path / "other", version=9, storage_plugin=StoragePlugin.MCAP)
    if mode == "STORAGE":
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/a", STRING, typestore=cdr.typestore())
        raws = [text(f"{k:09d}" * 50) for k in range(9000)]
        for k, raw in enumerate(raws):
            writer.write(connection, k + 1, raw)
    reader = BagReader(tmp_path / "other")
    assert [m.raw for m in reader.messages()] == raws
    assert reader.damaged == 0
    assert reader.finished
    file = next((tmp_path / "other").glob("*.mcap"))
    data = file.read_bytes()
    file.write_bytes(data[: len(data) * 9 // 10])
    cut = [m.raw for m in BagReader(tmp_path / "other").messages()]
    assert 0 < len(cut) < 9000
    assert cut == raws[: len(cut)]


def test_reads_sqlite_bags(data_dir):
    folder = next((data_dir / "nebula_ros2bags" / "vlp16").glob("*/metadata.yaml")).parent
    info = bag_info(folder)
    with Reader(folder) as foreign:
        expected = {c.topic: (c.msgtype, c.msgcount) for c in foreign.connections}
        raws = [bytes(raw) for _, _, raw in foreign.messages()]
    assert {t: (i.type_name, i.count) for t, i in info.topics.items()} == expected
    assert [m.raw for m in BagReader(folder).messages()] == raws
    assert raws
