"""`condense record`: captures calibrated pairs, with a live table of what arrives."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from condense_ros.cli.options import ConfigFile, Parameters

if TYPE_CHECKING:
    from condense_ros.cli._processes import NodeProcess


def record(
    out: Annotated[Path, typer.Argument(help="Folder of the new bag.")],
    duration: Annotated[
        float | None, typer.Option(min=0.1, help="Stop after so many seconds.")
    ] = None,
    config: ConfigFile = None,
    param: Parameters = None,
) -> None:
    """Match, check and record camera and lidar topics. Ctrl-C closes the bag."""
    from condense_ros.cli._processes import running
    from condense_ros.cli.nodes import check_names, node_parameters, require_ros
    from condense_ros.errors import BagError
    from condense_ros.transport import use_profile

    require_ros()
    if out.exists():
        raise BagError(f"{out} exists already", "name a new folder")
    use_profile()
    # sensors may sit on another machine, so the range is ROS's own default
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    domain = int(os.environ.get("ROS_DOMAIN_ID") or 0)
    log = out.with_name(out.name + ".log")
    values = {**node_parameters(config, param), "bag": str(out.absolute())}
    check_names("capture_node", values)
    with running("capture_node", values, log, domain) as node:
        try:
            watch(node, duration)
        except KeyboardInterrupt:
            typer.echo("closing the bag", err=True)
    typer.echo(f"log: {log}")
    if not out.exists():
        node.check()
        raise BagError(
            "nothing was recorded: no camera with a camera_info topic was found",
            f"start the sensors, check ROS_DOMAIN_ID ({domain}) and run `condense doctor --live`",
        )
    from condense_ros.bags import bag_info

    found = bag_info(out)
    typer.echo(f"bag: {out}, {found.messages} messages, {found.pairs} pairs")
    # what could not be written is an error, though the rest is there
    node.check()


def watch(node: NodeProcess, duration: float | None) -> None:
    """Shows the node's account twice a second until it ends, the time is over, or Ctrl-C."""
    from rich.console import Console, Group
    from rich.live import Live

    from condense_ros.nodes.status_watch import PairStatusWatch

    started = time.monotonic()
    console = Console()
    with PairStatusWatch() as status, Live(console=console, auto_refresh=False) as live:
        while duration is None or time.monotonic() - started < duration:
            node.check()
            if node.process.poll() is not None:
                return
            content = table(status.latest, time.monotonic() - started)
            live.update(Group(content, *troubles(node)), refresh=True)
            time.sleep(0.5)
    if not console.is_terminal:
        console.print()


def troubles(node: NodeProcess, last: int = 2) -> list[Any]:
    """The last warnings and errors in the node's log, for below the table."""
    from rich.text import Text

    lines = (line.rpartition(f"[{node.node}]: ") for line in node.tail(40).splitlines())
    found = [text for head, _, text in lines if head.startswith(("[WARN]", "[ERROR]"))]
    return [Text(text, style="yellow") for text in found[-last:]]


def table(status: Any, seconds: float) -> Any:
    """The account as a table; `status` is a PairStatus, or None before the first one."""
    from rich.table import Table

    if status is None:
        return f"{seconds:.0f} s: waiting for capture_node"
    title = (
        f"{seconds:.0f} s, {status.pairs} pairs, {status.bytes_written / 1e6:.1f} MB written"
        + (f", {status.free_disk_bytes / 1e9:.1f} GB free" if status.recording else "")
        + ("" if status.recording else ", not recording yet")
    )
    rows = Table(title=title, title_justify="left")
    rows.add_column("topic", overflow="fold")
    for heading in ("received", "matched or kept", "waiting"):
        rows.add_column(heading, justify="right")
    rows.add_column("dropped")
    for topic in status.topics:
        reasons = zip(topic.drop_reasons, topic.dropped, strict=True)
        dropped = ", ".join(f"{count} {reason}" for reason, count in reasons if count)
        counts = topic.received, topic.matched, topic.waiting
        rows.add_row(topic.topic, *map(str, counts), dropped)
    return rows
