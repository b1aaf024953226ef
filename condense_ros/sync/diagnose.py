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
#: unusable stamps and full queues are reported for this long after the last one
_RECENT_S = 3.0


@dataclass(frozen=True)
class TopicState:
    """What the synchroniser knows of one topic.

    Attributes:
        since_match: messages received after the last match.
        silent_s: time since the last message.
        invalid_s: time since the last message with an unusable stamp; None: there was none.
        full_s: time since the last message was dropped for a full queue; None: none was.
        limit: messages its queue holds; `bounded` where memory keeps that below what is needed.
    """

    topic: str
    received: int
    since_match: int
    dropped: Mapping[str, int]
    silent_s: float
    invalid_s: float | None
    full_s: float | None
    track: StampTrack
    limit: int
    bounded: bool


def diagnose(states: Sequence[TopicState], reference: int, config: SyncConfig) -> list[str]:
    """Warnings, most basic cause first; empty when all is well."""
    silent = [text for state in states if (text := _silent(state, config))]
    warnings = [f"{text} {_overview(states, config)}" for text in silent]
    for state in states:
        if _recent(state.invalid_s):
            warnings.append(
                f"{state.topic}: {state.dropped.get('invalid_stamp', 0)} of {state.received} "
                "messages have a zero or negative stamp and were dropped. Make the driver fill "
                "header.stamp."
            )
    base = states[reference]
    for state in states:
        if state is not base and state.received and base.received:
            text = _offset(state, base, config)
            if text:
                warnings.append(text)
    if not warnings:
        full = [
            s
            for s in states
            if _recent(s.full_s) and s.dropped["queue_full"] * 20 > s.received > _ENOUGH
        ]
        warnings += [_full(full, config)] if full else []
    return warnings


def _recent(since_s: float | None) -> bool:
    return since_s is not None and since_s <= _RECENT_S


def _full(full: Sequence[TopicState], config: SyncConfig) -> str:
    names = ", ".join(f"{s.topic} ({s.dropped['queue_full']} dropped)" for s in full)
    bounded = [s for s in full if s.bounded]
    if bounded:
        return (
            f"queue full on {names}: the other topics come so late that more must wait than "
            f"queue_memory_mib = {config.queue_memory_mib:g} holds "
            f"({', '.join(f'{s.limit} of {s.topic}' for s in bounded)}). Raise queue_memory_mib, "
            "or make the late topics faster."
        )
    if config.queue_size:
        return (
            f"queue full on {names}: the other topics come later than queue_size = "
            f"{config.queue_size} messages. Raise queue_size, or set it to 0 to have it measured."
        )
    held = ", ".join(str(s.limit) for s in full)
    return (
        f"queue full on {names}: no partner came while {held} messages waited. Compare the stamps "
        f"of the topics, or raise tolerance_s = {config.tolerance_s:g}."
    )


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


def _overview(states: Sequence[TopicState], config: SyncConfig) -> str:
    """All topics that are matched, how, and whether their clocks agree."""
    shown, newest = [], []
    for state in states:
        if state.silent_s > config.silent_after_s or not state.track.stamps:
            shown.append(f"{state.topic} (silent)")
            continue
        period = state.track.period_ns()
        newest.append(max(state.track.stamps) / 1e9)
        rate = f"{1e9 / period:.1f} Hz, " if period else ""
        shown.append(f"{state.topic} ({rate}newest stamp {newest[-1]:.3f} s)")
    how = "at equal stamps" if config.policy == "exact" else f"within {config.tolerance_s:g} s"
    text = f"Matching {config.policy}, {how}: {', '.join(shown)}."
    if len(newest) < 2:
        return text
    spread = max(newest) - min(newest)
    if spread < 1.0:
        return f"{text} The clocks of those that come agree."
    return f"{text} The stamps of those that come differ by {spread:.1f} s: check their clocks."


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
    if min(state.since_match, base.since_match) < _ENOUGH:
        return _late(state, base, config)
    if config.policy == "exact" and round(measured) != 0:
        return (
            f"{state.topic} never matches: its stamps differ from those of {base.topic} by "
            f"{offset_s:.6f} s (median), and policy exact wants equal ones. Trigger the sensors "
            "together, or choose policy approximate."
        )
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
    """A topic that arrives so late that its partners have left a queue of fixed size."""
    if not config.queue_size or not state.track.lags or not _recent(base.full_s):
        return ""
    behind_ns = -median(state.track.lags)
    period = base.track.period_ns()
    if period <= 0 or behind_ns <= period * config.queue_size:
        return ""
    return (
        f"{state.topic} arrives {behind_ns / 1e9:.2f} s after {base.topic} of the same time; "
        f"queue_size = {config.queue_size} holds {config.queue_size * period / 1e9:.2f} s of it. "
        f"Set queue_size to at least {ceil(1.5 * behind_ns / period)}, or to 0 to have it measured."
    )
