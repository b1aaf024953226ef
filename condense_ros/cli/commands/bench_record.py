"""`condense bench record`: the recorder beside the machine's own copy and write rates."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer


def record(
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here.", dir_okay=False)
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Folder on the disk to measure; default: the temporary one.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.5, help="Length of the load.")] = 10.0,
    live: Annotated[
        bool, typer.Option(help="Also through DDS: replay_node -> capture_node; needs ROS.")
    ] = True,
    domain: Annotated[int, typer.Option(help="ROS domain for that; nobody else may use it.")] = 42,
) -> None:
    """Record six cameras and a LiDAR from memory, beside what the disk itself takes, and live."""
    from condense_ros.cli.bench.record import lines, measure
    from condense_ros.files import write_json

    parent = folder or Path(tempfile.gettempdir())
    result = measure(parent, seconds)
    for line in lines(result):
        typer.echo(line)
    if live:
        from condense_ros.cli.bench import record_live
        from condense_ros.cli.nodes import require_ros

        require_ros()
        with tempfile.TemporaryDirectory(dir=parent, prefix="bench_live_") as place:
            result["live"] = record_live.record_live(Path(place), seconds, domain)
        for line in record_live.lines(result["live"]):
            typer.echo(line)
    if json_file is not None:
        write_json(json_file.absolute(), result)
