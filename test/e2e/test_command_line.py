"""`condense` as a user types it: every offline verb in a row, bad input, full disks and Ctrl-C."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from bag_tools import record
from safetensors import safe_open
from safetensors.numpy import save_file
from training_scenes import TINY, small_drive

from condense_ros.bags import BagWriter, RecordConfig
from condense_ros.cli import main
from condense_ros.datasets import read_cloud
from condense_ros.datasets.simulated import SimulatedFolder

PARAMETERS = [f"-p{name}={value}" for name, value in TINY.items()]


@dataclass
class Done:
    status: int
    out: str
    err: str


@pytest.fixture
def condense(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs a command line in this process, which saves the start of a new one."""

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        return Done(int(ended.value.code or 0), *capsys.readouterr())

    return run


def start(*arguments: object, **options: object) -> subprocess.Popen[str]:
    """The same in a process of its own, which leads a session of its own."""
    command = [sys.executable, "-m", "condense_ros.cli", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    # a shell that started the tests in its background has them ignore Ctrl-C
    options.setdefault("preexec_fn", lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def contents(folder: Path) -> dict[str, str]:
    """Hash of every file of a folder, by name."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_drive(tmp_path_factory.mktemp("drive") / "town", frames=6)


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded") / "bag"
    with BagWriter(folder, RecordConfig()) as writer:
        record(writer)
    return folder


@pytest.fixture(scope="module")
def pretrained(drive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run, made by the command in a process of its own."""
    out = tmp_path_factory.mktemp("run") / "pretrained"
    process = start("pretrain", drive, "--out", out, *PARAMETERS)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return out


def test_from_data_to_labels_and_poses(
    drive: Path, bag: Path, pretrained: Path, tmp_path: Path, condense: Callable[..., Done]
) -> None:
    backbone, model = pretrained / "backbone.safetensors", tmp_path / "model.safetensors"
    steps = [json.loads(line) for line in (pretrained / "log.jsonl").read_text().splitlines()]
    assert len(steps) == TINY["pixel_steps"] + TINY["lift_steps"]

    before = contents(pretrained)
    probe = ["probe", backbone, "--train", drive, "--test", drive, "--head", model]
    done = condense(*probe, "--out", tmp_path / "probe.json", "-pseeds=[0]", "-psteps=5")
    assert done.status == 0, done.err
    assert "6 labelled simulated frames" in done.out
    assert json.loads((tmp_path / "probe.json").read_text())["seeds"] == [0]
    assert contents(pretrained) == before

    done = condense("map", "build", drive, "--out", tmp_path / "map", "--spacing", 1)
    assert done.status == 0, done.err
    assert "WARN" not in done.err
    done = condense("map", "info", tmp_path / "map", "--json")
    assert json.loads(done.out)["places"] >= 4

    answers = tmp_path / "answers.json"
    ask = ["relocalise", tmp_path / "map", drive, "--every", 5, "--out", answers]
    done = condense(*ask)
    assert done.status == 0, done.err
    # whose frame the poses of the data are in is for the user to say
    assert not any("error_m" in answer for answer in json.loads(answers.read_text()))
    done = condense(*ask, "--truth")
    assert done.status == 0, done.err
    found = json.loads(answers.read_text())
    assert len(found) == 2
    for answer in found:
        # asked with stored sweeps: right, or declined, never wrong
        assert answer["status"] == "unknown" or answer["error_m"] < 0.1

    done = condense("segment", drive, "--checkpoint", model, "--out", tmp_path / "labelled")
    assert done.status == 0, done.err
    assert "6 labelled simulated frames" in done.out
    labelled = read_cloud(tmp_path / "labelled" / "000003.ply")
    np.testing.assert_array_equal(labelled.xyz, SimulatedFolder(drive)[3].cloud.xyz)
    statistics = json.loads((tmp_path / "labelled" / "statistics.json").read_text())
    assert statistics["clouds"] == 6
    assert sum(statistics["class_points"].values()) == statistics["points"]

    one = tmp_path / "labelled" / "000003.ply"
    done = condense("segment", one, "--checkpoint", model, "--out", tmp_path / "one")
    assert done.status == 0, done.err
    assert sorted(p.name for p in (tmp_path / "one").iterdir())[0] == "000003.ply"

    done = condense("bag", "info", bag)
    assert done.status == 0, done.err
    for text in ("/front/camera_info", "2023-11-14", "5 pairs"):
        assert text in done.out


def foreign(path: Path, checkpoint: Path) -> Path:
    """A checkpoint that promises a wider network than its weights are of."""
    with safe_open(checkpoint, "np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata())
    description = json.loads(metadata["condense"])
    description["backbone"]["widths"] = [2 * width for width in description["backbone"]["widths"]]
    save_file(tensors, path, {**metadata, "condense": json.dumps(description)})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(path.name + ".sha256").write_text(f"{digest}  {path.name}\n")
    return path


def test_a_checkpoint_of_another_architecture(
    drive: Path, pretrained: Path, tmp_path: Path, condense: Callable[..., Done]
) -> None:
    other = foreign(tmp_path / "other.safetensors", pretrained / "backbone.safetensors")
    out = tmp_path / "out"
    before = contents(pretrained)
    done = condense("segment", drive, "--checkpoint", other, "--out", out)
    assert done.status == 1
    assert str(other) in done.err
    assert "of another architecture" in done.err
    assert "fix:" in done.err
    assert not out.exists()

    raw = tmp_path / "raw.safetensors"
    save_file({"conv.weight": np.zeros((2, 2), np.float32)}, raw)
    digest = hashlib.sha256(raw.read_bytes()).hexdigest()
    raw.with_name("raw.safetensors.sha256").write_text(f"{digest}  raw.safetensors\n")
    done = condense("probe", raw, "--train", drive, "--test", drive)
    assert done.status == 1
    assert str(raw) in done.err
    assert "fix:" in done.err
    assert contents(pretrained) == before


def test_a_backbone_without_a_head_names_the_command_that_fits_one(
    drive: Path, pretrained: Path, tmp_path: Path, condense: Callable[..., Done]
) -> None:
    backbone = pretrained / "backbone.safetensors"
    done = condense("segment", drive, "--checkpoint", backbone, "--out", tmp_path / "out")
    assert done.status == 1
    assert f"condense probe {backbone} --train LABELLED_DATA --head OUT" in done.err


def test_a_map_of_another_backbone_and_a_map_that_exists(
    drive: Path, pretrained: Path, tmp_path: Path, condense: Callable[..., Done]
) -> None:
    done = condense("map", "build", drive, "--out", tmp_path / "map")
    assert done.status == 0, done.err
    before = contents(tmp_path / "map")
    done = condense("map", "build", drive, "--out", tmp_path / "map")
    assert done.status == 1
    assert "holds a map already" in done.err
    assert contents(tmp_path / "map") == before


def test_a_bag_without_camera_info(tmp_path: Path, condense: Callable[..., Done]) -> None:
    with BagWriter(tmp_path / "bag", RecordConfig()) as writer:
        record(writer, info=False, pair=False)
    before = contents(tmp_path / "bag")
    done = condense("pretrain", tmp_path / "bag", "--out", tmp_path / "out", *PARAMETERS)
    assert done.status == 1
    assert "camera_info" in done.err
    assert "fix:" in done.err
    assert contents(tmp_path / "bag") == before
    assert not list((tmp_path / "out").rglob("*.safetensors"))


@pytest.mark.parametrize("suffix", [".ply", ".pcd"])
def test_a_cloud_without_xyz(
    suffix: str, pretrained: Path, tmp_path: Path, condense: Callable[..., Done]
) -> None:
    cloud = tmp_path / f"flat{suffix}"
    if suffix == ".ply":
        lines = ["ply", "format ascii 1.0", "element vertex 1", "property float x"]
        lines += ["property float intensity", "end_header", "1 2"]
    else:
        lines = ["VERSION 0.7", "FIELDS x intensity", "SIZE 4 4", "TYPE F F", "COUNT 1 1"]
        lines += ["WIDTH 1", "HEIGHT 1", "POINTS 1", "DATA ascii", "1 2"]
    cloud.write_text("\n".join(lines) + "\n")
    backbone = pretrained / "backbone.safetensors"
    done = condense("segment", cloud, "--checkpoint", backbone, "--out", tmp_path / "out")
    assert done.status == 1
    assert str(cloud) in done.err
    assert "y" in done.err.partition(str(cloud))[2]
    assert "fix:" in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "verb",
    [
        ["pretrain", "EMPTY", "--out", "NEW"],
        ["segment", "EMPTY", "--checkpoint", "MODEL", "--out", "NEW"],
        ["map", "build", "EMPTY", "--out", "NEW"],
        ["map", "info", "EMPTY"],
        ["relocalise", "EMPTY", "EMPTY"],
        ["bag", "info", "EMPTY"],
    ],
    ids=lambda verb: "_".join(word for word in verb if word.islower()),
)
def test_an_empty_folder(
    verb: list[str], pretrained: Path, tmp_path: Path, condense: Callable[..., Done]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    names = {"EMPTY": empty, "NEW": tmp_path / "new", "MODEL": pretrained / "backbone.safetensors"}
    done = condense(*(names.get(word, word) for word in verb))
    assert done.status == 1
    assert str(empty) in done.err
    assert "fix:" in done.err
    assert not list(empty.iterdir())
    assert not list((tmp_path / "new").rglob("*.*"))


def test_a_file_where_a_folder_is_asked_for(
    drive: Path, tmp_path: Path, condense: Callable[..., Done]
) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("kept")
    done = condense("pretrain", drive, "--out", file, *PARAMETERS)
    assert done.status == 2
    assert str(file) in done.err
    assert "fix:" in done.err
    assert file.read_text() == "kept"


@pytest.mark.parametrize("verb", ["record", "replay"])
def test_a_parameter_that_the_node_does_not_have(
    verb: str, drive: Path, tmp_path: Path, condense: Callable[..., Done]
) -> None:
    pytest.importorskip("rclpy", reason="needs ROS")
    pytest.importorskip("condense_msgs", reason="the interface workspace is not built: `make env`")
    done = condense(verb, drive if verb == "replay" else tmp_path / "bag", "-pframe_ratee=3")
    assert done.status == 2
    assert "frame_ratee" in done.err
    assert not (tmp_path / "bag").exists()


def limit_file_size() -> None:
    """Stands in for a full disk: the kernel fails writes half way, with or without root."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def test_a_full_disk_while_pretraining(drive: Path, pretrained: Path, tmp_path: Path) -> None:
    """A restart that cannot write its state leaves the checkpoint of the run before."""
    out = tmp_path / "out"
    subprocess.run(["cp", "-r", str(pretrained), str(out)], check=True)
    before = contents(out)["backbone.safetensors"]
    process = start(
        "pretrain", drive, "--out", out, *PARAMETERS, "--restart", preexec_fn=limit_file_size
    )
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    assert "error: no room" in errors
    assert "fix: " in errors
    assert "Traceback" not in errors
    assert contents(out)["backbone.safetensors"] == before
    assert not list(out.rglob("*.tmp"))

    # and with room again the same command ends well
    process = start("pretrain", drive, "--out", out, *PARAMETERS)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_ctrl_c_while_pretraining(drive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    # enough steps to be interrupted in the middle of, few enough to finish
    command = ["pretrain", drive, "--out", out, *PARAMETERS, "-ppixel_steps=150"]
    log = out / "log.jsonl"
    process = start(*command)
    wait_for(lambda: log.exists() and log.read_text().count("\n") >= 3, process, 60)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Run the same command again" in errors
    assert "Traceback" not in errors
    reached = int(next((out / "state").iterdir()).stem)
    assert reached < 150
    assert not (out / "backbone.safetensors").exists()

    process = start(*command)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert f"at step {reached}" in errors
    numbers = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert len(numbers) == 150 + TINY["lift_steps"]
    assert (out / "backbone.safetensors").exists()


def session_members(leader: int) -> list[str]:
    """Command lines of the processes of a session, the leader's own left out."""
    listed = subprocess.run(["ps", "-eo", "pid,sid,args"], capture_output=True, text=True)
    rows = (line.split(None, 2) for line in listed.stdout.splitlines()[1:])
    return [
        row[2]
        for row in rows
        # one that has ended and waits for init to notice does no harm
        if int(row[1]) == leader and int(row[0]) != leader and "<defunct>" not in row[2]
    ]


def test_ctrl_c_in_the_demo(tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="the demo needs ROS")
    pytest.importorskip("condense_msgs", reason="the interface workspace is not built: `make env`")
    process = start("demo", "--quick", "--out", tmp_path / "demo")
    wait_for(lambda: bool(list((tmp_path / "demo").rglob("*.jpg"))), process, 90)
    assert session_members(process.pid)  # the workers that render
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    # a process that has just ended still gives back its memory
    deadline = time.monotonic() + 20
    while session_members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not session_members(process.pid)
