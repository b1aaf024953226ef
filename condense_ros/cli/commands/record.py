"""`condense record`: captures calibrated pairs, with a live table of what arrives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from condense_ros.cli.options import ConfigFile, Parameters, parameter_values


def record(
    out: Annotated[Path, typer.Argument(help="Folder of the new bag.")],
    config: ConfigFile = None,
    param: Parameters = None,
) -> None:
    """Match, check and record camera and lidar topics. Ctrl-C closes the bag."""
    from condense_ros.cli.nodes import run_node

    run_node("capture_node", {**parameter_values(config, param), "bag": str(out.absolute())})
