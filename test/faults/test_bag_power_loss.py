"""Fault 39, power loss: the recorder's write log replayed, with everything unsynced torn."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from bag_tools import STRING, statics, text
from mcap.reader import make_reader
from power_loss import Operation, WriteLog, crash
from rosbags.rosbag2 import Reader

from condense_ros.bags import BagReader, BagWriter, PairRecord, RecordConfig, recover
from condense_ros.errors import BagError
from condense_ros.wire import TF

Recorded = tuple[list[Operation], dict[str, list[bytes]], str]


def record_logged(root: Path, seed: int) -> Recorded:
    """A short recording with splits, flushes and syncs; its operations and its messages."""
    root.mkdir()
    rng = np.random.default_rng(seed)
    config = RecordConfig(
        chunk_mib=0.002, flush_interval_s=0.02, sync_mib=0.01, split_mib=0.03, min_free_mib=0.0
    )
    writers: list[BagWriter] = []

    def acknowledged() -> dict[str, int]:
        counts = writers[0].accounting() if writers else {}
        return {topic: count.acknowledged for topic, count in counts.items()}

    messages: dict[str, list[bytes]] = {}

    def write(topic: str, kind: str, raw: bytes, k: int) -> None:
        messages.setdefault(topic, []).append(raw)
        assert writers[0].write(topic, kind, raw, k, k)

    with WriteLog(root, acknowledged) as log:
        writers.append(BagWriter(root / "bag", config))
        for k in range(1, 241):
            if k in (1, 80):
                write("/tf_static", TF, statics(), k)
            size = int(rng.choice([10, 300, 6000], p=[0.5, 0.4, 0.1]))
            write(f"/t{k % 3}", STRING, text(f"{k:06d}" + rng.bytes(size // 2).hex()), k)
            if k % 10 == 0:
                writers[0].pair(PairRecord(k, {"points": ("/t0", k)}))
            time.sleep(float(rng.choice([0.0, 0.001, 0.004])))
        writers[0].close()
    assert all(not count.dropped for count in writers[0].accounting().values())
    return log.operations, messages, str(root)


def opens_everywhere(folder: Path) -> int:
    """Messages that rosbags finds; mcap's indexed reader must find as many."""
    with Reader(folder) as reader:
        count = sum(1 for _ in reader.messages())
    found = 0
    for file in folder.glob("*.mcap"):
        with open(file, "rb") as stream:
            found += sum(1 for _ in make_reader(stream, validate_crcs=True).iter_messages())
    assert found == count
    return count


def check_case(
    recorded: Recorded, rng: np.random.Generator, folder: Path, number: int, recovers: bool
) -> str:
    operations, messages, root = recorded
    at = int(rng.integers(1, len(operations) + 1))
    acknowledged, mode = crash(operations, at, rng, root, folder)
    case = f"case {number}: before operation {at}, {mode}"
    try:
        reader = BagReader(folder / "bag")
    except BagError:
        assert not any(acknowledged.values()), case
        return "nothing yet"
    found: dict[str, list[bytes]] = {}
    for message in reader.messages():
        if message.verified:
            found.setdefault(message.topic, []).append(message.raw)
    for topic, count in acknowledged.items():
        if topic in messages:
            assert found.get(topic, [])[:count] == messages[topic][:count], (case, topic, count)
    for topic, raws in found.items():
        if topic in messages:
            assert set(raws) <= set(messages[topic]), (case, topic)
    if not recovers:
        return mode if found else "nothing yet"
    try:
        recovery = recover(folder / "bag", folder / "out")
    except BagError:
        assert not found, case
        return "nothing yet"
    assert opens_everywhere(folder / "out") >= recovery.messages, case
    return mode


def replay(tmp_path: Path, seeds: int, cases: int, recover_every: int) -> Counter[str]:
    """Runs so many cases on each of so many recordings; how they were treated."""
    seen: Counter[str] = Counter()
    for seed in range(seeds):
        recorded = record_logged(tmp_path / f"recorded{seed}", seed)
        kinds = Counter(operation.kind for operation in recorded[0])
        assert kinds["write"] > 20
        assert kinds["sync"] > 10
        assert kinds["create"] > 3
        # the end of a recording is durable whatever else is lost
        assert recorded[0][-1].kind == "syncdir"
        rng = np.random.default_rng(1000 + seed)
        for number in range(cases):
            folder = tmp_path / "case"
            folder.mkdir()
            seen[check_case(recorded, rng, folder, number, number % recover_every == 0)] += 1
            shutil.rmtree(folder)
        seen["operations"] += len(recorded[0])
    return seen


def test_fault_39_power_loss_loses_nothing_acknowledged(tmp_path):
    seen = replay(tmp_path, seeds=1, cases=100, recover_every=5)
    assert seen["nothing yet"] < 50


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_fault_39_power_loss_a_thousand_times(tmp_path):
    seen = replay(tmp_path, seeds=5, cases=200, recover_every=1)
    print("power loss:", dict(seen))
    assert sum(seen.values()) - seen["operations"] == 1000
