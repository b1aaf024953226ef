"""`condense probe`: what a pretrained backbone has learned, by a linear classifier on top of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from condense_ros.cli.options import ConfigFile, Parameters, parameters, show_parameters

if TYPE_CHECKING:
    from condense_training.evaluate.probe import Comparison


def probe(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint to probe.")],
    train: Annotated[
        list[Path] | None, typer.Option(help="Labelled data to fit the classifier on; repeatable.")
    ] = None,
    test: Annotated[
        list[Path] | None, typer.Option(help="Labelled data of another world; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the result here, as JSON.")] = None,
    config: ConfigFile = None,
    param: Parameters = None,
    list_parameters: Annotated[
        bool, typer.Option("--parameters", help="List the parameters.")
    ] = False,
) -> None:
    """Linear probe: the checkpoint against random networks of the same architecture."""
    from condense_training.evaluate.probe import ProbeConfig, compare

    if list_parameters:
        show_parameters(ProbeConfig)
        return
    settings = parameters(ProbeConfig, config, param)
    comparison = compare(checkpoint, train or [], test or [], settings)
    if out is not None:
        comparison.save(out)
    show(comparison)


def show(comparison: Comparison) -> None:
    """Prints IoU per class for both networks."""
    from rich.console import Console
    from rich.table import Table

    table = Table("class", title="IoU %, mean over seeds")
    for heading in ("random", "pretrained", "difference"):
        table.add_column(heading, justify="right")

    def row(name: str, random: list[float], pretrained: list[float], style: str = "") -> None:
        means = [100 * sum(values) / len(values) for values in (random, pretrained)]
        cells = f"{means[0]:.1f}", f"{means[1]:.1f}", f"{means[1] - means[0]:+.1f}"
        table.add_row(name, *cells, style=style)

    for name in comparison.pretrained.classes:
        row(name, comparison.random.iou[name], comparison.pretrained.iou[name])
    row("mean", comparison.random.miou, comparison.pretrained.miou, "bold")
    console = Console()
    console.print(table)
    paired = ", ".join(f"{100 * value:+.1f}" for value in comparison.differences)
    console.print(f"pretrained minus random mIoU, paired by seed: {paired}")
