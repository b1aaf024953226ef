"""`condense segment`: labels for any cloud."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from condense_ros.cli.options import ConfigFile, Device, Parameters, parameters, show_parameters

if TYPE_CHECKING:
    from condense_ros.perception import SegmentReport


def segment(
    source: Annotated[
        Path | None, typer.Argument(help="Cloud file, data set folder or bag.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint with a segmentation head.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("segmented"),
    suffix: Annotated[str, typer.Option(help="Format: .ply, .pcd or .npz.")] = ".ply",
    device: Device = "auto",
    config: ConfigFile = None,
    param: Parameters = None,
    list_parameters: Annotated[
        bool, typer.Option("--parameters", help="List the parameters.")
    ] = False,
) -> None:
    """Label clouds: writes coloured clouds, pictures and statistics."""
    from condense_ros.cli.progress import progress_bar
    from condense_ros.errors import ConfigError
    from condense_ros.perception import PerceptionConfig
    from condense_ros.perception import segment as label

    if list_parameters:
        show_parameters(PerceptionConfig)
        return
    if source is None or checkpoint is None:
        raise ConfigError(
            "segment needs clouds and a checkpoint",
            "type: condense segment FOLDER --checkpoint model.safetensors",
        )
    settings = parameters(PerceptionConfig, config, param, device=device)
    with progress_bar("clouds") as progress:
        report = label(source, checkpoint, out, suffix=suffix, config=settings, progress=progress)
    show(report)


def show(report: SegmentReport) -> None:
    """Prints points and confidence by class."""
    from rich.console import Console
    from rich.table import Table

    table = Table("class", title=f"{report.clouds} clouds, {report.points} points")
    for heading in ("points", "share", "confidence"):
        table.add_column(heading, justify="right")
    for name, points in report.class_points.items():
        share = 100 * points / max(report.points, 1)
        confidence = report.class_confidence.get(name)
        sure = "" if confidence is None else f"{confidence:.2f}"
        table.add_row(name, str(points), f"{share:.1f} %", sure)
    console = Console()
    console.print(table)
    console.print(f"supervision of these labels: {report.supervision}")
    for reason, points in report.left_out.items():
        console.print(f"{points} points left out: {reason}")
    for stage, times in report.latency_ms.items():
        console.print(f"{stage}: p50 {times['p50']:.0f} ms, p99 {times['p99']:.0f} ms")
    for warning in report.warnings:
        console.print(f"[yellow]{warning}[/yellow]")
    console.print(f"results: {report.out}")
