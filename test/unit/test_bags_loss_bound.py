"""The stated bounds of loss: what a kill and a power loss may cost, with a disk that takes long."""

from __future__ import annotations

import threading
import time

import pytest
from bag_tools import STRING, text

from condense_ros.bags import BagReader, BagWriter, RecordConfig
from condense_ros.bags import logfile as logfile_module

#: what a busy machine may add to any wait
SLACK_S = 1.0


@pytest.fixture
def slow_sync(monkeypatch):
    """An fdatasync that takes 0.3 s; returns how many have ended."""
    ended = []
    sync = logfile_module.os.fdatasync

    def slow(handle: int) -> None:
        time.sleep(0.3)
        sync(handle)
        ended.append(time.monotonic())

    monkeypatch.setattr(logfile_module.os, "fdatasync", slow)
    return ended


def test_bounds_of_loss_while_recording(tmp_path, slow_sync):
    """With I = 0.1 s and D = 0.3 s: read back within I, acknowledged within max(I, D) + D."""
    writer = BagWriter(tmp_path / "bag", RecordConfig(flush_interval_s=0.1, chunk_mib=100.0))
    sent: list[float] = []
    stop = threading.Event()

    def feed() -> None:
        while not stop.is_set():
            sent.append(time.monotonic())
            writer.write("/a", STRING, text("x" * 1000), len(sent), len(sent))
            time.sleep(0.01)

    thread = threading.Thread(target=feed)
    thread.start()
    kill_ages, power_ages = [], []
    try:
        deadline = time.monotonic() + 4.0
        while time.monotonic() < deadline:
            time.sleep(0.05)
            now = time.monotonic()
            # what a kill now would leave: what is in the file
            kept = len(BagReader(tmp_path / "bag").index)
            acknowledged = writer.accounting().get("/a")
            kill_ages.append(now - sent[kept] if kept < len(sent) else 0.0)
            count = acknowledged.acknowledged if acknowledged else 0
            power_ages.append(now - sent[count] if count < len(sent) else 0.0)
    finally:
        stop.set()
        thread.join()
        writer.close()
    assert max(kill_ages) < 0.1 + SLACK_S
    assert max(power_ages) < 0.6 + SLACK_S
    # nearly always, and without the slack of the machine
    assert sorted(kill_ages)[len(kill_ages) // 2] < 0.1 + 0.1
    assert sorted(power_ages)[len(power_ages) // 2] < 0.6 + 0.1
    assert len(slow_sync) >= 5


def test_the_disk_is_told_early_when_much_comes_in(tmp_path):
    """`sync_mib` does not wait for the flush interval."""
    config = RecordConfig(flush_interval_s=1000.0, sync_mib=0.1, chunk_mib=0.01)
    with BagWriter(tmp_path / "bag", config) as writer:
        for k in range(1, 101):
            writer.write("/a", STRING, text("x" * 10_000), k, k)
        deadline = time.monotonic() + 10
        while writer.accounting()["/a"].acknowledged < 80:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        # what is less than that waits for the interval
        assert writer.accounting()["/a"].acknowledged <= 100
        assert writer.flush()
        assert writer.accounting()["/a"].acknowledged == 100
