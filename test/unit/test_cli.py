"""`condense`: help at once, verbs wired to the rooms, errors as one line with their fix."""

from __future__ import annotations

import errno
import json
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from condense_ros.cli import app as application
from condense_ros.cli.app import app, as_typed, main
from condense_ros.cli.options import parameter_values, parameters, resolve_device
from condense_ros.config import parameter
from condense_ros.errors import BagDamaged, ConfigError, EnvironmentProblem, StorageFull

VERBS = (
    "demo",
    "record",
    "replay",
    "label",
    "pretrain",
    "probe",
    "segment",
    "relocalise",
    "doctor",
)
VERBS += ("convert", "eval robustness", "eval similarity")
VERBS += ("bag recover", "bag thin", "bag cat", "bag export", "bench record")
VERBS += (
    "bag info",
    "map build",
    "map info",
    "sim generate",
    "bench codecs",
    "bench engine",
    "bench losses",
    "soak",
    "calib check",
    "calib refine",
    "eval ablation",
    "eval segmentation",
)
HEAVY = ("torch", "cv2", "matplotlib", "lancedb", "embreex", "numpy", "scipy", "rclpy", "rosbags")


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb(verb: str) -> None:
    result = CliRunner().invoke(app, [*verb.split(), "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage" in result.output
    assert verb.split()[-1] in result.output


def test_help_names_every_verb_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from condense_ros.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit as end:\n"
        "    assert end.code in (0, None), end.code\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout
    for verb in VERBS:
        assert verb.split()[0] in done.stdout


def test_help_is_instant() -> None:
    def cpu_seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "condense_ros.cli", "--help"]
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # processor time, the best of a few: the wall clock of a busy machine says nothing
    assert min(cpu_seconds() for _ in range(4)) < 0.4


def test_an_error_is_one_line_and_its_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONDENSE_DEBUG", raising=False)
    with pytest.raises(SystemExit) as end:
        main(["bag", "info", str(tmp_path / "none")])
    lines = capsys.readouterr().err.splitlines()
    assert end.value.code == 1
    assert len(lines) == 2
    assert lines[0].startswith("error: ")
    assert str(tmp_path / "none") in lines[0]
    assert lines[1].startswith("  fix: ")


def test_exit_status_of_a_wrong_parameter(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["sim", "generate", "--out", "out", "-p", "rate_hz=-1"])
    assert end.value.code == ConfigError.exit_code == 2
    assert "rate_hz" in capsys.readouterr().err


def test_debug_shows_the_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDENSE_DEBUG", "")
    with pytest.raises(Exception, match="none"):
        main(["--debug", "bag", "info", str(tmp_path / "none")])


def test_usage_error_and_interrupt_have_their_status(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as end:
        main(["no-such-verb"])
    assert end.value.code == 2

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("condense_ros.cli.commands.doctor.examine", interrupted)
    with pytest.raises(SystemExit) as end:
        main(["doctor"])
    assert end.value.code == 130


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OSError(errno.ENOSPC, "No space left", "x.mcap"), StorageFull, "x.mcap"),
        (PermissionError(errno.EACCES, "denied", "/root/x"), EnvironmentProblem, "/root/x"),
        (ModuleNotFoundError("no", name="rclpy"), EnvironmentProblem, "rclpy"),
    ],
)
def test_faults_of_the_machine_are_typed(error: Exception, kind: type, words: str) -> None:
    typed = as_typed(error)
    assert isinstance(typed, kind)
    assert words in typed.problem
    assert typed.fix


def test_faults_of_the_program_keep_their_traceback() -> None:
    assert as_typed(OSError(errno.EIO, "input/output error")) is None
    assert as_typed(ModuleNotFoundError("no", name="condense_ros.nodes.none")) is None


@dataclass(frozen=True)
class Parts:
    size_m: float = parameter(1.0, "size", low=0.0)
    name: str = parameter("a", "name")
    topics: tuple[str, ...] = parameter((), "topics")


def test_settings_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "parts.yaml"
    file.write_text("size_m: 2\nname: file\n")
    made = parameters(Parts, file, ["name=line", "topics=[/a, /b]"])
    assert made == Parts(2.0, "line", ("/a", "/b"))


@pytest.mark.parametrize("setting", ["size_m", "=3", "size_m=-1", "size_m=[", "colour=red"])
def test_settings_that_are_refused(setting: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parameters(Parts, None, [setting])
    assert refused.value.fix


def test_parameter_files_that_are_refused(tmp_path: Path) -> None:
    for name, text in (("list.yaml", "[1, 2]"), ("torn.yaml", "a: [")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError, match=name):
            parameter_values(tmp_path / name, None)
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        parameter_values(tmp_path / "none.yaml", None)


def test_devices() -> None:
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") in ("cpu", "cuda")
    for name in ("gpu", "cuda:x", "cuda:99"):
        with pytest.raises(ConfigError, match=name):
            resolve_device(name)


def test_bag_info_prints_json_and_counts_damage(
    tmp_path: Path,
) -> None:
    from condense_ros.bags import BagWriter, RecordConfig
    from condense_ros.wire import Header, encode_image

    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    with BagWriter(tmp_path / "bag", RecordConfig(chunk_mib=0.01)) as writer:
        for stamp in range(1, 6):
            raw = encode_image(Header(stamp * 10**9, "camera"), pixels)
            writer.write("/image", "sensor_msgs/msg/Image", raw, stamp * 10**9, stamp * 10**9)
    result = CliRunner().invoke(app, ["bag", "info", "--json", str(tmp_path / "bag")])
    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert found["topics"]["/image"]["messages"] == 5
    assert found["topics"]["/image"]["rate_hz"] == pytest.approx(1.0)
    assert (found["finished"], found["damaged"], found["pairs"]) == (True, 0, 0)

    (file,) = (tmp_path / "bag").glob("*.mcap")
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 3] ^= 0xFF
    file.write_bytes(raw)
    result = CliRunner().invoke(app, ["bag", "info", str(tmp_path / "bag")])
    assert isinstance(result.exception, BagDamaged)
    assert result.exception.exit_code == 3


def test_every_verb_has_a_test_of_its_help() -> None:
    names = {command.name for command in application.app.registered_commands}
    groups = {group.name for group in application.app.registered_groups}
    assert names | groups == {verb.split()[0] for verb in VERBS}
