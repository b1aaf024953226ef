"""The approximate policy against a brute-force formulation of the published algorithm."""

from __future__ import annotations

import numpy as np
import pytest

from condense_ros.sync import SyncConfig, Synchronizer

MS = 1_000_000


def brute_force(streams, tolerance_ns, age_penalty):
    """Sets of stamps chosen with all messages known: no queues, no search state.

    For a pivot p, the candidates are, for every possible start s <= p, the first message at or
    after s of every topic. They are compared in order of s.
    """
    rest = [sorted(stream) for stream in streams]
    sets = []
    while all(rest):
        heads = [stream[0] for stream in rest]
        pivot, start = max(heads), min(heads)
        if pivot - start > tolerance_ns:
            rest[heads.index(start)].pop(0)
            continue
        best = heads
        for s in sorted({t for stream in rest for t in stream if start < t <= pivot}):
            candidate = [next((t for t in stream if t >= s), None) for stream in rest]
            if None in candidate:
                break
            gain, loss = min(candidate) - min(best), max(candidate) - max(best)
            if loss * (1 + age_penalty) < gain:
                best = candidate
        sets.append(tuple(best))
        rest = [[t for t in stream if t > b] for stream, b in zip(rest, best, strict=True)]
    return sets


def random_streams(rng):
    """Two to five topics of different rates with jitter, gaps and offsets."""
    streams = []
    for _ in range(rng.integers(2, 6)):
        period = int(rng.integers(5, 60)) * MS
        count = int(rng.integers(5, 40))
        stamps = period * np.arange(1, count + 1) + rng.integers(0, 50 * MS)
        stamps = stamps + rng.integers(0, int(period * rng.uniform(0.05, 0.9)) + 1, count)
        kept = np.unique(stamps[rng.random(count) > 0.15])
        streams.append([int(t) + 10**9 for t in kept])
    return streams


def interleavings(rng, streams):
    """Arrival in order of stamp plus a delay of each topic."""
    delays = rng.integers(0, 200 * MS, len(streams))
    events = [(t + delays[i], i, t) for i, stream in enumerate(streams) for t in stream]
    return [(i, t) for _, i, t in sorted(events)]


def run(streams, events, config):
    found = []
    topics = [f"/t{i}" for i in range(len(streams))]
    sync = Synchronizer(
        topics, config, lambda m: found.append(tuple(m[topic].stamp_ns for topic in topics))
    )
    for i, stamp in events:
        sync.add(topics[i], stamp, None)
    sync.finish()
    return found, sync


@pytest.mark.parametrize("block", range(4))
def test_same_sets_as_brute_force(block):
    rng = np.random.default_rng(block)
    matches = 0
    for _ in range(150):
        streams = random_streams(rng)
        tolerance, penalty = float(rng.uniform(0.002, 0.08)), float(rng.choice([0.0, 0.1, 0.5]))
        config = SyncConfig(tolerance_s=tolerance, queue_size=1000, age_penalty=penalty)
        found, _ = run(streams, interleavings(rng, streams), config)
        assert found == brute_force(streams, round(tolerance * 1e9), penalty)
        matches += len(found)
    assert matches > 500


@pytest.mark.slow
def test_same_sets_as_brute_force_on_ten_thousand_streams():
    rng = np.random.default_rng(99)
    for _ in range(10_000):
        streams = random_streams(rng)
        tolerance = float(rng.uniform(0.002, 0.08))
        config = SyncConfig(tolerance_s=tolerance, queue_size=1000)
        found, _ = run(streams, interleavings(rng, streams), config)
        assert found == brute_force(streams, round(tolerance * 1e9), 0.1)


def test_picks_the_tighter_set_around_the_pivot():
    # pivot = b at 100; a at 60 and 98: the later a is nearer
    streams = [[10**9 + 60 * MS, 10**9 + 98 * MS, 10**9 + 300 * MS], [10**9 + 100 * MS]]
    events = [(0, streams[0][0]), (1, streams[1][0]), (0, streams[0][1]), (0, streams[0][2])]
    found, sync = run(streams, events, SyncConfig(tolerance_s=0.05))
    assert found == [(10**9 + 98 * MS, 10**9 + 100 * MS)]
    account = sync.accounting()["/t0"]
    assert account.dropped == {"no_partner": 1, "end_of_stream": 1}


def test_matches_at_once_when_no_later_message_can_be_better():
    """Equal stamps are optimal: the set comes with its last message, not one period later."""
    found = []
    sync = Synchronizer(["/a", "/b"], SyncConfig(), lambda m: found.append(m["/a"].stamp_ns))
    sync.add("/a", 10**9, None)
    sync.add("/b", 10**9, None)
    assert found == [10**9]


def test_queue_full_drops_the_oldest_of_the_offending_topic():
    dropped = []
    sync = Synchronizer(
        ["/a", "/b"],
        SyncConfig(queue_size=3),
        lambda m: None,
        lambda topic, stamp, reason: dropped.append((topic, stamp, reason)),
    )
    for k in range(1, 6):
        sync.add("/a", k * 10**9, None)
    assert dropped == [("/a", 10**9, "queue_full"), ("/a", 2 * 10**9, "queue_full")]
    assert sync.accounting()["/a"].waiting == 3


def test_out_of_order_messages_are_put_in_place():
    rng = np.random.default_rng(5)
    for _ in range(50):
        streams = [[10**9 + int(t) * MS for t in range(0, 1000, 100)] for _ in range(2)]
        # swap neighbours of one topic while the other is still silent
        first = list(streams[0])
        for k in range(0, 10, 2):
            if rng.random() < 0.5:
                first[k], first[k + 1] = first[k + 1], first[k]
        events = [(0, t) for t in first] + [(1, t) for t in streams[1]]
        found, _ = run(streams, events, SyncConfig(tolerance_s=0.01))
        assert found == [(t, t) for t in streams[0]]
