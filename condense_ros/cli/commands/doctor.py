"""`condense doctor`: what is wrong with this machine, and the fix."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from condense_ros.cli.checks.finding import Finding

COLOURS = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "red"}


def examine(data: Path | None, out: Path, live_s: float | None) -> list[Finding]:
    """All findings, in the order in which to mend them."""
    from condense_ros.cli.checks import calibration, clocks, machine, ros, shared_memory

    findings = [
        machine.python(),
        machine.torch(),
        machine.sparse(),
        *machine.compiler(),
        machine.processor(),
    ]
    findings += [ros.distribution(), *ros.environment(), *ros.imports()]
    profile_finding, profile = shared_memory.profile()
    findings.append(profile_finding)
    if profile is not None:
        findings.append(shared_memory.shared_memory(profile.segment_bytes))
    findings += [clocks.system_clock(), clocks.steadiness(), clocks.synchronisation()]
    findings.append(machine.disk(out))
    if data is not None:
        findings += calibration.calibration(data)
    if live_s is not None:
        from condense_ros.cli.checks import live

        findings += live.live_graph(live_s)
    return findings


def show(findings: Sequence[Finding]) -> None:
    """Prints the table of findings."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", "what", title="condense doctor", title_justify="left")
    for heading in ("found", "fix"):
        # a path or a command cut short is of no use
        table.add_column(heading, overflow="fold")
    for item in findings:
        status = Text(item.status, style=COLOURS[item.status])
        table.add_row(status, item.subject, item.found, item.fix)
    Console().print(table)


def doctor(
    data: Annotated[
        Path | None, typer.Argument(help="A data set or bag whose calibration is checked.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder whose disk is checked.")] = Path("."),
    live: Annotated[
        bool, typer.Option("--live", help="Also look at the running ROS graph.")
    ] = False,
    seconds: Annotated[float, typer.Option(min=0.5, help="How long --live listens.")] = 3.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What is wrong with this machine, and the fix. Exits with 1 if anything is an error."""
    findings = examine(data, out, seconds if live else None)
    errors = sum(item.status == "error" for item in findings)
    if as_json:
        typer.echo(json.dumps([asdict(item) for item in findings], indent=2))
    else:
        show(findings)
        typer.echo(f"{errors} errors, {sum(i.status == 'warning' for i in findings)} warnings")
    if errors:
        raise typer.Exit(1)
