"""Warnings name the cause, the measured value and the parameter."""

from __future__ import annotations

import re
import time

import pytest

from condense_ros.sync import SyncConfig, Synchronizer

MS = 1_000_000


def feed(sync, offset_ms, *, count=40, delay_ms=0, rate_ms=100, live=False):
    """/a on time; /b with an error of its clock, arriving `delay_ms` late."""
    events = []
    for k in range(count):
        t = 1000 * 1000 + k * rate_ms
        events.append((t, "/a", t))
        events.append((t + 7 + delay_ms, "/b", t + offset_ms))
    for arrival, topic, stamp in sorted(events):
        sync.add(topic, stamp * MS, None, arrival_s=arrival / 1e3 if live else None)


def sync_of(**values):
    return Synchronizer(["/a", "/b"], SyncConfig(**values), lambda m: None)


@pytest.mark.parametrize("offset_ms", [45, -45, 2045, -730, 12345])
@pytest.mark.parametrize("policy", ["approximate", "nearest"])
@pytest.mark.parametrize("live", [True, False])
def test_offset_beyond_the_tolerance_is_measured(offset_ms, policy, live):
    """Live, and as fast as a file is read, when arrival times say nothing."""
    sync = sync_of(tolerance_s=0.01, policy=policy, queue_size=20, silent_after_s=1e6)
    feed(sync, offset_ms, live=live)
    assert sync.accounting()["/a"].matched == 0
    (warning,) = sync.diagnose()
    assert "/b never matches" in warning
    assert "tolerance_s = 0.01" in warning
    measured = float(re.search(r"stamps are ([\d.]+) s", warning).group(1))
    assert measured == pytest.approx(abs(offset_ms) / 1e3, abs=0.01)
    assert ("ahead of" if offset_ms > 0 else "behind") in warning
    # following the advice makes it match
    value = float(re.search(r"to (-?[\d.]+); otherwise", warning).group(1))
    advised = sync_of(tolerance_s=0.01, offsets_s=(0.0, value), queue_size=20)
    feed(advised, offset_ms)
    assert advised.accounting()["/a"].matched >= 38


def test_silent_topic_is_named():
    sync = sync_of(silent_after_s=3.0)
    for k in range(5):
        sync.add("/a", 10**9 * (k + 1), None)
    assert sync.diagnose() == []
    warnings = sync.diagnose(time.monotonic() + 4)
    assert len(warnings) == 2
    assert warnings[0].startswith("/a: no message for 4.0 s")
    assert warnings[1].startswith("/b: no message at all in 4.0 s")
    assert "ros2 topic hz /b" in warnings[1]
    assert "QoS" in warnings[1]


def test_two_clocks_are_named_with_both_values():
    sync = sync_of()
    for k in range(12):
        sync.add("/a", 1_700_000_000 * 10**9 + k * 100 * MS, None)
        sync.add("/b", 50 * 10**9 + k * 100 * MS, None)
    (warning,) = sync.diagnose()
    assert "two different clocks" in warning
    assert "1700000001.100 s" in warning
    assert "51.100 s" in warning
    assert "use_sim_time" in warning


def test_a_clock_that_departs_later_is_told_as_soon():
    """The measurement starts anew: an hour of agreement must not outvote the present."""
    sync = sync_of()
    for k in range(100):
        sync.add("/a", 50 * 10**9 + k * 100 * MS, None)
        sync.add("/b", 50 * 10**9 + k * 100 * MS, None)
    assert sync.diagnose() == []
    for k in range(100, 112):
        sync.add("/a", 1_700_000_000 * 10**9 + k * 100 * MS, None)
        sync.add("/b", 50 * 10**9 + k * 100 * MS, None)
    (warning,) = sync.diagnose()
    assert "two different clocks" in warning


def test_late_topic_asks_for_a_longer_queue():
    sync = sync_of(queue_size=10, tolerance_s=0.01)
    feed(sync, 0, count=80, delay_ms=2000)
    (warning,) = sync.diagnose()
    wanted = int(re.search(r"queue_size to at least (\d+)", warning).group(1))
    advised = sync_of(queue_size=wanted, tolerance_s=0.01)
    feed(advised, 0, count=80, delay_ms=2000)
    assert advised.accounting()["/a"].matched == 80
    assert advised.diagnose() == []


def test_unstamped_messages_are_reported():
    sync = sync_of()
    for _ in range(3):
        sync.add("/b", 0, None)
    assert any("zero or negative stamp" in warning for warning in sync.diagnose())


@pytest.mark.parametrize("policy", ["approximate", "nearest"])
def test_no_warning_when_all_is_well(policy):
    sync = sync_of(policy=policy)
    feed(sync, 20)
    assert sync.diagnose() == []
