"""`condense replay`: publishes a data set, bag or simulated world as ROS topics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from condense_ros.cli.options import ConfigFile, Parameters


def replay(
    path: Annotated[Path, typer.Argument(help="Data set folder, bag, or cloud file.")],
    rate: Annotated[float, typer.Option(min=0.01, help="Speed; 1 is real time.")] = 1.0,
    loop: Annotated[bool, typer.Option("--loop", help="Start again at the end.")] = False,
    compressed: Annotated[
        bool, typer.Option("--compressed", help="Send images as JPEG on TOPIC/compressed.")
    ] = False,
    config: ConfigFile = None,
    param: Parameters = None,
) -> None:
    """Publish any data set or bag as sensor topics, /tf, /odom and /clock."""
    from condense_ros.cli.nodes import check_names, node_parameters, require_ros, run_node

    values = {"rate": rate, "loop": loop, "compressed": compressed}
    require_ros()
    values.update(node_parameters(config, param))
    check_names("replay_node", values)
    run_node("replay_node", {**values, "path": str(path.absolute())})
