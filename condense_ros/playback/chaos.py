"""`Chaos`: a recording played for ever, with the faults of real robots worked into it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from condense_ros import wire
from condense_ros.config import parameter
from condense_ros.errors import ConfigError
from condense_ros.playback.messages import LATCHED, Outgoing, Playback, restamped
from condense_ros.wire import cdr
from condense_ros.wire.header import SECOND_NS

Messages = list[Outgoing]
Random = np.random.Generator

_IMAGES = (wire.IMAGE, wire.COMPRESSED_IMAGE)
_SENSORS = (*_IMAGES, wire.POINT_CLOUD)


@dataclass(frozen=True)
class ChaosConfig:
    """How often faults come, and which."""

    seed: int = parameter(0, "order and strength of the faults", low=0)
    rate_hz: float = parameter(
        10.0, "steps per second, each as long as it lasts in the recording", low=0.1, high=100
    )
    quiet_s: float = parameter(4.0, "time without a fault between two of them", low=0.0)
    fault_s: float = parameter(3.0, "time that a fault lasts", low=0.1)
    faults: tuple[str, ...] = parameter((), "which faults; empty: all")


def _changed(messages: Messages, types: tuple[str, ...], change: Callable[[Any], None]) -> Messages:
    """The messages with `change` done to those of some types."""
    out = []
    for message in messages:
        if message.type_name in types:
            decoded = cdr.deserialize(message.type_name, message.raw)
            change(decoded)
            message = replace(message, raw=cdr.serialize(message.type_name, decoded))
        out.append(message)
    return out


def _moved(messages: Messages, types: tuple[str, ...], shift_ns: int) -> Messages:
    return [
        restamped(m, lambda stamp: max(0, stamp + shift_ns)) if m.type_name in types else m
        for m in messages
    ]


def _set(name: str, value: Any) -> Callable[[Any], None]:
    def change(message: Any) -> None:
        setattr(message, name, value)

    return change


def _zero_stamps(messages: Messages, rng: Random) -> Messages:
    return [restamped(m, lambda _: 0) if m.type_name in _SENSORS else m for m in messages]


def _bad_nanoseconds(messages: Messages, rng: Random) -> Messages:
    out = []
    for message in messages:
        if message.type_name in _SENSORS:
            raw = bytearray(message.raw)
            raw[8:12] = (4_000_000_000).to_bytes(4, "little" if raw[1] else "big")
            message = replace(message, raw=bytes(raw))
        out.append(message)
    return out


def _images_late(messages: Messages, rng: Random) -> Messages:
    return _moved(messages, _IMAGES, -SECOND_NS // 2)


def _duplicates(messages: Messages, rng: Random) -> Messages:
    return [m for m in messages for _ in range(1 + int(rng.random() < 0.4))]


def _disorder(messages: Messages, rng: Random) -> Messages:
    return [messages[i] for i in rng.permutation(len(messages))]


def _losses(messages: Messages, rng: Random) -> Messages:
    return [m for m in messages if m.type_name not in _SENSORS or rng.random() > 0.3]


def _silent(kinds: tuple[str, ...]) -> Callable[[Messages, Random], Messages]:
    def apply(messages: Messages, rng: Random) -> Messages:
        return [m for m in messages if m.type_name not in kinds]

    return apply


def _empty_cloud(messages: Messages, rng: Random) -> Messages:
    def empty(cloud: Any) -> None:
        cloud.width, cloud.row_step, cloud.data = 0, 0, np.zeros(0, np.uint8)

    return _changed(messages, (wire.POINT_CLOUD,), empty)


def _nan_cloud(messages: Messages, rng: Random) -> Messages:
    def fill(cloud: Any) -> None:
        cloud.data = np.full(len(cloud.data) // 4, np.nan, np.float32).view(np.uint8)
        cloud.row_step = len(cloud.data)
        cloud.width = len(cloud.data) // cloud.point_step
        cloud.data = cloud.data[: cloud.width * cloud.point_step]
        cloud.row_step = len(cloud.data)

    return _changed(messages, (wire.POINT_CLOUD,), fill)


def _short_cloud(messages: Messages, rng: Random) -> Messages:
    def shorten(cloud: Any) -> None:
        cloud.data = cloud.data[: len(cloud.data) // 2]

    return _changed(messages, (wire.POINT_CLOUD,), shorten)


def _unknown_encoding(messages: Messages, rng: Random) -> Messages:
    changed = _changed(messages, (wire.IMAGE,), _set("encoding", "garbage8"))
    return _changed(changed, (wire.COMPRESSED_IMAGE,), _set("data", np.zeros(64, np.uint8)))


def _wrong_step(messages: Messages, rng: Random) -> Messages:
    changed = _changed(messages, (wire.IMAGE,), _set("step", 3))
    return _changed(changed, (wire.POINT_CLOUD,), _set("row_step", 4_000_000_000))


def _frame_ids(messages: Messages, rng: Random) -> Messages:
    def rename(message: Any) -> None:
        message.header.frame_id = str(rng.choice(["", "/lidar", "l\u00efdar", "nowhere"]))

    return _changed(messages, _SENSORS, rename)


def _truncated(messages: Messages, rng: Random) -> Messages:
    return [
        replace(m, raw=m.raw[: int(rng.integers(0, len(m.raw)))]) if m.type_name in _SENSORS else m
        for m in messages
    ]


def _flipped(messages: Messages, rng: Random) -> Messages:
    out = []
    for message in messages:
        raw = bytearray(message.raw)
        # mostly in the first bytes, where lengths and types are
        for _ in range(4):
            raw[int(rng.integers(0, min(len(raw), 200)))] = int(rng.integers(256))
        out.append(replace(message, raw=bytes(raw)))
    return out


def _noise(messages: Messages, rng: Random) -> Messages:
    return [replace(m, raw=rng.bytes(int(rng.integers(0, 400)))) for m in messages]


def _camera_without_focus(messages: Messages, rng: Random) -> Messages:
    return _changed(messages, (wire.CAMERA_INFO,), _set("k", np.zeros(9)))


def _camera_changed(messages: Messages, rng: Random) -> Messages:
    def zoom(info: Any) -> None:
        info.k = np.asarray(info.k) * np.array([1.001, 1, 1, 1, 1.001, 1, 1, 1, 1])

    return _changed(messages, (wire.CAMERA_INFO,), zoom)


def _bad_quaternion(messages: Messages, rng: Random) -> Messages:
    def spoil(tf: Any) -> None:
        for stamped in tf.transforms:
            stamped.transform.rotation.w = float(rng.choice([np.nan, 0.0, 5.0]))

    return _changed(messages, (wire.TF,), spoil)


#: what may go wrong, by name; each takes the messages of a step and returns those sent instead
FAULTS: dict[str, Callable[[Messages, Random], Messages]] = {
    "zero stamps": _zero_stamps,
    "nanoseconds over 1e9": _bad_nanoseconds,
    "images half a second late": _images_late,
    "duplicates": _duplicates,
    "out of order": _disorder,
    "losses": _losses,
    "clouds silent": _silent((wire.POINT_CLOUD,)),
    "images silent": _silent(_IMAGES),
    "transforms silent": _silent((wire.TF, wire.ODOMETRY)),
    "empty clouds": _empty_cloud,
    "clouds of NaN": _nan_cloud,
    "clouds shorter than they say": _short_cloud,
    "unknown encodings": _unknown_encoding,
    "wrong steps": _wrong_step,
    "odd frame names": _frame_ids,
    "truncated messages": _truncated,
    "flipped bytes": _flipped,
    "noise": _noise,
    "camera_info without focal length": _camera_without_focus,
    "camera_info changed": _camera_changed,
    "bad quaternions": _bad_quaternion,
}
#: faults of the clock, worked in by moving all later stamps, seconds
CLOCK_FAULTS = {"clock jumps back": -30.0, "clock jumps ahead": 3600.0}
#: faults of publishers, which the sender itself must do
RESTART = "publishers restart"
ALL_FAULTS = (*FAULTS, *CLOCK_FAULTS, RESTART)


class Chaos:
    """Endless steps of a playback, each all messages of 1 / rate_hz seconds of it; now and then a
    fault, one at a time.

    The order of the faults is a shuffled list of all, again and again, from the seed. Stamps go on
    rising when the recording starts again.

    Attributes:
        fault: the fault of the newest step, or "".
        now_ns: the time of the newest step, for /clock.
        episodes: how often each fault came.

    Raises:
        ConfigError: a fault that does not exist.
    """

    def __init__(self, playback: Playback, config: ChaosConfig) -> None:
        unknown = sorted(set(config.faults) - set(ALL_FAULTS))
        if unknown:
            raise ConfigError(f"no fault {unknown}", f"use some of: {', '.join(ALL_FAULTS)}")
        self._playback, self._config = playback, config
        self._names = config.faults or ALL_FAULTS
        self._rng = np.random.default_rng([config.seed, 74])
        self._waiting: list[str] = []
        self._step = 0
        self._shift_ns = 0
        self.fault = ""
        self.now_ns = playback.start_ns
        self.episodes: Counter[str] = Counter()
        last_ns = max(m.stamp_ns for m in playback.step(len(playback) - 1))
        seconds = (last_ns - playback.start_ns) / SECOND_NS
        #: a recording is cut into spans of one step each
        self._spans = int(seconds * config.rate_hz + 1e-6) + 1
        self._quiet = round(config.quiet_s * config.rate_hz)
        self._period = self._quiet + max(1, round(config.fault_s * config.rate_hz))

    def latched(self) -> Messages:
        """What is sent before everything else."""
        return self._playback.latched()

    def next(self) -> tuple[Messages, bool]:
        """The messages of the next step, and whether publishers are to be made anew before it."""
        place = self._step % self._period
        restart = False
        if place == 0:
            self.fault = ""
        if place == self._quiet:
            self.fault = self._draw()
            self.episodes[self.fault] += 1
            self._shift_ns += round(CLOCK_FAULTS.get(self.fault, 0.0) * SECOND_NS)
            restart = self.fault == RESTART
        messages = self._messages()
        if self.fault in FAULTS:
            messages = FAULTS[self.fault](messages, self._rng)
        self._step += 1
        return messages, restart

    def _draw(self) -> str:
        if not self._waiting:
            self._waiting = [str(name) for name in self._rng.permutation(self._names)]
        return self._waiting.pop()

    def _messages(self) -> Messages:
        """What the recording sends in the span of time of this step."""
        rate = self._config.rate_hz
        loop, span = divmod(self._step, self._spans)
        first = self._playback.step_at(span / rate)
        end = self._playback.step_at((span + 1) / rate)
        messages = [m for index in range(first, end) for m in self._playback.step(index)]
        begin_ns = self._playback.start_ns + self._shift_ns
        self.now_ns = begin_ns + round(self._step / rate * SECOND_NS)
        move_ns = self._shift_ns + round(loop * self._spans / rate * SECOND_NS)
        return [
            m if m.kind == LATCHED and m.type_name == wire.TF else _at(m, move_ns) for m in messages
        ]


def _at(message: Outgoing, move_ns: int) -> Outgoing:
    moved = restamped(message, lambda stamp: max(0, stamp + move_ns))
    return replace(moved, stamp_ns=max(0, message.stamp_ns + move_ns))
