"""Killed recorders, full and read-only disks, damaged and truncated files."""

from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from bag_tools import STRING, record, text
from mcap.stream_reader import StreamReader

from condense_ros import wire
from condense_ros.bags import BagReader, BagWriter, RecordConfig, bag_info
from condense_ros.bags import logfile as logfile_module
from condense_ros.errors import BagError, CondenseError, StorageFull
from condense_ros.geometry import CameraModel

SMALL = RecordConfig(chunk_mib=0.001, flush_interval_s=0.02, retry_s=0.01, min_free_mib=0.0)

# a server that has imported everything forks the children, which saves their start-up time
_CHILDREN = multiprocessing.get_context("forkserver")
_CHILDREN.set_forkserver_preload(["condense_ros.bags", "bag_tools"])


def _record_for_ever(folder: Path, split_mib: float, pipe: Connection) -> None:
    """Records numbered messages and tells how many are acknowledged."""
    config = RecordConfig(chunk_mib=0.01, flush_interval_s=0.02, split_mib=split_mib)
    writer = BagWriter(folder, config)
    for k in range(1, 10**7):
        writer.write("/a", STRING, text(str(k) * 20), k, k, block=True)
        if k % 50 == 0:
            pipe.send(writer.accounting()["/a"].acknowledged)


def _kill_once(folder: Path, after_s: float, split_mib: float) -> int:
    here, there = _CHILDREN.Pipe(duplex=False)
    child = _CHILDREN.Process(target=_record_for_ever, args=(folder, split_mib, there))
    child.start()
    there.close()
    acknowledged = here.recv()
    kill_at = time.monotonic() + after_s
    try:
        # the pipe has to be emptied, or the child waits for us
        while True:
            if time.monotonic() > kill_at:
                child.kill()
            if here.poll(0.005):
                acknowledged = here.recv()
    except EOFError:
        child.join()
    reader = BagReader(folder)
    numbers = [message.stamp_ns for message in reader.messages()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= acknowledged
    for message, k in zip(reader.messages(), numbers, strict=True):
        assert message.raw == text(str(k) * 20)
    # between two files of a split recording, every file is finished
    assert split_mib or not reader.finished
    assert reader.damaged == 0
    return int(acknowledged)


def test_kill_nine_loses_nothing_acknowledged(tmp_path):
    rng = np.random.default_rng(0)
    kept = [
        _kill_once(tmp_path / str(k), float(rng.uniform(0.0, 0.4)), [0.0, 0.05][k % 2])
        for k in range(10)
    ]
    assert sum(kept) > 1000


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_kill_nine_two_hundred_times(tmp_path):
    rng = np.random.default_rng(1)
    for k in range(200):
        _kill_once(tmp_path / str(k), float(rng.uniform(0.0, 0.5)), [0.0, 0.05][k % 2])


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    """The bytes of a small bag of a few chunks, and its messages."""
    folder = tmp_path_factory.mktemp("small") / "bag"
    with BagWriter(folder, SMALL) as writer:
        for k in range(1, 21):
            writer.write("/a" if k % 3 else "/b", STRING, text("x" * k), k, k)
    messages = [(m.topic, m.raw) for m in BagReader(folder).messages()]
    assert len(messages) == 20
    return (folder / "bag_0.mcap").read_bytes(), messages


def _ends(data: bytes, messages) -> list[int]:
    """Where each message's bytes end in the file."""
    ends, position = [], 0
    for _, raw in messages:
        position = data.index(raw, position) + len(raw)
        ends.append(position)
    return ends


def test_every_prefix_yields_its_complete_messages(small_file, tmp_path):
    data, messages = small_file
    ends = _ends(data, messages)
    path = tmp_path / "prefix.mcap"
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        reader = BagReader(path)
        found = list(reader.messages())
        complete = sum(end <= size for end in ends)
        assert [(m.topic, m.raw) for m in found] == messages[:complete], size
        assert reader.finished == (size == len(data))
        assert reader.damaged == 0


def test_power_loss_loses_nothing_acknowledged(tmp_path, monkeypatch):
    """Whatever was written after the last fdatasync is dropped, torn, or replaced by zeros."""
    log: list[tuple[int, int, float]] = []  # bytes written, bytes synced, acknowledged messages
    state = {"written": 0, "synced": 0}
    write, sync = os.writev, os.fdatasync

    def logged_write(handle, buffers):
        state["written"] += (done := write(handle, buffers))
        log.append((state["written"], state["synced"], writer_acknowledged()))
        return done

    def logged_sync(handle):
        before = state["written"]
        sync(handle)
        state["synced"] = before

    def writer_acknowledged():
        count = writer.accounting().get("/a") if writer else None
        return count.acknowledged if count else 0

    writer = None
    monkeypatch.setattr(logfile_module.os, "writev", logged_write)
    monkeypatch.setattr(logfile_module.os, "fdatasync", logged_sync)
    writer = BagWriter(tmp_path / "bag", SMALL)
    for k in range(1, 301):
        writer.write("/a", STRING, text(f"{k:0100d}"), k, k)
        time.sleep(0.001)
    writer.close()
    monkeypatch.undo()
    data = (tmp_path / "bag" / "bag_0.mcap").read_bytes()
    expected = [text(f"{k:0100d}") for k in range(1, 301)]
    path = tmp_path / "lost.mcap"
    rng = np.random.default_rng(0)
    for case in range(1000):
        written, synced, acknowledged = log[int(rng.integers(len(log)))]
        rest = bytearray(data[synced:written])
        if case % 3 == 0:
            del rest[int(rng.integers(len(rest) + 1)) :]
        elif case % 3 == 1 and rest:
            a, b = sorted(rng.integers(0, len(rest) + 1, 2).tolist())
            rest[a:b] = bytes(b - a)
        elif rest:
            rest[int(rng.integers(len(rest))) :] = rng.bytes(len(rest) // 2)
        path.write_bytes(data[:synced] + rest)
        # before the first sync there may be nothing to open
        found = [] if synced + len(rest) == 0 else _verified(path, synced)
        assert found[:acknowledged] == expected[:acknowledged], case
        assert set(found) <= set(expected), case


def _verified(path: Path, synced: int) -> list[bytes]:
    try:
        return [m.raw for m in BagReader(path).messages() if m.verified]
    except BagError:
        assert synced == 0
        return []


def test_what_no_checksum_covers_is_marked(small_file, tmp_path):
    data, messages = small_file
    path = tmp_path / "prefix.mcap"
    path.write_bytes(data[: _ends(data, messages)[1]])
    assert [m.verified for m in BagReader(path).messages()] == [False, False]
    path.write_bytes(data)
    assert all(m.verified for m in BagReader(path).messages())


def test_any_flipped_bit_is_noticed_or_harmless(small_file, tmp_path):
    """Never another message than was written; at most one chunk is lost, and it is counted."""
    data, messages = small_file
    original = set(messages)
    path = tmp_path / "flipped.mcap"
    rng = np.random.default_rng(0)
    for position in rng.choice(len(data), 400, replace=False):
        flipped = bytearray(data)
        flipped[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            reader = BagReader(path)
            found = [(m.topic, m.raw) for m in reader.messages() if m.verified]
        except CondenseError:
            continue
        assert set(found) <= original, position
        if len(found) < len(messages):
            assert reader.damaged >= 1 or reader.unfinished(), position


def test_damaged_chunk_is_skipped_and_counted(small_file, tmp_path):
    data, messages = small_file
    middle = _ends(data, messages)[14] - 3
    flipped = bytearray(data)
    flipped[middle] ^= 0x10
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "bag_0.mcap").write_bytes(flipped)
    info = bag_info(tmp_path / "bag")
    assert info.damaged == 1
    assert 0 < info.messages < 20


def test_damaged_record_length_costs_one_chunk(small_file, tmp_path):
    data, messages = small_file
    chunks = [
        position
        for position in range(len(data) - 9)
        if data[position] == 6 and data[position + 3 : position + 9] == bytes(6)
    ]
    flipped = bytearray(data)
    flipped[chunks[1] + 5] = 0x7F
    path = tmp_path / "bag.mcap"
    path.write_bytes(flipped)
    reader = BagReader(path)
    found = [(m.topic, m.raw) for m in reader.messages()]
    assert reader.damaged == 1
    assert 0 < len(found) < 20
    assert found[-1] == messages[-1]


def test_foreign_and_missing_files(tmp_path):
    with pytest.raises(BagError, match="no bag at"):
        BagReader(tmp_path / "nothing")
    (tmp_path / "folder").mkdir()
    with pytest.raises(BagError, match=r"holds no \.mcap"):
        BagReader(tmp_path / "folder")
    (tmp_path / "folder" / "metadata.yaml").write_text("")
    with pytest.raises(BagError, match=r"holds no \.mcap"):
        BagReader(tmp_path / "folder")
    (tmp_path / "x.mcap").write_bytes(b"#!/bin/sh\n" * 100)
    with pytest.raises(BagError, match="no MCAP file"):
        BagReader(tmp_path / "x.mcap")
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(BagError, match="is no bag"):
        BagReader(tmp_path / "x.txt")


@pytest.mark.parametrize("content", [None, "", "{", "rosbag2_bagfile_information: 3"])
def test_metadata_missing_or_damaged(tmp_path, content):
    with BagWriter(tmp_path / "bag") as writer:
        record(writer, 2)
    metadata = tmp_path / "bag" / "metadata.yaml"
    metadata.unlink() if content is None else metadata.write_text(content)
    assert bag_info(tmp_path / "bag").pairs == 2


def test_two_recorders_on_one_path(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        with pytest.raises(BagError, match="another recorder"):
            BagWriter(tmp_path / "bag")
        writer.write("/a", STRING, text("x"), 1, 1)
    with pytest.raises(BagError, match="not empty"):
        BagWriter(tmp_path / "bag")
    assert len(list(BagReader(tmp_path / "bag").messages())) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(BagError, match="may write"):
        BagWriter(tmp_path / "bag")


def test_folder_on_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BagError, match="cannot be made"):
        BagWriter(tmp_path / "file" / "bag")


def test_folder_without_permission(tmp_path, monkeypatch):
    def refuse(*arguments, **keywords):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(logfile_module.os, "open", refuse)
    with pytest.raises(BagError, match="Permission denied"):
        BagWriter(tmp_path / "bag")


class FullDisk:
    """`os.writev` of a disk with so many bytes left; partial writes included."""

    def __init__(self, monkeypatch, room: int) -> None:
        self.room = room
        monkeypatch.setattr(logfile_module.os, "writev", self)

    def __call__(self, handle: int, buffers: list[memoryview]) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = os.write(handle, b"".join(buffers)[: self.room])
        self.room -= done
        return done


def _wait(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("room", [3000, 5001, 7777])
def test_disk_full_then_room_again(tmp_path, monkeypatch, room):
    disk = FullDisk(monkeypatch, room)
    writer = BagWriter(tmp_path / "bag", SMALL)
    sent = 0

    def send(count):
        nonlocal sent
        for _ in range(count):
            sent += 1
            writer.write("/a", STRING, text(f"{sent:0200d}"), sent, sent)

    send(100)
    _wait(lambda: isinstance(writer.problem, StorageFull))
    assert "free space" in str(writer.problem)
    # what is on the disk can be read while it is full
    early = [m.stamp_ns for m in BagReader(tmp_path / "bag").messages()]
    assert early == list(range(1, len(early) + 1))
    acknowledged = writer.accounting()["/a"].acknowledged
    assert len(early) >= acknowledged
    send(20)
    _wait(lambda: writer.accounting()["/a"].dropped.get("storage_full", 0) >= 20)
    disk.room = 10**9
    _wait(lambda: writer.problem is None)
    send(30)
    writer.close()
    count = writer.accounting()["/a"]
    assert count.queued == 0
    assert count.accepted == sent == count.written + count.dropped["storage_full"]
    reader = BagReader(tmp_path / "bag")
    found = [m.stamp_ns for m in reader.messages()]
    assert reader.damaged == 0
    assert reader.finished
    assert len(found) == count.written
    assert found[: len(early)] == early
    assert found[-30:] == list(range(sent - 29, sent + 1))


def test_a_file_begun_on_a_full_disk_holds_the_calibration(tmp_path, monkeypatch):
    disk = FullDisk(monkeypatch, 10**9)
    writer = BagWriter(tmp_path / "bag", SMALL)
    camera = CameraModel(np.eye(3), 4, 2)
    info = wire.encode_camera_info(wire.Header(1, "cam"), camera)
    writer.write("/cam/camera_info", wire.CAMERA_INFO, info, 1, 1)
    assert writer.flush()
    disk.room = 0
    writer.split()
    _wait(lambda: isinstance(writer.problem, StorageFull))
    second = tmp_path / "bag" / "bag_1.mcap"
    late = 1
    while not second.exists():  # every message makes it try again
        late += 1
        writer.write("/a", STRING, text("lost"), late, late)
        time.sleep(0.01)
        assert late < 1000
    time.sleep(0.05)
    disk.room = 10**9
    _wait(lambda: writer.problem is None)
    writer.write("/a", STRING, text("kept"), 5000, 5000)
    writer.close()
    assert [m.topic for m in BagReader(second).messages()] == ["/cam/camera_info", "/a"]
    assert BagReader(tmp_path / "bag").damaged == 0


def test_disk_full_until_the_end(tmp_path, monkeypatch):
    FullDisk(monkeypatch, 4000)
    writer = BagWriter(tmp_path / "bag", SMALL)
    for k in range(1, 101):
        writer.write("/a", STRING, text(f"{k:0200d}"), k, k)
    with pytest.raises(StorageFull, match="no room"):
        writer.close()
    count = writer.accounting()["/a"]
    assert count.accepted == 100 == count.written + count.dropped["storage_full"]
    found = [m.stamp_ns for m in BagReader(tmp_path / "bag").messages()]
    assert found == list(range(1, count.written + 1))
    assert count.written > 0


def test_disk_guard_stops_before_the_disk_is_full(tmp_path):
    with pytest.raises(StorageFull, match="must stay free"):
        BagWriter(tmp_path / "bag", RecordConfig(min_free_mib=1e9))


def test_what_a_failed_sync_covered_is_never_acknowledged(tmp_path, monkeypatch):
    """Linux reports a lost page once; a second fdatasync succeeds without having written it."""
    writer = BagWriter(tmp_path / "bag", SMALL)
    writer.write("/a", STRING, text("a"), 1, 1)
    assert writer.flush()

    def broken(handle):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(logfile_module.os, "fdatasync", broken)
    writer.write("/a", STRING, text("b"), 2, 2)
    _wait(lambda: isinstance(writer.problem, BagError))
    assert not writer.flush(0.2)
    time.sleep(0.1)  # tries again, in vain
    assert writer.accounting()["/a"].acknowledged == 1
    monkeypatch.undo()
    _wait(lambda: writer.problem is None)
    assert writer.accounting()["/a"].acknowledged == 1
    writer.write("/a", STRING, text("c"), 3, 3)
    writer.close()
    count = writer.accounting()["/a"]
    assert (count.accepted, count.written, count.acknowledged) == (3, 3, 2)
    # what came later is in a file of its own
    files = [
        [m.log_ns for m in BagReader(file).messages()] for file in bag_info(tmp_path / "bag").files
    ]
    assert files == [[1, 2], [3]]


def test_slow_disk_drops_are_counted_per_topic(tmp_path, monkeypatch):
    write = os.writev

    def slow(handle, buffers):
        time.sleep(0.02)
        return write(handle, buffers)

    monkeypatch.setattr(logfile_module.os, "writev", slow)
    config = RecordConfig(chunk_mib=0.01, queue_mib=0.2)
    writer = BagWriter(tmp_path / "bag", config)
    for k in range(1, 201):
        writer.write("/big", STRING, text("x" * 20_000), k, k)
        writer.write("/small", STRING, text("x"), k, k)
    writer.close()
    counts = writer.accounting()
    assert counts["/big"].dropped["queue_full"] > 0
    assert counts["/small"].dropped == {}
    for topic, count in counts.items():
        assert count.accepted == 200 == count.written + sum(count.dropped.values())
        assert len(list(BagReader(tmp_path / "bag").messages([topic]))) == count.written


def test_a_full_tmpfs(tmp_path):
    """The real thing, where this process may mount."""
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], capture_output=True
    )
    if done.returncode:
        pytest.skip("may not mount a tmpfs")
    try:
        ballast = mount / "ballast"
        ballast.write_bytes(bytes(500_000))
        writer = BagWriter(mount / "bag", SMALL)
        for k in range(1, 401):
            writer.write("/a", STRING, text("x" * 2000), k, k)
        _wait(lambda: isinstance(writer.problem, StorageFull))
        ballast.unlink()
        _wait(lambda: writer.problem is None)
        writer.write("/a", STRING, text("last"), 401, 401)
        writer.close()
        found = list(BagReader(mount / "bag").messages())
        assert found[-1].raw == text("last")
        assert len(found) == writer.accounting()["/a"].written
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_clock_moved_back_while_recording(tmp_path):
    with BagWriter(tmp_path / "bag", SMALL) as writer:
        for stamp in (50, 60, 10, 20):
            writer.write("/a", STRING, text(str(stamp)), stamp, stamp)
    assert [m.log_ns for m in BagReader(tmp_path / "bag").messages()] == [50, 60, 10, 20]
    assert bag_info(tmp_path / "bag").duration_s == pytest.approx(50e-9)


def test_the_mcap_library_reads_a_killed_file_up_to_its_end(tmp_path):
    _kill_once(tmp_path / "bag", 0.1, 0.0)
    found = 0
    with open(tmp_path / "bag" / "bag_0.mcap", "rb") as stream:
        try:
            for item in StreamReader(stream, validate_crcs=True).records:
                found += type(item).__name__ == "Message"
        # it has no footer
        except Exception:
            pass
    whole = [m for m in BagReader(tmp_path / "bag").messages() if m.verified]
    assert found == len(whole) > 0
