"""`condense bag info`: what is in a bag."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any

import typer

from condense_ros.cli.commands.bag.arguments import BagPath

if TYPE_CHECKING:
    from condense_ros.bags import BagInfo


def info(
    path: BagPath,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What is in a bag, and whether all of it can be read. Exits with 3 if a part cannot."""
    from condense_ros.bags import bag_info
    from condense_ros.cli.progress import progress_bar
    from condense_ros.errors import BagDamaged

    with progress_bar("reading") as progress:
        found = bag_info(path, progress)
    if as_json:
        typer.echo(json.dumps(to_json(found), indent=2))
    else:
        show(found)
    if found.damaged:
        raise BagDamaged(
            f"{found.damaged} parts of {path} cannot be read",
            "the rest is intact and is read as usual",
        )


def to_json(found: BagInfo) -> dict[str, Any]:
    """Plain values of a bag's description."""
    return {
        "path": str(found.path),
        "files": [str(file) for file in found.files],
        "bytes": found.bytes,
        "messages": found.messages,
        "start_ns": found.start_ns,
        "duration_s": found.duration_s,
        "pairs": found.pairs,
        "calibration_ids": dict(found.calibration_ids),
        "damaged": found.damaged,
        "finished": found.finished,
        "topics": {
            name: {
                "type": topic.type_name,
                "messages": topic.count,
                "bytes": topic.bytes,
                "rate_hz": topic.rate_hz,
            }
            for name, topic in found.topics.items()
        },
    }


def show(found: BagInfo) -> None:
    """Prints a bag's description as a table."""
    from rich.console import Console
    from rich.table import Table

    start = datetime.fromtimestamp(found.start_ns / 1e9, timezone.utc)
    console = Console()
    console.print(f"[bold]{found.path}[/bold]  {len(found.files)} files, {_size(found.bytes)}")
    console.print(f"from {start:%Y-%m-%d %H:%M:%S} UTC, {found.duration_s:.1f} s")
    for calibration, pairs in found.calibration_ids.items():
        console.print(f"{pairs} pairs with calibration {calibration}")
    if not found.calibration_ids:
        console.print("no pairs")
    table = Table()
    for heading in ("topic", "type"):
        # a name cut short cannot be typed
        table.add_column(heading, overflow="fold")
    for heading in ("messages", "size", "Hz"):
        table.add_column(heading, justify="right")
    for name, topic in sorted(found.topics.items()):
        rate = f"{topic.rate_hz:.1f}"
        table.add_row(name, topic.type_name, str(topic.count), _size(topic.bytes), rate)
    console.print(table)
    if not found.finished:
        console.print("[yellow]not closed: killed, or still recording[/yellow]")


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"
