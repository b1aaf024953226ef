"""`condense record`: captures calibrated pairs, with a live table of what arrives."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from condense_ros.cli.options import ConfigFile, Parameters

if TYPE_CHECKING:
    from condense_ros.cli._processes import NodeProcess

#: time between two lines where the output is no terminal
LINE_EVERY_S = 5.0
#: warnings of the node are shown for this long
TROUBLES_S = 15.0


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
    """Shows the node's account until it ends, the time is over, or Ctrl-C.

    A terminal gets a live table; anything else a line every few seconds and the table at the end.
    """
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    from condense_ros.cli.record_view import RecordView, troubles
    from condense_ros.nodes.status_watch import PairStatusWatch

    def late(node: NodeProcess) -> list[Text]:
        return troubles(node.tail(40), node.node, since_s=time.time() - TROUBLES_S)

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    view = RecordView()
    started = said = time.monotonic()
    with PairStatusWatch() as status, contextlib.ExitStack() as stack:
        live = stack.enter_context(Live(console=console, auto_refresh=False, transient=True))
        try:
            while duration is None or time.monotonic() - started < duration:
                node.check()
                if node.process.poll() is not None:
                    return
                now = time.monotonic()
                view.update(status.latest, status.values, now)
                if console.is_terminal:
                    shown = Group(view.table(now - started), *late(node))
                    live.update(shown, refresh=True)
                elif now - said >= LINE_EVERY_S:
                    said = now
                    typer.echo(view.line(now - started))
                time.sleep(0.5)
        finally:
            live.stop()
            view.update(status.latest, status.values, time.monotonic())
            console.print(view.table(time.monotonic() - started))
            for text in late(node):
                console.print(text)
