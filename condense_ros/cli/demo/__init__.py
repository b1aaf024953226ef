"""`condense demo`: the whole chain on a simulated robot, ending in one folder of evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def run(out: Path, *, quick: bool = False, seed: int = 0) -> dict[str, Any]:
    """Runs the demo and returns what it wrote to `out/summary.json`; see `demo.chain.run`."""
    from condense_ros.cli.demo.chain import run as run_chain

    return run_chain(out, quick=quick, seed=seed)


__all__ = ["run"]
