"""Upstream's synchroniser behind our interface: same sets as slop, every message counted."""

from __future__ import annotations

import numpy as np
import pytest
from sync_streams import random_events

from condense_ros.errors import EnvironmentProblem
from condense_ros.nodes.message_filters_policy import MessageFiltersPolicy
from condense_ros.sync import SyncConfig, Synchronizer

pytestmark = pytest.mark.ros


def run(policy, topics, events, tolerance_s, queue_size):
    names = [f"/t{i}" for i in range(topics)]
    config = SyncConfig(policy=policy, tolerance_s=tolerance_s, queue_size=queue_size)
    sets = []

    def on_match(found):
        sets.append(tuple((found[n].stamp_ns, found[n].item) for n in names))
        raise RuntimeError("user code")  # upstream would keep its lock and fall silent

    sync = Synchronizer(names, config, on_match, factory=MessageFiltersPolicy)
    for number, (i, stamp) in enumerate(events):
        sync.add(names[i], stamp, number)
        for count in sync.accounting().values():
            assert count.received == count.matched + sum(count.dropped.values()) + count.waiting
    assert sync.callback_errors == len(sets)
    return sets, sync.accounting()


def test_same_sets_and_account_as_slop():
    pytest.importorskip("message_filters", reason="comes with a ROS installation, not from PyPI")
    rng = np.random.default_rng(11)
    matched = 0
    for _ in range(200):
        tolerance_ms = int(rng.integers(4, 40))
        topics, events = random_events(rng, tolerance_ms)
        settings = (topics, events, tolerance_ms / 1e3, int(rng.choice([1, 3, 10, 50])))
        found = run("message_filters", *settings)
        assert found == run("slop", *settings)
        matched += len(found[0])
    assert matched > 400


def test_without_the_package_the_message_names_it_and_the_way_out(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "message_filters", None)
    with pytest.raises(EnvironmentProblem, match=r"message-filters.*sync.policy to slop"):
        run("message_filters", 2, [], 0.05, 10)
