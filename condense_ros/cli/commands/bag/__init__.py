"""`condense bag`: work on recordings; one file per verb."""

from __future__ import annotations

import typer

from condense_ros.cli.commands.bag import cat, export, info, recover, thin

app = typer.Typer(help="Work on recordings.", no_args_is_help=True)
app.command("info")(info.info)
app.command("recover")(recover.recover)
app.command("thin")(thin.thin)
app.command("cat")(cat.cat)
app.command("export")(export.export)


@app.callback()
def bag() -> None:
    """Work on recordings."""
