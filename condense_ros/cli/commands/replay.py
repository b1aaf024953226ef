"""`condense replay`: publishes a data set, bag or simulated world as ROS topics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from condense_ros.cli.options import ConfigFile, Parameters, Seed


def replay(
    path: Annotated[
        Path | None, typer.Argument(help="Data set folder, bag, or cloud file.")
    ] = None,
    world: Annotated[
        str, typer.Option("--world", help="Simulate live instead: town, building or terrain.")
    ] = "",
    seed: Seed = 0,
    session: Annotated[int, typer.Option(min=0, help="Another day in the same world.")] = 0,
    rig: Annotated[str, typer.Option(help="A rig of `condense sim rigs`, or a YAML file.")] = "",
    frames: Annotated[int, typer.Option(min=1, help="Sweeps that are simulated.")] = 600,
    workers: Annotated[int, typer.Option(min=1, help="Processes that render.")] = 2,
    rate: Annotated[float, typer.Option(min=0.01, help="Speed; 1 is real time.")] = 1.0,
    loop: Annotated[bool, typer.Option("--loop", help="Start again at the end.")] = False,
    compressed: Annotated[
        bool, typer.Option("--compressed", help="Send images as JPEG on TOPIC/compressed.")
    ] = False,
    config: ConfigFile = None,
    param: Parameters = None,
) -> None:
    """Publish a data set, a bag or a simulated world as sensor topics, /tf, /odom and /clock."""
    from condense_ros.cli.nodes import check_names, node_parameters, require_ros, run_node
    from condense_ros.errors import ConfigError

    if (path is None) == (not world):
        raise ConfigError(
            "nothing to play" if path is None else f"both {path} and a {world} to play",
            "give a data set folder or bag, or --world town",
        )
    values: dict[str, Any] = {"rate": rate, "loop": loop, "compressed": compressed}
    if path is not None:
        values["path"] = str(path.absolute())
    else:
        simulated = {
            "world": world,
            "seed": seed,
            "session": session,
            "rig": str(Path(rig).absolute()) if rig.endswith((".yaml", ".yml")) else rig,
            "frames": frames,
            "workers": workers,
        }
        values |= {f"simulate.{name}": value for name, value in simulated.items()}
    require_ros()
    values.update(node_parameters(config, param))
    check_names("replay_node", values)
    run_node("replay_node", values)
