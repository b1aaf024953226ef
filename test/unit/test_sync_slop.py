"""The slop policy against a brute force of its rule, and against upstream's Python class."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from sync_streams import MS, random_events

from condense_ros.errors import ConfigError
from condense_ros.sync import SyncConfig, Synchronizer


def brute_force(topics, events, queue_size, slop_ns):
    """Sets of (stamp, number of the message), judged over every combination of waiting messages.

    Of all combinations with the new message whose spread is below the slop, the one whose ranks of
    nearness (in the order of the topics) come first in the dictionary's order.
    """
    held = [[] for _ in range(topics)]  # (stamp, number), in order of arrival
    sets = []
    for number, (i, stamp) in enumerate(events):
        same = [k for k, (s, _) in enumerate(held[i]) if s == stamp]
        if same:
            held[i][same[0]] = (stamp, number)
        else:
            held[i].append((stamp, number))
        if len(held[i]) > queue_size:
            held[i].remove(min(held[i]))
        if (stamp, number) not in held[i]:
            continue
        others = [t for t in range(topics) if t != i]
        best = None
        for choice in product(*(range(len(held[t])) for t in others)):
            found = {t: held[t][k] for t, k in zip(others, choice, strict=True)}
            found[i] = (stamp, number)
            stamps = [s for s, _ in found.values()]
            if max(stamps) - min(stamps) >= slop_ns:
                continue
            rank = [(abs(found[t][0] - stamp), k) for t, k in zip(others, choice, strict=True)]
            if best is None or rank < best[0]:
                best = (rank, found)
        if best is not None:
            sets.append(tuple(best[1][t] for t in range(topics)))
            for t in range(topics):
                held[t].remove(best[1][t])
    return sets, [len(queue) for queue in held]


def ours(topics, events, config):
    names = [f"/t{i}" for i in range(topics)]
    sets = []
    sync = Synchronizer(
        names, config, lambda m: sets.append(tuple((m[t].stamp_ns, m[t].item) for t in names))
    )
    for number, (i, stamp) in enumerate(events):
        sync.add(names[i], stamp, number)
    account = sync.accounting()
    for count in account.values():
        assert count.received == count.matched + sum(count.dropped.values()) + count.waiting
    return sets, [account[name].waiting for name in names]


def settings(rng):
    tolerance_ms = int(rng.integers(4, 40))
    queue_size = int(rng.choice([1, 2, 3, 5, 10, 50]))
    # the clock's own resets are no part of upstream's semantics
    return tolerance_ms, SyncConfig(
        policy="slop", tolerance_s=tolerance_ms / 1e3, queue_size=queue_size, jump_back_s=1e6
    )


def compare(runs, seed, expected):
    rng = np.random.default_rng(seed)
    matches = 0
    for _ in range(runs):
        tolerance_ms, config = settings(rng)
        topics, events = random_events(rng, tolerance_ms)
        # as rclpy.duration.Duration: cut off, not rounded
        wanted = expected(topics, events, config.queue_size, int(config.tolerance_s * 1e9))
        found = ours(topics, events, config)
        assert found == wanted
        matches += len(found[0])
    return matches


def test_same_sets_as_brute_force():
    assert compare(400, 1, brute_force) > 800


@pytest.mark.slow
def test_same_sets_as_brute_force_on_ten_thousand_streams():
    assert compare(10_000, 2, brute_force) > 20_000


def upstream(topics, events, queue_size, slop_ns):
    """What message_filters' Python class publishes."""
    import message_filters
    from rclpy.time import Time

    inputs = [message_filters.SimpleFilter() for _ in range(topics)]
    sync = message_filters.ApproximateTimeSynchronizer(inputs, queue_size, slop_ns / 1e9)
    sets = []
    sync.registerCallback(lambda *found: sets.append(tuple((m.ns, m.number) for m in found)))
    for number, (i, stamp) in enumerate(events):
        header = SimpleNamespace(stamp=Time(nanoseconds=stamp))
        inputs[i].signalMessage(SimpleNamespace(header=header, ns=stamp, number=number))
    return sets, [len(queue) for queue in sync.queues]


@pytest.mark.parametrize(
    ("runs", "seed"), [(500, 3), pytest.param(10_000, 4, marks=pytest.mark.slow)]
)
def test_same_sets_as_the_python_class_of_message_filters(runs, seed):
    pytest.importorskip("message_filters", reason="comes with a ROS installation, not from PyPI")
    assert compare(runs, seed, upstream) > 2 * runs


def test_a_spread_equal_to_the_tolerance_is_no_match():
    config = SyncConfig(policy="slop", tolerance_s=0.01)
    apart = [(0, 10**9), (1, 10**9 + 10 * MS)]
    assert ours(2, apart, config)[0] == []
    assert ours(2, [(0, 10**9), (1, 10**9 + 10 * MS - 1)], config)[0] != []


def test_a_search_without_a_match_ends():
    """Two topics too far apart, behind six with sixty candidates each: 60**6 combinations."""
    base, slop = 10**10, 10**9
    events = [(6, base - 9 * slop // 10), (7, base + 9 * slop // 10)]
    for i in range(1, 6):
        events += [(i, base + k * MS) for k in range(-30, 30)]
    events += [(0, base + k * MS) for k in range(-30, 30)]
    config = SyncConfig(policy="slop", tolerance_s=1.0, queue_size=100)
    sets, waiting = ours(8, events, config)
    assert sets == []
    assert sum(waiting) == len(events)
    # a message that joins them is matched, with the nearest of every topic
    sets, _ = ours(8, [*events, (7, base + 50 * MS)], config)
    (found,) = sets
    assert found[6][0] == base - 9 * slop // 10
    assert found[7][0] == base + 50 * MS
    assert [stamp for stamp, _ in found[:6]] == [base + 29 * MS] * 6


def test_the_first_set_that_fits_is_taken():
    """Where the approximate policy waits for the nearer one."""
    base = 10**9
    events = [(0, base), (1, base + 8 * MS), (0, base + 8 * MS)]
    config = SyncConfig(policy="slop", tolerance_s=0.01)
    assert ours(2, events, config)[0] == [((base, 0), (base + 8 * MS, 1))]


def test_a_later_message_of_the_same_stamp_takes_the_place_of_the_first():
    config = SyncConfig(policy="slop")
    sets, _ = ours(2, [(0, 10**9), (0, 10**9), (1, 10**9)], config)
    assert sets == [((10**9, 1), (10**9, 2))]


def test_no_tolerance_is_refused():
    with pytest.raises(ConfigError, match=r"matches nothing.*choose policy exact"):
        SyncConfig(policy="slop", tolerance_s=0.0)


def test_message_filters_itself_is_for_the_node():
    with pytest.raises(ConfigError, match="choose slop"):
        Synchronizer(["/a", "/b"], SyncConfig(policy="message_filters"), lambda m: None)
