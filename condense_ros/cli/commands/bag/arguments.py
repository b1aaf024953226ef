"""Arguments that the verbs of `condense bag` share, and how they end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BagPath = Annotated[Path, typer.Argument(help="Folder of a bag, or one .mcap file.")]
NewBagPath = Annotated[
    Path, typer.Argument(help="Folder of the new bag, or FILE.mcap for a single file.")
]


def check_whole(damaged: int, path: object, out: Path) -> None:
    """Raises BagDamaged (exit status 3) if a part of the input could not be read."""
    from condense_ros.errors import BagDamaged

    if damaged:
        raise BagDamaged(
            f"{damaged} parts of {path} cannot be read", f"{out} holds everything else"
        )
