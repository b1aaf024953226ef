"""The command under torchrun: it trains, is interrupted, and goes on as if nothing had been."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from training_scenes import TINY, small_drive

from condense_ros.models import load_checkpoint
from condense_training.state import load_state

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_drive(tmp_path_factory.mktemp("drive") / "town", frames=8)


@contextmanager
def started(drive: Path, out: Path, **settings: object) -> Iterator[subprocess.Popen[str]]:
    """torchrun with two processes in a session of its own, of which nothing stays behind."""
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), str(root / "training"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "condense_ros.cli", "pretrain", str(drive), "--out", str(out)]
    for name, value in {**TINY, "trainer.save_every_steps": 3, **settings}.items():
        command += ["-p", f"{name}={value}"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()  # torchrun ends its processes
            process.wait(60)


def finish(drive: Path, out: Path, **settings: object) -> str:
    """Runs to the end; what was printed."""
    with started(drive, out, **settings) as process:
        said, _ = process.communicate(timeout=400)
        assert process.returncode == 0, said
    return said


def steps(out: Path) -> list[tuple[str, int, float]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [(line["stage"], line["step"], line["loss"]) for line in lines]


def test_pretrains_and_goes_on_after_ctrl_c(drive: Path, tmp_path: Path) -> None:
    settings = {"pixel_steps": 40, "negatives": "gathered"}
    whole, out = tmp_path / "whole", tmp_path / "cut"
    assert finish(drive, whole, **settings).count("checkpoint: ") == 1
    log, deadline = out / "log.jsonl", time.monotonic() + 200
    with started(drive, out, **settings) as process:
        while not (log.exists() and log.read_text().count("\n") >= 3):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        # Ctrl-C reaches torchrun and, from the terminal and from torchrun, the processes
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=200)
        assert process.returncode != 0
    assert said.count("state saved in") == 1
    state = load_state(out)
    assert state is not None
    assert state["position"]["total"] == len(steps(out)) < 40
    finish(drive, out, **settings)
    assert steps(out) == steps(whole)
    a, b = (load_checkpoint(folder / "backbone.safetensors") for folder in (out, whole))
    assert a.identity() == b.identity()
