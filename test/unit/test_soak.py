"""Faults worked into a recording, and the verdict over what nodes held while they bore them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from training_scenes import small_drive

from condense_ros import wire
from condense_ros.cli.soak.verdict import (
    MEMORY_GROWTH,
    delivery_check,
    holdings_checks,
    identity_checks,
    read_samples,
)
from condense_ros.errors import ConfigError, WireError
from condense_ros.playback import PlaybackConfig, open_playback
from condense_ros.playback.chaos import ALL_FAULTS, CLOCK_FAULTS, FAULTS, Chaos, ChaosConfig

#: sweeps per second of the small drive
RATE = 2.0


@pytest.fixture(scope="module")
def playback(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = small_drive(tmp_path_factory.mktemp("soak") / "drive", frames=4)
    return open_playback(PlaybackConfig(path=str(folder)))


def steps(playback: Any, count: int, **config: Any) -> list[tuple[str, list[Any], bool]]:
    chaos = Chaos(playback, ChaosConfig(**config))
    found = []
    for _ in range(count):
        messages, restart = chaos.next()
        found.append((chaos.fault, messages, restart))
    return found


def test_quiet_steps_are_the_recording_with_rising_stamps(playback: Any) -> None:
    found = steps(playback, 30, quiet_s=100.0, rate_hz=RATE)
    stamps = [
        wire.read_header(m.raw).stamp_ns
        for _, messages, _ in found
        for m in messages
        if m.type_name == wire.POINT_CLOUD
    ]
    assert [b - a for a, b in itertools.pairwise(stamps)] == [500_000_000] * 29
    assert all(fault == "" for fault, _, _ in found)


def test_every_fault_comes_and_the_same_seed_brings_the_same(playback: Any) -> None:
    config = {"quiet_s": 0.5, "fault_s": 0.5, "rate_hz": RATE, "seed": 5}
    count = 2 * len(ALL_FAULTS)
    first, again = (steps(playback, count, **config) for _ in range(2))
    assert {fault for fault, _, _ in first} == {*ALL_FAULTS, ""}
    assert [(f, [m.raw for m in ms]) for f, ms, _ in first] == [
        (f, [m.raw for m in ms]) for f, ms, _ in again
    ]
    other = steps(playback, count, **{**config, "seed": 6})
    assert [f for f, _, _ in other] != [f for f, _, _ in first]


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_fault_changes_what_is_sent(playback: Any, fault: str) -> None:
    chaos = Chaos(
        playback, ChaosConfig(faults=(fault,), quiet_s=0.5, fault_s=10.0, rate_hz=RATE, seed=1)
    )
    calm = Chaos(playback, ChaosConfig(faults=(fault,), quiet_s=1e6, rate_hz=RATE))
    changed = 0
    for _ in range(20):
        faulty, _ = chaos.next()
        quiet, _ = calm.next()
        changed += [m.raw for m in faulty] != [m.raw for m in quiet]
    assert chaos.episodes[fault] == 1
    assert changed >= 6


@pytest.mark.parametrize(("fault", "seconds"), sorted(CLOCK_FAULTS.items()))
def test_the_clock_jumps_once_per_episode(playback: Any, fault: str, seconds: float) -> None:
    chaos = Chaos(playback, ChaosConfig(faults=(fault,), quiet_s=0.2, fault_s=0.2, rate_hz=10.0))
    times = []
    for _ in range(4):
        chaos.next()
        times.append(chaos.now_ns * 1e-9)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert gaps == pytest.approx([0.1, 0.1 + seconds, 0.1], abs=1e-3)


def test_an_unknown_fault_is_refused(playback: Any) -> None:
    with pytest.raises(ConfigError, match="frogs"):
        Chaos(playback, ChaosConfig(faults=("frogs",)))


def test_broken_messages_are_broken(playback: Any) -> None:
    chaos = Chaos(
        playback, ChaosConfig(faults=("clouds shorter than they say",), quiet_s=0.0, rate_hz=RATE)
    )
    messages, _ = chaos.next()
    (cloud,) = [m for m in messages if m.type_name == wire.POINT_CLOUD]
    with pytest.raises(WireError):
        wire.decode_cloud(cloud.raw)


def sample(time_s: float, **changes: float) -> dict[str, float]:
    base = {"resident_bytes": 2e8, "open_files": 20, "threads": 3, "objects": 6e4, "tensors": 7}
    return {"time_s": time_s, **base, **changes}


def test_steady_holdings_pass_and_warm_up_does_not_count() -> None:
    warm_up = [sample(10.0 * i, resident_bytes=1e8 + 1e7 * i, threads=i) for i in range(4)]
    steady = [sample(40.0 + 10 * i) for i in range(30)]
    checks = holdings_checks("node", [*warm_up, *steady], 40.0)
    assert [check.passed for check in checks] == [True] * 5


@pytest.mark.parametrize(
    ("key", "per_sample"),
    [("resident_bytes", 3e5), ("open_files", 1), ("threads", 0.2), ("objects", 60), ("tensors", 1)],
)
def test_growth_fails(key: str, per_sample: float) -> None:
    base = sample(0.0)
    leak = [sample(10.0 * i, **{key: base[key] + per_sample * i}) for i in range(30)]
    failed = [check.name for check in holdings_checks("node", leak, 0.0) if not check.passed]
    assert failed == [f"node: {'memory' if key == 'resident_bytes' else key}"]


def test_memory_may_grow_by_four_mebibytes_in_half_an_hour() -> None:
    def run(total: float, minutes: float) -> bool:
        count = 50
        # the first and last fifth are compared by their medians: 0.8 of the way
        grown = [
            sample(60 * minutes * i / count, resident_bytes=2e8 + total / 0.8 * i / count)
            for i in range(count)
        ]
        return holdings_checks("node", grown, 0.0)[0].passed

    assert run(0.9 * MEMORY_GROWTH, 30)
    assert not run(1.1 * MEMORY_GROWTH, 30)
    assert run(1.9 * MEMORY_GROWTH, 60.5)


def test_a_node_that_wrote_nothing_fails(tmp_path: Path) -> None:
    assert not holdings_checks("node", read_samples(tmp_path / "none"), 0.0)[0].passed
    torn = tmp_path / "torn"
    torn.write_text('{"time_s": 1}\n{"time_s": 2')
    assert read_samples(torn) == [{"time_s": 1}]


def account(**changes: int) -> dict[str, Any]:
    count = {"received": 10, "matched": 6, "dropped": {"too_late": 3}, "waiting": 1, **changes}
    return {
        "topics": {"/points": count},
        "context": {"/tf": {"received": 4, "kept": 3, "dropped": {"malformed": 1}}},
        "recorder": {"/points": {"accepted": 6, "written": 5, "dropped": {}, "queued": 1}},
    }


def test_accounts_close_or_do_not() -> None:
    assert identity_checks(account())[0].passed
    assert not identity_checks(account(matched=7))[0].passed
    assert not identity_checks({"topics": {}, "context": {}, "recorder": {}})[0].passed


def test_what_was_lost_is_named_and_more_than_sent_fails() -> None:
    check = delivery_check({"/points": 12, "/tf": 4}, account())
    assert check.passed
    assert "'/points': 2" in check.found
    assert not delivery_check({"/points": 9, "/tf": 4}, account()).passed
