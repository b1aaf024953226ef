"""The `condense` command. Rooms are imported inside the verbs, so that `--help` is instant."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from condense_ros import __version__
from condense_ros.cli.commands import (
    bag,
    bench,
    calib,
    convert,
    demo,
    doctor,
    eval,
    label,
    map,
    pretrain,
    probe,
    record,
    relocalise,
    replay,
    segment,
    sim,
    soak,
)
from condense_ros.errors import CondenseError, ConfigError, EnvironmentProblem, StorageFull
from condense_ros.files import NO_ROOM

app = typer.Typer(
    name="condense",
    help="A robot's own cameras teach its LiDAR: capture, pretrain, perceive, relocalise.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("record")(record.record)
app.command("replay")(replay.replay)
app.add_typer(bag.app, name="bag")
app.add_typer(calib.app, name="calib")
app.command("label")(label.label)
app.command("pretrain")(pretrain.pretrain)
app.command("probe")(probe.probe)
app.add_typer(eval.app, name="eval")
app.command("convert")(convert.convert)
app.command("segment")(segment.segment)
app.add_typer(map.app, name="map")
app.command("relocalise")(relocalise.relocalise)
app.add_typer(sim.app, name="sim")
app.add_typer(bench.app, name="bench")
app.command("soak")(soak.soak)
app.command("doctor")(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"condense_ros {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of every verb, given before it."""
    if debug:
        os.environ["CONDENSE_DEBUG"] = "1"
    level = logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO
    # LanceDB warns whenever a map is new
    os.environ.setdefault("LANCEDB_LOG", "error")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    for package in ("condense_ros", "condense_training"):
        logging.getLogger(package).setLevel(level)


def report(error: CondenseError) -> None:
    """Prints what is wrong as one red line, and below it how to fix it."""
    typer.secho(f"error: {error.problem}", fg=typer.colors.RED, err=True)
    if error.fix:
        typer.echo(f"  fix: {error.fix}", err=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits with its status: 0, the error's `exit_code`, or 130.

    A typed error is printed without a traceback, unless `--debug` or CONDENSE_DEBUG asks for it.
    """
    try:
        app(args=None if arguments is None else list(arguments), prog_name="condense")
    except (CondenseError, ModuleNotFoundError, OSError) as error:
        typed = as_typed(error)
        if typed is None or os.environ.get("CONDENSE_DEBUG"):
            raise
        report(typed)
        sys.exit(typed.exit_code)


def as_typed(error: Exception) -> CondenseError | None:
    """The typed error to show for an exception; None where it is a fault of the program."""
    if isinstance(error, CondenseError):
        return error
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("condense_ros"):
        return EnvironmentProblem(
            f"the Python module {error.name} is not installed", "run `make env`, then try again"
        )
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return StorageFull(
            f"no room left on the device while writing {error.filename or 'a file'}",
            "free some space and run the same command again",
        )
    if isinstance(error, (FileExistsError, NotADirectoryError, IsADirectoryError)):
        return ConfigError(
            f"{error.filename}: {error.strerror}", "give a folder where a folder is asked for"
        )
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return EnvironmentProblem(
            f"no permission for {error.filename}: {error.strerror}",
            "choose a place that you may write to",
        )
    return None
