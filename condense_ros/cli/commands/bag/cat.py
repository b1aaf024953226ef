"""`condense bag cat`: several bags into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from condense_ros.cli.commands.bag.arguments import check_whole


def cat(
    paths: Annotated[list[Path], typer.Argument(help="Bags, in any order.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new bag, or FILE.mcap.")],
) -> None:
    """Join bags in order of time; pairs keep their calibration. Also makes MCAP of sqlite3 bags.

    Exits with 3 if a part of a bag cannot be read.
    """
    from condense_ros.bags import concatenate
    from condense_ros.cli.progress import progress_bar

    with progress_bar("joining") as progress:
        found = concatenate(paths, out, progress)
    typer.echo(f"{out}: {found.messages} messages of {len(paths)} bags")
    if found.repeated:
        typer.echo(f"{found.repeated} calibration messages are repeated at the start of their bag")
    check_whole(found.damaged, ", ".join(map(str, paths)), out)
