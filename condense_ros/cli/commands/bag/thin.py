"""`condense bag thin`: pairs by way and turn instead of by time."""

from __future__ import annotations

from typing import Annotated

import typer

from condense_ros.cli.commands.bag.arguments import BagPath, NewBagPath, check_whole


def thin(
    path: BagPath,
    out: NewBagPath,
    metres: Annotated[float, typer.Option(help="Least way between pairs; 0: any.")] = 0.0,
    degrees: Annotated[float, typer.Option(help="Least turn between pairs; 0: any.")] = 0.0,
) -> None:
    """Keep a pair whenever the robot has moved or turned enough, with its messages.

    Calibration, tf, odometry and topics that are in no pair are kept whole. Exits with 3 if a part
    of the bag cannot be read.
    """
    from condense_ros.bags import thin
    from condense_ros.cli.progress import progress_bar

    with progress_bar("thinning") as progress:
        found = thin(path, out, metres, degrees, progress)
    typer.echo(
        f"{out}: {found.kept_pairs} of {found.pairs} pairs, "
        f"{found.kept_messages} of {found.messages} messages"
    )
    check_whole(found.damaged, path, out)
