"""The exact policy: equal stamps, and what becomes of the messages between."""

from __future__ import annotations

import numpy as np
from sync_streams import MS, random_events

from condense_ros.sync import SyncConfig, Synchronizer


def run(names, events, **values):
    sets, drops = [], []
    sync = Synchronizer(
        names,
        SyncConfig(policy="exact", jump_back_s=1e6, **values),
        lambda m: sets.append(next(iter(m.values())).stamp_ns),
        lambda topic, stamp, reason: drops.append((topic, stamp, reason)),
    )
    for name, stamp in events:
        sync.add(name, stamp, None)
    for count in sync.accounting().values():
        assert count.received == count.matched + sum(count.dropped.values()) + count.waiting
    return sets, drops, sync


def test_equal_stamps_match_and_older_ones_lose_their_partners():
    second = 10**9
    events = [
        ("/a", second),
        ("/b", second + 1),
        ("/a", second + 2),
        ("/b", second + 2),
        ("/b", second + 1),
        ("/a", second),
        ("/a", second + 5),
    ]
    sets, drops, sync = run(["/a", "/b"], events)
    assert sets == [second + 2]
    assert drops == [
        ("/a", second, "no_partner"),
        ("/b", second + 1, "no_partner"),
        ("/b", second + 1, "duplicate_stamp"),
        ("/a", second, "duplicate_stamp"),
    ]
    assert sync.accounting()["/a"].waiting == 1


def test_a_full_queue_drops_the_oldest():
    second = 10**9
    _, drops, _ = run(["/a", "/b"], [("/a", k * second) for k in range(1, 6)], queue_size=3)
    assert drops == [("/a", second, "queue_full"), ("/a", 2 * second, "queue_full")]


def test_every_common_stamp_of_ordered_topics_is_found():
    """Topics that deliver in order, however late: the sets are the intersection."""
    rng = np.random.default_rng(7)
    matched = 0
    for _ in range(500):
        count, events = random_events(rng, 8, duplicates=False)
        events = [(i, stamp // (4 * MS) * 4 * MS) for i, stamp in events]
        ordered, heads = [], {i: sorted({s for j, s in events if i == j}) for i in range(count)}
        for i, _ in events:
            if heads[i]:
                ordered.append((f"/t{i}", heads[i].pop(0)))
        names = [f"/t{i}" for i in range(count)]
        sets, _, _ = run(names, ordered)
        common = set.intersection(*({s for n, s in ordered if n == name} for name in names))
        assert sets == sorted(common)
        matched += len(sets)
    assert matched > 300
