"""`condense bag recover`: a finished bag from a killed or damaged one."""

from __future__ import annotations

import typer

from condense_ros.cli.commands.bag.arguments import BagPath, NewBagPath


def recover(path: BagPath, out: NewBagPath) -> None:
    """Copy all that can be read into a new, finished bag that every reader opens.

    Exits with 0 if nothing was lost (a missing index or footer is no loss), with 3 if something was
    (the file ends within a record, chunks are damaged), with 1 if nothing can be recovered.
    """
    from condense_ros.bags import recover
    from condense_ros.cli.progress import progress_bar
    from condense_ros.errors import BagDamaged

    with progress_bar("recovering") as progress:
        found = recover(path, out, progress)
    typer.echo(f"{out}: {found.messages} messages recovered")
    if found.unverified:
        typer.echo(f"{found.unverified} of them come from a chunk that no checksum covers")
    if found.complete:
        return
    lost = []
    if found.cut:
        lost.append(f"{found.cut} files end within a record")
    if found.damaged:
        lost.append(f"{found.damaged} parts are damaged")
    raise BagDamaged(
        f"{path}: {' and '.join(lost)}; what stood there is lost", f"{out} holds everything else"
    )
