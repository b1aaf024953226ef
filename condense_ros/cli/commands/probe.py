"""`condense probe`: what a pretrained backbone has learned, by a linear classifier on top of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from condense_ros.cli.options import ConfigFile, Parameters, parameters, show_parameters

if TYPE_CHECKING:
    from condense_training.evaluate.probe import Comparison


def probe(
    checkpoint: Annotated[Path | None, typer.Argument(help="Checkpoint to probe.")] = None,
    train: Annotated[
        list[Path] | None, typer.Option(help="Labelled data to fit the classifier on; repeatable.")
    ] = None,
    test: Annotated[
        list[Path] | None, typer.Option(help="Labelled data of another world; repeatable.")
    ] = None,
    head: Annotated[
        Path | None,
        typer.Option(
            help="Also fit a segmentation head on --train and write the checkpoint with it here, "
            "for `condense segment`."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the result here, as JSON.")] = None,
    config: ConfigFile = None,
    param: Parameters = None,
    list_parameters: Annotated[
        bool, typer.Option("--parameters", help="List the parameters.")
    ] = False,
) -> None:
    """Linear probe: the checkpoint against random networks of the same architecture.

    With --head and without --test, only the head is fitted.
    """
    from condense_ros.errors import ConfigError
    from condense_training.evaluate.probe import ProbeConfig, compare

    if list_parameters:
        show_parameters(ProbeConfig)
        return
    settings = parameters(ProbeConfig, config, param)
    if checkpoint is None or not train or not (test or head):
        raise ConfigError(
            "probe needs a checkpoint and labelled data to fit on and to test with",
            "type: condense probe CHECKPOINT --train TOWN --test OTHER_TOWN; "
            "`condense sim generate --out TOWN` makes labelled data",
        )
    if head is not None:
        typer.echo(f"checkpoint with a segmentation head: {write_head(checkpoint, train, head)}")
    if not test:
        return
    comparison = compare(checkpoint, train, test, settings)
    if out is not None:
        comparison.save(out)
    show(comparison)


def write_head(checkpoint: Path, train: list[Path], out: Path, most_frames: int = 60) -> Path:
    """Fits a segmentation head on at most `most_frames` labelled frames and says what taught it.

    Raises:
        TrainingError: data without labels, or with different classes.
    """
    from condense_ros.datasets.simulated import SimulatedFolder
    from condense_ros.errors import TrainingError
    from condense_ros.models import load_checkpoint
    from condense_training import HeadConfig, fit_head
    from condense_training.frames import FrameSource, spread

    source = FrameSource(train)
    names = ", ".join(str(path) for path in train)
    if source.classes is None:
        raise TrainingError(
            f"{names}: no labels, or labels of different classes",
            "give data sets with the same ontology, for example simulated worlds",
        )
    simulated = all(isinstance(dataset, SimulatedFolder) for dataset in source.datasets)
    frames = (source[number] for number in spread(len(source), most_frames))
    config = HeadConfig(label_source="simulated" if simulated else names)
    path = fit_head(checkpoint, frames, source.classes, out, config)
    typer.echo(f"the head learned from {load_checkpoint(path).heads[config.name].supervision}")
    return path


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
