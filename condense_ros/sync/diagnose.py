"""Says in plain words why topics do not match, with the parameter that would change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median

from condense_ros.sync.config import SyncConfig
from condense_ros.sync.offsets import StampTrack, offset_ns

#: differences beyond this are not delays but two different clocks
_OTHER_CLOCK_S = 3600.0
#: messages before a topic without matches is worth a warning
_ENOUGH = 10


@dataclass(frozen=True)
class TopicState:
    """What the synchroniser knows of one topic."""

    topic: str
    received: int
    matched: int
    dropped: Mapping[str, int]
    silent_s: float
    track: StampTrack


def diagnose(states: Sequence[TopicState], reference: int, config: SyncConfig) -> list[str]:
    """Warnings, most basic cause first; empty when all is well."""
    warnings = [text for state in states if (text := _silent(state, config))]
    for state in states:
        invalid = state.dropped.get("invalid_stamp", 0)
        if invalid:
            warnings.append(
                f"{state.topic}: {invalid} of {state.received} messages have a zero or negative "
                "stamp and were dropped. Make the driver fill header.stamp."
            )
    base = states[reference]
    for state in states:
        if state is not base and state.received and base.received:
            text = _offset(state, base, config)
            if text:
                warnings.append(text)
    full = [s for s in states if s.dropped.get("queue_full", 0) * 20 > s.received > _ENOUGH]
    if full and not warnings:
        names = ", ".join(f"{s.topic} ({s.dropped['queue_full']} dropped)" for s in full)
        warnings.append(
            f"queue full on {names}: the other topics come later than queue_size = "
            f"{config.queue_size} messages. Raise queue_size."
        )
    return warnings


def _silent(state: TopicState, config: SyncConfig) -> str:
    if state.silent_s <= config.silent_after_s:
        return ""
    what = (
        f"no message for {state.silent_s:.1f} s"
        if state.received
        else f"no message at all in {state.silent_s:.1f} s"
    )
    return (
        f"{state.topic}: {what}. Check that it is published (ros2 topic hz {state.topic}), that "
        "its name is right, and that its QoS fits (a best-effort publisher reaches only "
        "best-effort subscribers)."
    )


def _offset(state: TopicState, base: TopicState, config: SyncConfig) -> str:
    measured = offset_ns(state.track, base.track)
    if measured is None:
        return ""
    offset_s = measured / 1e9
    if abs(offset_s) > _OTHER_CLOCK_S:
        return (
            f"{state.topic} and {base.topic} run on two different clocks: newest stamps are "
            f"{max(state.track.stamps) / 1e9:.3f} s and {max(base.track.stamps) / 1e9:.3f} s. "
            "Set use_sim_time alike on both drivers, or synchronise their hosts (PTP, NTP)."
        )
    if state.matched or min(state.received, base.received) < _ENOUGH:
        return _late(state, base, config)
    if abs(offset_s) > config.tolerance_s:
        return (
            f"{state.topic} never matches: its stamps are {abs(offset_s):.3f} s "
            f"{'ahead of' if offset_s > 0 else 'behind'} {base.topic} (median), more than "
            f"tolerance_s = {config.tolerance_s:g}. If the delay is constant, set offsets_s of "
            f"{state.topic} to {-offset_s:.3f}; otherwise raise tolerance_s or synchronise the "
            "clocks."
        )
    return _late(state, base, config)


def _late(state: TopicState, base: TopicState, config: SyncConfig) -> str:
    """A topic that arrives so late that its partners have left their queue."""
    if not state.track.lags or not base.dropped.get("queue_full"):
        return ""
    behind_ns = -median(state.track.lags)
    period = base.track.period_ns()
    if period <= 0 or behind_ns <= period * config.queue_size:
        return ""
    return (
        f"{state.topic} arrives {behind_ns / 1e9:.2f} s after {base.topic} of the same time; "
        f"queue_size = {config.queue_size} holds {config.queue_size * period / 1e9:.2f} s of it. "
        f"Set queue_size to at least {ceil(1.5 * behind_ns / period)}."
    )
