"""Every message is accounted for, whatever the streams look like."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from condense_ros.errors import ConfigError
from condense_ros.sync import SyncConfig, Synchronizer

TOPICS = ["/a", "/b", "/c"]
MS = 1_000_000
POLICIES = ["approximate", "slop", "exact", "nearest"]


def check(sync, received):
    for topic, account in sync.accounting().items():
        assert account.received == received[topic]
        total = account.matched + sum(account.dropped.values()) + account.waiting
        assert account.received == total, (topic, account)


# mostly forward steps, with duplicates, disorder, zeros and jumps in both directions
steps = st.one_of(
    st.integers(0, 60), st.just(0), st.integers(-80, -1), st.just(-5000), st.just(3_600_000)
)
events = st.lists(st.tuples(st.integers(0, 2), steps), max_size=120)


@settings(max_examples=500, deadline=None)
@given(
    events=events,
    policy=st.sampled_from(["approximate", "slop", "exact", "nearest"]),
    queue_size=st.integers(0, 12),
    tolerance_ms=st.integers(1, 100),
    raising=st.booleans(),
)
def test_identity_holds_after_every_message(events, policy, queue_size, tolerance_ms, raising):
    config = SyncConfig(policy=policy, queue_size=queue_size, tolerance_s=tolerance_ms / 1e3)
    matches, drops = [], Counter()

    def on_match(found):
        matches.append(found)
        if raising and len(matches) % 2:
            raise RuntimeError("user code")

    sync = Synchronizer(
        TOPICS, config, on_match, lambda topic, _, reason: drops.update([(topic, reason)])
    )
    received, clocks = Counter(), [1_000_000] * 3
    used = set()
    for number, (i, step) in enumerate(events):
        clocks[i] = max(0, clocks[i] + step)
        received[TOPICS[i]] += 1
        sync.add(TOPICS[i], clocks[i] * MS, number)
        check(sync, received)
    sync.finish()
    check(sync, received)
    for topic, account in sync.accounting().items():
        assert account.waiting == 0
        assert account.matched == len(matches)
        assert dict(account.dropped) == {r: n for (t, r), n in drops.items() if t == topic}
    for found in matches:
        assert set(found) == set(TOPICS)
        stamps = [message.stamp_ns for message in found.values()]
        if policy == "approximate":
            assert max(stamps) - min(stamps) <= tolerance_ms * MS
        elif policy == "slop":
            assert max(stamps) - min(stamps) < tolerance_ms * MS
        elif policy == "exact":
            assert len(set(stamps)) == 1
        else:
            assert max(abs(s - stamps[TOPICS.index("/a")]) for s in stamps) <= tolerance_ms * MS
        for message in found.values():
            assert (message.topic, message.item) not in used
            used.add((message.topic, message.item))
    assert sync.callback_errors == (len(matches) + 1) // 2 * raising


def pairs_of(config, events, topics=("/a", "/b")):
    found = []
    sync = Synchronizer(
        topics, config, lambda m: found.append(tuple(m[t].stamp_ns for t in topics))
    )
    for topic, stamp in events:
        sync.add(topic, stamp, None)
    return found, sync


@pytest.mark.parametrize("policy", POLICIES)
def test_clock_jump_back_resets_and_matching_resumes(policy):
    first = [(t, 10**12 + k * 100 * MS) for k in range(10) for t in ("/a", "/b")]
    again = [(t, 10**10 + k * 100 * MS) for k in range(10) for t in ("/a", "/b")]
    # an unmatched message waits when the clock jumps
    found, sync = pairs_of(SyncConfig(policy=policy), [*first, ("/a", 10**12 + 1050 * MS), *again])
    sync.finish()
    assert [pair for pair in found if pair[0] < 10**12] == [(s, s) for _, s in again[::2]]
    assert sync.accounting()["/a"].dropped["clock_jump_back"] == 1
    assert sync.resets["clock_jump_back"] == 1
    assert sync.last_jump == ("/a", pytest.approx(-991.05))


@pytest.mark.parametrize("policy", POLICIES)
def test_messages_under_way_at_a_jump_back_make_no_second_one(policy):
    """A loop of a bag: the camera is already in the new time, three clouds of the old one come."""
    old = [(t, 10**12 + k * 100 * MS) for k in range(10) for t in ("/a", "/b")]
    late = [("/b", 10**12 + k * 100 * MS) for k in range(10, 13)]
    new = [10**10 + k * 100 * MS for k in range(10)]
    mixed = [("/a", new[0]), *late[:2], ("/a", new[1]), late[2], ("/b", new[0]), ("/b", new[1])]
    rest = [(t, s) for s in new[2:] for t in ("/a", "/b")]
    found, sync = pairs_of(SyncConfig(policy=policy), [*old, *mixed, *rest])
    sync.finish()
    assert found[-10:] == [(s, s) for s in new]
    assert sync.resets["clock_jump_back"] == 1
    assert sync.accounting()["/b"].dropped["clock_jump_back"] == 3


@pytest.mark.parametrize("policy", POLICIES)
def test_one_wrong_stamp_is_no_jump(policy):
    """A single stamp of the past costs one pair at most, in either topic."""
    stamps = [10**12 + k * 100 * MS for k in range(20)]
    events = [(t, s) for s in stamps for t in ("/a", "/b")]
    events.insert(21, ("/a", 10**10))
    found, sync = pairs_of(SyncConfig(policy=policy), events)
    sync.finish()
    assert len(found) >= 19
    assert sync.resets["clock_jump_back"] == 1


@pytest.mark.parametrize("policy", POLICIES)
def test_clock_jump_ahead_recovers(policy):
    hour = 3600 * 10**9
    stamps = [10**12 + k * 100 * MS for k in range(5)]
    stamps += [10**12 + hour + k * 100 * MS for k in range(5)]
    found, sync = pairs_of(
        SyncConfig(policy=policy), [(t, s) for s in stamps for t in ("/a", "/b")]
    )
    sync.finish()
    assert found == [(s, s) for s in stamps]
    assert sync.jumps_ahead == 2
    assert sync.last_jump == ("/b", pytest.approx(3599.6))


def test_duplicates_and_invalid_stamps_are_named():
    _, sync = pairs_of(SyncConfig(), [("/a", 10**9), ("/a", 10**9), ("/a", 0), ("/a", -5)])
    account = sync.accounting()["/a"]
    assert account.dropped == {"duplicate_stamp": 1, "invalid_stamp": 2}
    assert account.waiting == 1


@pytest.mark.parametrize("policy", ["approximate", "exact", "nearest"])
def test_too_late(policy):
    stamps = [(t, 10**9 + k * 100 * MS) for k in range(5) for t in ("/a", "/b")]
    _, sync = pairs_of(SyncConfig(policy=policy), [*stamps, ("/b", 10**9 + 50 * MS)])
    assert sync.accounting()["/b"].dropped == {"too_late": 1}


@pytest.mark.parametrize("policy", POLICIES)
def test_constant_offset_is_compensated(policy):
    config = SyncConfig(policy=policy, offsets_s=(0.0, -0.73), tolerance_s=0.01)
    stamps = [10**10 + k * 100 * MS for k in range(10)]
    found, sync = pairs_of(config, [e for s in stamps for e in (("/a", s), ("/b", s + 730 * MS))])
    sync.finish()
    assert found == [(s, s + 730 * MS) for s in stamps]


def test_callback_that_raises_does_not_stop_matching(caplog):
    calls = []

    def broken(found):
        calls.append(found)
        raise ValueError("user code")

    sync = Synchronizer(["/a", "/b"], SyncConfig(), broken)
    for k in range(1, 11):
        sync.add("/a", k * 10**9, None)
        sync.add("/b", k * 10**9, None)
    assert len(calls) == sync.callback_errors == sync.accounting()["/a"].matched == 10
    assert isinstance(sync.last_error, ValueError)
    assert "matching goes on" in caplog.text


def test_drop_callback_that_raises_does_not_stop_matching_either():
    """A drop callback is called for every drop, in order with the matches."""
    order = []

    def dropped(topic, stamp_ns, reason):
        order.append((topic, reason))
        raise KeyError("user code")

    sync = Synchronizer(
        ["/a", "/b"], SyncConfig(), lambda m: order.append(m["/a"].stamp_ns), dropped
    )
    sync.add("/a", 10**9, None)
    for k in (5, 6):
        sync.add("/a", k * 10**9, None)
        sync.add("/b", k * 10**9, None)
    assert order == [("/a", "no_partner"), 5 * 10**9, 6 * 10**9]
    assert sync.callback_errors == 1


@pytest.mark.parametrize("policy", POLICIES)
def test_threads_may_add_at_once(policy):
    """One thread per topic: callbacks never overlap, every message is accounted for."""
    topics = [f"/t{i}" for i in range(4)]
    inside, overlaps, stamps = [0], [0], []

    def on_match(found):
        inside[0] += 1
        overlaps[0] += inside[0] > 1
        stamps.append(found["/t0"].stamp_ns)
        inside[0] -= 1

    sync = Synchronizer(topics, SyncConfig(policy=policy, queue_size=1000), on_match)
    begin = threading.Barrier(len(topics))

    def feed(topic):
        begin.wait()
        for k in range(500):
            sync.add(topic, 10**9 + k * 100 * MS, k)

    threads = [threading.Thread(target=feed, args=(topic,)) for topic in topics]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sync.finish()
    check(sync, dict.fromkeys(topics, 500))
    assert overlaps[0] == 0
    assert stamps == sorted(stamps)
    assert len(stamps) == sync.matches == sync.accounting()["/t0"].matched
    if policy != "nearest":  # which gives up on topics that come later than latency_s
        assert len(stamps) == 500


def test_callback_may_add_messages():
    order = []

    def on_match(found):
        order.append(found["/a"].stamp_ns)
        if len(order) == 1:
            sync.add("/a", 2 * 10**9, None)
            sync.add("/b", 2 * 10**9, None)

    sync = Synchronizer(["/a", "/b"], SyncConfig(), on_match)
    sync.add("/a", 10**9, None)
    sync.add("/b", 10**9, None)
    assert order == [10**9, 2 * 10**9]


def test_nearest_takes_the_nearest_and_bounds_the_wait():
    config = SyncConfig(policy="nearest", tolerance_s=0.06, latency_s=0.2)
    base = 10**9
    events = [("/b", base + 40 * MS), ("/b", base + 90 * MS), ("/a", base + 100 * MS)]
    found, sync = pairs_of(config, events)
    assert found == []  # a later /b could be nearer
    sync.add("/b", base + 120 * MS, None)
    assert found == [(base + 100 * MS, base + 90 * MS)]
    # /b falls silent: the pivot of 150 ms is given up when the stamps are 200 ms past it
    sync.add("/a", base + 250 * MS, None)
    sync.add("/a", base + 400 * MS, None)
    assert sync.accounting()["/a"].dropped == {}
    sync.add("/a", base + 450 * MS, None)
    assert sync.accounting()["/a"].dropped == {"no_partner": 1}


def test_rates_of_one_hundred_and_ten_hertz():
    for policy in ("approximate", "nearest"):
        events = [("/a", 10**9 + k * 100 * MS) for k in range(20)]
        events += [("/b", 10**9 + k * 10 * MS + 3 * MS) for k in range(200)]
        events.sort(key=lambda event: event[1])
        found, sync = pairs_of(SyncConfig(policy=policy, tolerance_s=0.01), events)
        sync.finish()
        assert len(found) == 20
        assert all(b - a == 3 * MS or a - b == 7 * MS for a, b in found)


@pytest.mark.parametrize(
    ("topics", "config"),
    [
        (["/a"], SyncConfig()),
        (["/a", "/a"], SyncConfig()),
        (["/a", "/b"], SyncConfig(pivot="/c")),
        (["/a", "/b"], SyncConfig(offsets_s=(0.1,))),
    ],
)
def test_settings_that_do_not_fit_are_refused(topics, config):
    with pytest.raises(ConfigError, match="Fix"):
        Synchronizer(topics, config, lambda m: None)


def test_unknown_policy_and_topic():
    with pytest.raises(ConfigError, match="approximate, slop, exact, nearest"):
        SyncConfig(policy="sometimes")
    with pytest.raises(ConfigError, match="/z"):
        Synchronizer(["/a", "/b"], SyncConfig(), lambda m: None).add("/z", 1, None)
