"""`condense sim`: simulated worlds as data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from condense_ros.cli.options import ConfigFile, Parameters, Seed, parameters, show_parameters

app = typer.Typer(help="Simulated worlds as data sets.", no_args_is_help=True)


@app.callback()
def sim() -> None:
    """Simulated worlds as data sets."""


@app.command()
def generate(
    out: Annotated[Path | None, typer.Argument(help="Folder for the data set.")] = None,
    seed: Seed = 0,
    drive_seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the drive; by default --seed.")
    ] = None,
    duration: Annotated[float, typer.Option(min=0.1, help="Length of the drive, seconds.")] = 60.0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    config: ConfigFile = None,
    param: Parameters = None,
    list_parameters: Annotated[
        bool, typer.Option("--parameters", help="List the parameters.")
    ] = False,
) -> None:
    """Drive a robot through a simulated town and store what its sensors see.

    Run again into the same folder, it goes on where it was stopped.
    """
    from condense_ros.cli.progress import progress_bar
    from condense_ros.errors import ConfigError
    from condense_ros.sim import SimulationConfig
    from condense_ros.sim import generate as render

    if list_parameters:
        show_parameters(SimulationConfig)
        return
    if out is None:
        raise ConfigError("no folder to write to", "name one: condense sim generate town")
    settings = parameters(
        SimulationConfig,
        config,
        param,
        world_seed=seed,
        drive_seed=seed if drive_seed is None else drive_seed,
        duration_s=duration,
        workers=workers,
    )
    with progress_bar(f"town {seed}") as report:
        render(out, settings, report)
    typer.echo(f"data set: {out}")
