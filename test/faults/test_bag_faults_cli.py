"""Faults 41, 44, 45, 46 and 49 through the command line: message, count, exit status, recovery."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bag_tools import STRING, record, text
from mcap.reader import make_reader
from rosbags.rosbag2 import Reader

from condense_ros.bags import BagReader, BagWriter, RecordConfig
from condense_ros.cli import main

SMALL = RecordConfig(chunk_mib=0.001, flush_interval_s=0.02, min_free_mib=0.0)


@pytest.fixture
def condense(capsys, monkeypatch):
    """Runs the command line in this process: (exit status, stdout, stderr)."""
    monkeypatch.delenv("CONDENSE_DEBUG", raising=False)

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            main([str(argument) for argument in arguments])
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def bag(tmp_path):
    with BagWriter(tmp_path / "bag", RecordConfig(chunk_mib=0.005)) as writer:
        record(writer, 12)
    return tmp_path / "bag"


def opens_everywhere(folder: Path) -> int:
    with Reader(folder) as reader:
        count = sum(1 for _ in reader.messages())
    found = 0
    for file in folder.glob("*.mcap"):
        with open(file, "rb") as stream:
            found += sum(1 for _ in make_reader(stream, validate_crcs=True).iter_messages())
    assert found == count
    return count


def test_fault_44_flipped_bit_costs_one_chunk_and_exits_3(bag, tmp_path, condense):
    whole = [(m.topic, m.raw) for m in BagReader(bag).messages()]
    file = next(bag.glob("*.mcap"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x04
    file.write_bytes(data)
    status, out, err = condense("bag", "info", "--json", bag)
    assert status == 3
    assert json.loads(out)["damaged"] == 1
    assert f"1 parts of {bag} cannot be read" in err
    status, out, err = condense("bag", "recover", bag, tmp_path / "out")
    assert status == 3
    assert "1 parts are damaged" in err
    assert str(tmp_path / "out") in err
    after = [(m.topic, m.raw) for m in BagReader(tmp_path / "out").messages()]
    assert len(whole) - 12 <= len(after) < len(whole)
    assert set(after) <= set(whole)
    assert opens_everywhere(tmp_path / "out") == len(after)
    # what is recovered is sound
    assert condense("bag", "info", tmp_path / "out")[0] == 0
    assert condense("bag", "recover", tmp_path / "out", tmp_path / "again")[0] == 0


def test_fault_44_truncated_bag_is_recovered_up_to_the_cut(bag, tmp_path, condense):
    whole = [(m.topic, m.raw) for m in BagReader(bag).messages()]
    file = next(bag.glob("*.mcap"))
    os.truncate(file, int(file.stat().st_size * 0.6))
    status, _, err = condense("bag", "recover", bag, tmp_path / "out")
    assert status == 3
    assert "1 files end within a record" in err
    after = [(m.topic, m.raw) for m in BagReader(tmp_path / "out").messages()]
    assert after == whole[: len(after)]
    assert len(after) > len(whole) // 2
    opens_everywhere(tmp_path / "out")


def test_fault_44_other_tools_skip_the_damage_and_exit_3(bag, tmp_path, condense):
    file = next(bag.glob("*.mcap"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x04
    file.write_bytes(data)
    for verb in (["cat", "-o", tmp_path / "cat", bag], ["thin", bag, tmp_path / "thin"]):
        more = ["--metres", 0.3] if verb[0] == "thin" else []
        status, _, err = condense("bag", *verb, *more)
        assert status == 3, err
        assert "parts of" in err
        opens_everywhere(tmp_path / str(verb[0]))
    for kind in ("kitti", "webdataset"):
        status, _, err = condense("bag", "export", "--format", kind, bag, tmp_path / kind)
        if status:  # the chunk may have held no message of a pair
            assert status == 3
            assert "cannot be read" in err


def test_fault_44_nothing_left_exits_1(tmp_path, condense):
    (tmp_path / "x.mcap").write_bytes(bytes(4096))
    status, _, err = condense("bag", "recover", tmp_path / "x.mcap", tmp_path / "out")
    assert status == 1
    assert "is no MCAP file" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [None, "", "{", "rosbag2_bagfile_information: 3"])
def test_fault_45_metadata_missing_or_damaged(bag, tmp_path, condense, content):
    metadata = bag / "metadata.yaml"
    metadata.unlink() if content is None else metadata.write_text(content)
    status, out, _ = condense("bag", "info", "--json", bag)
    assert (status, json.loads(out)["pairs"]) == (0, 12)
    # the recovered bag has a metadata.yaml again, so that every player opens it
    assert condense("bag", "recover", bag, tmp_path / "out")[0] == 0
    assert opens_everywhere(tmp_path / "out") == len(list(BagReader(bag).messages()))


def test_fault_45_folder_without_any_file(tmp_path, condense):
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "metadata.yaml").write_text(
        "rosbag2_bagfile_information: {relative_file_paths: [bag_0.mcap]}"
    )
    status, _, err = condense("bag", "info", tmp_path / "bag")
    assert status == 1
    assert "holds no .mcap and no .db3 file (metadata.yaml names bag_0.mcap)" in err


def test_fault_46_a_bag_is_never_overwritten(bag, tmp_path, condense):
    before = (bag / "bag_0.mcap").read_bytes()
    other = tmp_path / "other"
    with BagWriter(other) as writer:
        writer.write("/a", STRING, text("a"), 1, 1)
    for verb in (["recover", other, bag], ["cat", "-o", bag, other]):
        status, _, err = condense("bag", *verb)
        assert status == 1
        assert f"{bag} exists already" in err
        assert "fix: name a new folder" in err
    status, _, err = condense("bag", "export", bag, other)
    assert status == 1
    assert "holds no export" in err
    assert (bag / "bag_0.mcap").read_bytes() == before


def _small_file(folder: Path) -> tuple[bytes, list[tuple[str, bytes]]]:
    with BagWriter(folder, SMALL) as writer:
        for k in range(1, 21):
            writer.write("/a" if k % 3 else "/b", STRING, text("x" * k), k, k)
    messages = [(m.topic, m.raw) for m in BagReader(folder).messages()]
    return (folder / f"{folder.name}_0.mcap").read_bytes(), messages


def _recover_prefixes(folder: Path, condense, sizes) -> int:
    """Recovers the file cut at these sizes; how many gave something."""
    data, messages = _small_file(folder / "small")
    ends, position = [], 0
    for _, raw in messages:
        position = data.index(raw, position) + len(raw)
        ends.append(position)
    recovered = 0
    path, out = folder / "prefix.mcap", folder / "out"
    for size in sorted({min(size, len(data)) for size in sizes(data, ends)}):
        path.write_bytes(data[:size])
        complete = sum(end <= size for end in ends)
        status, _, err = condense("bag", "recover", path, out)
        if not complete:
            assert status == 1, size
            assert "no message of" in err or "no MCAP file" in err
            continue
        # the whole file, and the file without (all of) its index, have lost nothing
        assert status in ((0,) if size == len(data) else (0, 3)), size
        assert (status == 3) == bool(BagReader(path).unfinished().get(path)), size
        found = [(m.topic, m.raw) for m in BagReader(out).messages()]
        assert found == messages[:complete], size
        assert opens_everywhere(out) == complete
        shutil.rmtree(out)
        recovered += 1
    return recovered


def test_fault_49_prefixes_of_a_bag_are_recovered(tmp_path, condense):
    def sizes(data: bytes, ends: list[int]) -> list[int]:
        rng = np.random.default_rng(0)
        around = [end + step for end in ends for step in (-1, 0)]
        return [*around, *rng.integers(len(data), size=20).tolist(), len(data)]

    assert _recover_prefixes(tmp_path, condense, sizes) > 40


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fault_49_every_prefix_is_recovered(tmp_path, condense):
    count = _recover_prefixes(tmp_path, condense, lambda data, _: range(len(data) + 1))
    print(f"every prefix: {count} recovered bags opened in rosbags and mcap")


def _unprivileged() -> None:
    """In a child: permissions do not apply to root, but to everybody else."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)


def _in_child(work: Callable[[], None]) -> None:
    """Runs work in a forked process with everything imported, as a user without rights."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _unprivileged()
            work()
            status = 0
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize("verb", ["recover", "export"])
def test_fault_41_read_only_folder(bag, tmp_path, condense, verb):
    # imports everything: the other user may not be able to
    assert condense("bag", verb, bag, tmp_path / "first")[0] == 0
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)

    def work() -> None:
        status, _, err = condense("bag", verb, bag, locked / "out")
        assert status == 1, err
        assert "ermission" in err, err
        assert "fix: choose a " in err, err
        assert str(locked) in err

    _in_child(work)
    assert list(locked.iterdir()) == []
    locked.chmod(0o755)
    assert condense("bag", verb, bag, locked / "out")[0] == 0
