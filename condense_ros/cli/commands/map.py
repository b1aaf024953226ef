"""`condense map`: stored scenes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from condense_ros.cli.options import Device

app = typer.Typer(help="Stored scenes.", no_args_is_help=True)


@app.callback()
def map() -> None:
    """Stored scenes."""


@app.command()
def build(
    data: Annotated[list[Path], typer.Argument(help="Bags and data sets with poses.")],
    out: Annotated[Path, typer.Option(help="Folder of the map.")],
    spacing: Annotated[
        float, typer.Option(min=0.0, help="Distance between stored places, metres.")
    ] = 2.0,
    descriptor: Annotated[
        str, typer.Option(help="ring_height (geometry) or backbone_gem (needs --checkpoint).")
    ] = "ring_height",
    checkpoint: Annotated[Path | None, typer.Option(help="Backbone of the descriptors.")] = None,
    map_frame: Annotated[str, typer.Option(help="Name of the frame of the poses.")] = "map",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the map there.")] = False,
    device: Device = "auto",
) -> None:
    """Store the places that a drive went through. All data must share one world frame."""
    from condense_ros.cli.progress import progress_bar
    from condense_ros.perception import Observer, build_map

    observer = Observer.of_kind(descriptor, checkpoint, device)
    with progress_bar("places") as report:
        built = build_map(
            data,
            observer,
            out,
            spacing_m=spacing,
            map_frame=map_frame,
            overwrite=overwrite,
            progress=report,
        )
    typer.echo(f"{built.places} places of {len(built.sessions)} drives: {out}")


@app.command()
def info(
    path: Annotated[Path, typer.Argument(help="Folder of a map.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What a map holds, and which backbone may query it."""
    from condense_ros.places.place_map import map_info

    found = map_info(path)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2, default=str))
        return
    header = found.header
    typer.echo(f"{found.path}: {found.places} places, {found.bytes / 1e6:.1f} MB")
    for session, places in found.sessions.items():
        typer.echo(f"  {places} places of {session or 'an unnamed drive'}")
    typer.echo(
        f"  poses of {header.sensor_frame!r} in {header.map_frame!r}; descriptors "
        f"{header.descriptor_kind} of backbone {header.backbone}"
    )
