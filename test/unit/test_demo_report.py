"""The demo's account: what closes, and what is reported when it does not."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from condense_ros.cli.demo.report import check_identities

CLOSED: dict[str, Any] = {
    "topics": {
        "/points": {"sent": 9, "received": 8, "matched": 6, "dropped": {"x": 1}, "waiting": 1}
    },
    "bag": {
        "context": {"/tf": {"received": 5, "kept": 4, "dropped": {"malformed": 1}}},
        "recorder": {"/points": {"accepted": 7, "written": 5, "dropped": {"x": 1}, "queued": 1}},
    },
    "live": {"sent": 4, "received": 4, "segmented": 2, "dropped": {"superseded": 2}, "waiting": 0},
}


def test_closed_accounts():
    assert check_identities(CLOSED) == []


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (("topics", "/points", "matched"), "/points matched: 8 in, 9 out"),
        (("bag", "context", "/tf", "kept"), "/tf context: 5 in, 8 out"),
        (("bag", "recorder", "/points", "queued"), "/points recorded: 7 in, 10 out"),
        (("live", "segmented"), "/points live: 4 in, 6 out"),
        (("topics", "/points", "sent"), "/points: 4 sent, 8 received"),
    ],
)
def test_open_accounts_are_named(path, words):
    changed = copy.deepcopy(CLOSED)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] += {"matched": 1, "kept": 3, "queued": 3, "segmented": 2, "sent": -5}[path[-1]]
    assert words in check_identities(changed)
