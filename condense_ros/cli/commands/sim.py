"""`condense sim`: simulated worlds as data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from condense_ros.cli.options import ConfigFile, Parameters, Seed, parameter_values

app = typer.Typer(help="Simulated worlds as data sets.", no_args_is_help=True)

World = Annotated[str, typer.Option("--world", help="Kind of world: town, building or terrain.")]
Session = Annotated[int, typer.Option(min=0, help="Another day in the same world.")]
Split = Annotated[str, typer.Option(help="train or test; the two share no assets.")]
RigName = Annotated[
    str, typer.Option("--rig", help="A rig of `condense sim rigs`, or a YAML file.")
]


@app.callback()
def sim() -> None:
    """Simulated worlds as data sets."""


@app.command()
def generate(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the data.")] = None,
    world: World = "town",
    frames: Annotated[int, typer.Option("--frames", "-n", min=1, help="LiDAR sweeps.")] = 600,
    seed: Seed = 0,
    session: Session = 0,
    split: Split = "train",
    drive_seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the drive; by default --seed.")
    ] = None,
    rig: RigName = "",
    rate: Annotated[float, typer.Option(min=0.01, max=100, help="Sweeps per second.")] = 10.0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    config: ConfigFile = None,
    param: Parameters = None,
    list_parameters: Annotated[
        bool, typer.Option("--parameters", help="List the parameters.")
    ] = False,
) -> None:
    """Drive a robot through a simulated world and store what its sensors see.

    Run again into the same folder, it goes on where it was stopped.
    """
    from condense_ros.cli.progress import progress_bar
    from condense_ros.errors import ConfigError

    if list_parameters:
        _show_parameters(world)
        return
    if out is None:
        raise ConfigError("no folder to write to", "name one: --out town")
    from condense_ros.sim.folders.plan import make_plan
    from condense_ros.sim.folders.settings import simulation_config
    from condense_ros.sim.folders.writer import disk_use
    from condense_ros.sim.folders.writer import generate as render

    values = {
        "kind": world,
        "world_seed": seed,
        "session": session,
        "split": split,
        "drive_seed": seed if drive_seed is None else drive_seed,
        "rate_hz": rate,
        "workers": workers,
        **({"rig": rig} if rig else {}),
        **parameter_values(config, param),
    }
    if "duration_s" not in values:
        values["duration_s"] = frames / float(values["rate_hz"])
    settings = simulation_config(values)
    plan = make_plan(settings)
    use = disk_use(out, plan)
    typer.echo(
        f"{plan.name}: {len(plan.series['lidar'])} frames of about "
        f"{use.bytes_per_frame / 1e6:.2f} MB, {use.bytes / 1e9:.2f} GB in all; "
        f"{use.free / 1e9:.1f} GB free",
        err=True,
    )
    with progress_bar(plan.name) as report:
        render(out, settings, report, plan=plan)
    typer.echo(f"data set: {out}")


@app.command()
def rigs() -> None:
    """List the rigs that come along, for --rig."""
    from rich.console import Console
    from rich.table import Table

    from condense_ros.sim.folders.settings import shipped_rigs
    from condense_ros.sim.sensors.rig import Rig

    table = Table("rig", "LiDAR", "cameras", "file")
    for name, path in shipped_rigs().items():
        rig = Rig.from_yaml(path)
        lidar = f"{rig.lidar.beams} beams x {rig.lidar.azimuth_steps}"
        cameras = ", ".join(
            f"{c.name} {c.width}x{c.height}{' + depth' if c.depth else ''}" for c in rig.cameras
        )
        table.add_row(name, lidar, cameras or "none", str(path))
    Console().print(table)


@app.command()
def picture(
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write, .png or .jpg.")],
    world: World = "town",
    seed: Seed = 0,
    session: Session = 0,
    split: Split = "train",
    drive_seed: Annotated[int, typer.Option(min=0, help="Seed of the robot's drive.")] = 0,
    time: Annotated[float, typer.Option(min=0, help="Seconds into the drive.")] = 5.0,
) -> None:
    """Picture a world: an observer's view, and what a robot in it sees to three sides."""
    from condense_ros.sim.picture import world_picture
    from condense_ros.sim.worlds import build_world

    made = build_world(world, seed, session, split)
    typer.echo(f"picture: {world_picture(made, out, seed=drive_seed, at_s=time)}")


@app.command()
def info(folder: Annotated[Path, typer.Argument(help="A simulated folder.")]) -> None:
    """Show how a simulated folder was made, and what is in it."""
    from rich.console import Console

    from condense_ros.cli.sim_info import info_table

    Console().print(info_table(folder))


def _show_parameters(world: str) -> None:
    from condense_ros.cli.options import show_parameters
    from condense_ros.sim.driving.motion import DriveConfig
    from condense_ros.sim.driving.odometry import ImuConfig, OdometryConfig
    from condense_ros.sim.folders.faults import Faults
    from condense_ros.sim.folders.plan import SimulationConfig
    from condense_ros.sim.folders.settings import layout_class

    show_parameters(SimulationConfig)
    sections = {
        "drive": DriveConfig,
        "layout": layout_class(world),
        "odometry": OdometryConfig,
        "imu": ImuConfig,
        "faults": Faults,
    }
    for name, cls in sections.items():
        typer.echo(f"\n-p {name}.NAME=VALUE")
        show_parameters(cls)
