"""`thin`: one pair per stretch of way or turn, with its messages; standing still costs no disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from condense_ros.bags.new_bag import NewBag
from condense_ros.bags.pairs import PAIR_TYPE, PairRecord
from condense_ros.bags.reader import BagReader
from condense_ros.bags.recovery import Progress
from condense_ros.errors import (
    BagError,
    CalibrationMissing,
    CondenseError,
    ConfigError,
    WireError,
)
from condense_ros.geometry import Array, pose_error
from condense_ros.wire import ODOMETRY, StampedTransform, TfBuffer, decode_odometry


@dataclass(frozen=True)
class Thinning:
    """What came of it: pairs before and kept, messages before and kept, parts unreadable."""

    pairs: int
    kept_pairs: int
    messages: int
    kept_messages: int
    damaged: int


def thin(
    path: Path | str,
    out: Path | str,
    metres: float = 0.0,
    degrees: float = 0.0,
    progress: Progress | None = None,
) -> Thinning:
    """Keeps a pair when the robot has moved or turned enough since the last one kept.

    Topics that pairs are made of keep only the messages of kept pairs; all others (calibration, tf,
    odometry) are kept whole. The first pair of each calibration is always kept.

    Args:
        metres, degrees: least way or turn; 0: does not count.

    Raises:
        ConfigError: both are 0, or one is negative.
        BagError: no bag, no pairs, pairs without poses and no odometry, or `out` exists.
        StorageFull: no room; nothing is left at `out`.
    """
    if min(metres, degrees) < 0 or not metres + degrees > 0:
        raise ConfigError(
            f"thinning by {metres:g} m and {degrees:g} degrees says nothing",
            "give a positive number of metres, of degrees, or both",
        )
    reader = BagReader(path)
    pairs = reader.pairs()
    if not pairs:
        raise BagError(f"{path} holds no pairs", "record it with `condense record`")
    if not len(reader.index):
        raise BagError(f"{path} is an sqlite3 bag", "make it MCAP first, with `condense bag cat`")
    poses = _poses(reader, pairs)
    kept = [pairs[k] for k in _chosen(pairs, poses, metres, degrees)]
    messages = {message for pair in kept for message in pair.messages.values()}
    matched = {topic for pair in pairs for topic, _ in pair.messages.values()}
    total = sum(topic.count for topic in reader.topics.values())
    stamps = {pair.stamp_ns for pair in kept}
    done = 0
    with NewBag(out, [reader]) as bag:
        bag.topics_of(reader)
        for row in reader.rows().tolist():
            done += 1
            topic = reader.topic(row)
            if topic in matched and (topic, int(reader.index["stamp_ns"][row])) not in messages:
                continue
            message = reader.read(row)
            if message is None:
                continue
            if message.type_name == PAIR_TYPE and not _is_kept(message.raw, stamps):
                continue
            bag.add(message)
            if progress is not None:
                progress(done, total)
    return Thinning(len(pairs), len(kept), total, bag.written, reader.damaged)


def _is_kept(raw: bytes, stamps: set[int]) -> bool:
    try:
        return PairRecord.decode(raw).stamp_ns in stamps
    except CondenseError:
        return False


def _chosen(
    pairs: Sequence[PairRecord], poses: Sequence[Array], metres: float, degrees: float
) -> list[int]:
    chosen = [0]
    for k in range(1, len(pairs)):
        last = chosen[-1]
        way, turn = pose_error(poses[k], poses[last])
        far = bool(metres) and way >= metres
        turned = bool(degrees) and turn >= degrees
        if far or turned or pairs[k].calibration_id != pairs[last].calibration_id:
            chosen.append(k)
    return chosen


def _poses(reader: BagReader, pairs: Sequence[PairRecord]) -> list[Array]:
    """The pose of each pair: its own, or where any has none, that of the recorded odometry.

    Raises:
        BagError: neither is there.
    """
    own = [pair.T_world_base for pair in pairs if pair.T_world_base is not None]
    if len(own) == len(pairs):
        return own
    topics = [name for name, kind in reader.topics.items() if kind.type_name == ODOMETRY]
    buffer, frames = TfBuffer(cache_s=1e9), ("", "")
    for message in reader.messages(topics[:1]) if topics else ():
        try:
            odometry = decode_odometry(message.raw)
        except WireError:
            continue
        frames = odometry.header.frame_id, odometry.child_frame_id
        stamp_ns, T = odometry.header.stamp_ns, odometry.T_odom_base
        buffer.add(StampedTransform(stamp_ns, *frames, T), static=False)
    what = f"{len(pairs) - len(own)} of {len(pairs)} pairs of {reader.path} have no pose, and"
    fix = "record odometry, or the transform from world_frame to base_frame"
    if frames[0] == frames[1]:
        raise BagError(f"{what} there is no odometry", fix)
    try:
        return [buffer.lookup(*frames, pair.stamp_ns) for pair in pairs]
    except CalibrationMissing as error:
        raise BagError(f"{what} odometry does not tell it: {error.problem}", fix) from error
