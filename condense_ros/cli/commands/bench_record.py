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
) -> None:
    """Record six cameras and a LiDAR from memory, beside what the disk itself takes."""
    from condense_ros.cli.bench.record import lines, measure
    from condense_ros.files import write_json

    result = measure(folder or Path(tempfile.gettempdir()), seconds)
    for line in lines(result):
        typer.echo(line)
    if json_file is not None:
        write_json(json_file.absolute(), result)
