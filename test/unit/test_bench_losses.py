"""`condense bench losses`: every figure is there, and the limits are those of the bare products."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from condense_ros.cli.app import app
from condense_ros.cli.bench import losses


def test_every_loss_and_sampler_is_measured(tmp_path) -> None:
    file = tmp_path / "figures.json"
    options = ["--seconds", "0", "--pairs", "600", "--drawn", "256", "--channels", "8"]
    result = CliRunner().invoke(app, ["bench", "losses", *options, "--json", str(file)])
    assert result.exit_code == 0, result.output
    written = json.loads(file.read_text())
    names = [name for group in written["figures"].values() for name in group]
    assert len(names) == 14
    assert all(name in result.output for name in names)
    assert written["times_bare"][losses.PRODUCTS] == 1.0
    for group in written["figures"].values():
        assert all(figures["fastest_ms"] > 0 for figures in group.values())
    assert result.output.count("limit") == len(losses.LIMITS)


def test_more_pairs_than_there_are_cannot_be_drawn() -> None:
    result = CliRunner().invoke(app, ["bench", "losses", "--pairs", "10", "--drawn", "11"])
    assert "draw no more" in str(result.exception)


def test_memory_of_a_job_is_seen() -> None:
    size = 64 << 20
    extra = losses.extra_memory_mib(lambda: torch.ones(size, dtype=torch.uint8), "cpu")
    if extra is None:
        pytest.skip("this system does not count memory as Linux does")
    assert 60 < extra < 100


@pytest.mark.slow
def test_contrasts_cost_at_most_three_times_their_products() -> None:
    result = losses.measure(1.0, threads=1)
    for name, limit in losses.LIMITS.items():
        assert result["times_bare"][name] <= limit, losses.lines(result)
    # and all logits are never in memory: 64 MiB each
    for name in losses.LIMITS:
        memory = result["figures"]["drawn pairs"][name]["memory_mib"]
        assert memory is None or memory < 48
