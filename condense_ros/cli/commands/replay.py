"""`condense replay`: publishes a data set, bag or simulated world as ROS topics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from condense_ros.cli.options import Parameters


def replay(
    path: Annotated[Path, typer.Argument(help="Data set folder, bag, or cloud file.")],
    rate: Annotated[float, typer.Option(min=0.01, help="Speed; 1 is real time.")] = 1.0,
    loop: Annotated[bool, typer.Option("--loop", help="Start again at the end.")] = False,
    param: Parameters = None,
) -> None:
    """Publish any data set or bag as sensor topics, /tf, /odom and /clock."""
    from condense_ros.cli.nodes import run_node
    from condense_ros.cli.options import parameter_values

    values = {"path": str(path.absolute()), "rate": rate, "loop": loop}
    run_node("replay_node", {**values, **parameter_values(None, param)})
