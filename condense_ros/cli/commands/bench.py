"""`condense bench`: measured speed of this machine with this software; one file per verb."""

from __future__ import annotations

import typer

from condense_ros.cli.commands import bench_codecs, bench_engine, bench_losses, bench_record

app = typer.Typer(help="Measure speed on this machine.", no_args_is_help=True)
app.command("codecs")(bench_codecs.codecs)
app.command("engine")(bench_engine.engine)
app.command("losses")(bench_losses.losses)
app.command("record")(bench_record.record)


@app.callback()
def bench() -> None:
    """Measure speed on this machine."""
