"""`condense soak`: endurance of the live nodes under faults."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from condense_ros.cli.options import Seed


def soak(
    data: Annotated[
        Path | None, typer.Argument(help="Data set or bag to play; default: a small simulated one.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for logs and the report.")] = Path("soak"),
    hours: Annotated[float | None, typer.Option(min=0.01, help="Length in hours.")] = None,
    minutes: Annotated[float, typer.Option(min=0.5, help="Length in minutes.")] = 40.0,
    warm_up: Annotated[float, typer.Option(min=0.0, help="Minutes that are not judged.")] = 10.0,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Also run perception_node with this checkpoint.")
    ] = None,
    fault: Annotated[
        list[str] | None, typer.Option(help="Only this fault; may be given several times.")
    ] = None,
    seed: Seed = 0,
    domain: Annotated[int, typer.Option(min=0, max=101, help="ROS domain of the run.")] = 77,
) -> None:
    """Run capture_node under faults at 10 Hz, and judge memory, handles and accounts.

    Sensors fall silent, clocks jump, messages come broken, twice or not at all; publishers restart.
    Recordings are ended, checked and begun anew every two minutes. Ends with status 1 if anything
    grew, hung, or was not accounted for.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    from condense_ros.cli.nodes import require_ros
    from condense_ros.cli.soak.run import SoakPlan, SoakState, failed
    from condense_ros.cli.soak.run import soak as run
    from condense_ros.transport import use_profile

    require_ros()
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    use_profile()
    length = hours * 60 if hours is not None else minutes
    source = data if data is not None else _small_drive(out / "data")
    plan = SoakPlan(
        source, out, length, warm_up, checkpoint=checkpoint, faults=tuple(fault or ()), seed=seed,
        domain=domain,
    )  # fmt: skip
    console = Console()
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def look(state: SoakState) -> None:
            live.update(
                f"{state.minutes:.1f} of {length:.1f} min, {state.received} messages, "
                f"{state.recordings} recordings with {state.pairs} pairs, "
                f"{len(state.problems)} problems",
                refresh=True,
            )

        checks = run(plan, look)
    table = Table(title=f"soak of {length:g} min", title_justify="left")
    for heading in ("", "what", "found"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        table.add_row("ok" if check.passed else "FAILED", check.name, check.found)
    console.print(table)
    typer.echo(f"report: {out / 'soak.json'}")
    error = failed(checks)
    if error is not None:
        raise error


def _small_drive(folder: Path) -> Path:
    """Twenty seconds of a small robot in a small town."""
    from condense_ros.cli.progress import progress_bar
    from condense_ros.sim import CameraSpec, LidarSpec, Rig, SimulationConfig, WorldConfig, generate

    rig = Rig(
        (CameraSpec(width=160, height=120, fx=105, fy=105, cx=79.5, cy=59.5),),
        LidarSpec(beams=16, azimuth_steps=360),
    )
    config = SimulationConfig(
        duration_s=20.0, rig=rig, layout=WorldConfig(columns=2, rows=2), workers=1
    )
    with progress_bar("a small town") as report:
        return generate(folder, config, report)
