"""`condense bench codecs`: messages to arrays and back, beside the machine's own rates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def codecs(
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here.", dir_okay=False)
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Folder on the disk to measure; default: the temporary one.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="Time for each figure.")] = 1.0,
) -> None:
    """Decode and encode clouds and images, beside memory copies and disk writes."""
    from condense_ros.cli.bench.codecs import lines, measure
    from condense_ros.files import write_json

    result = measure(seconds, folder)
    for line in lines(result):
        typer.echo(line)
    if json_file is not None:
        write_json(json_file.absolute(), result)
