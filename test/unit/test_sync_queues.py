"""Queues sized from measured lateness and rate, within a bound of memory."""

from __future__ import annotations

import pytest

from condense_ros.sync import SyncConfig, Synchronizer

MS = 1_000_000
MIB = 1024**2


def late(sync, delay_ms, *, count=300, period_ms=100, size_bytes=0):
    """/a on time, /b `delay_ms` late."""
    events = []
    for k in range(count):
        t = 1_000_000 + k * period_ms
        events += [(t, "/a", t), (t + delay_ms, "/b", t)]
    for arrival, topic, stamp in sorted(events):
        sync.add(topic, stamp * MS, None, arrival_s=arrival / 1e3, size_bytes=size_bytes)


@pytest.mark.parametrize("policy", ["approximate", "slop", "exact", "nearest"])
def test_a_queue_grows_with_the_lateness_of_the_others(policy):
    """20 s late at 10 Hz: 200 messages must wait; a queue of 50 would match nothing, ever."""
    config = SyncConfig(policy=policy, tolerance_s=0.02, latency_s=60.0)
    sync = Synchronizer(["/a", "/b"], config, lambda m: None)
    late(sync, 20_000)
    limits = sync.queue_limits()
    # 1.5 * (20 s + 0.02 s) * 10 Hz, rounded up; the lateness of the first message counts
    assert 295 <= limits["/a"] <= 310
    assert limits["/b"] == 50
    account = sync.accounting()
    # what came before anything was known of /b, beyond the 50 held from the start, is lost
    assert account["/a"].dropped["queue_full"] == pytest.approx(150, abs=3)
    assert account["/b"].matched == pytest.approx(150, abs=3)
    assert account["/b"].matched == account["/a"].matched
    assert not any("queue_memory_mib" in text for text in sync.diagnose(1300.0))


def test_the_bound_of_memory_holds_and_is_named():
    config = SyncConfig(tolerance_s=0.02, queue_memory_mib=64.0)
    sync = Synchronizer(["/a", "/b"], config, lambda m: None)
    late(sync, 20_000, size_bytes=MIB)
    # half of 64 MiB for each topic, messages of 1 MiB and a little
    assert sync.queue_limits() == {"/a": 31, "/b": 31}
    account = sync.accounting()
    assert account["/a"].waiting + account["/b"].waiting <= 64
    (warning,) = sync.diagnose(0.0)
    assert "queue_memory_mib = 64 holds (31 of /a)" in warning
    assert "Raise queue_memory_mib" in warning


def test_larger_messages_shorten_the_queue_at_once():
    sync = Synchronizer(["/a", "/b"], SyncConfig(queue_memory_mib=10.0), lambda m: None)
    for k in range(1, 41):
        sync.add("/a", k * 100 * MS, None, size_bytes=1000)
    assert sync.accounting()["/a"].waiting == 40
    sync.add("/a", 41 * 100 * MS, None, size_bytes=MIB)
    assert sync.accounting()["/a"].waiting == sync.queue_limits()["/a"] == 4
    assert sync.accounting()["/a"].dropped == {"queue_full": 37}


def test_another_clock_does_not_make_a_queue_grow():
    sync = Synchronizer(["/a", "/b"], SyncConfig(), lambda m: None)
    for k in range(1, 200):
        sync.add("/a", 1_700_000_000 * 10**9 + k * 100 * MS, None)
        sync.add("/b", k * 100 * MS, None)
    assert sync.queue_limits() == {"/a": 50, "/b": 50}


def test_a_fixed_size_stays():
    sync = Synchronizer(["/a", "/b"], SyncConfig(queue_size=7), lambda m: None)
    late(sync, 20_000)
    assert sync.queue_limits() == {"/a": 7, "/b": 7}
