"""`condense demo`: the whole chain on the simulated robot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from condense_ros.cli.options import Seed


def demo(
    out: Annotated[Path, typer.Option(help="Folder for summary, pictures and data.")] = Path(
        "demo_out"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="A shorter drive: under 2 minutes.")] = (
        False
    ),
    seed: Seed = 0,
) -> None:
    """Simulated robot -> capture -> pretraining -> live segmentation -> relocalisation."""
    from condense_ros.cli.demo import run

    run(out, quick=quick, seed=seed)
