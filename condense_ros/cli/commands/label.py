"""`condense label`: a class for every pixel of recorded images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from condense_ros.cli.options import (
    ConfigFile,
    Device,
    Parameters,
    parameter_values,
    resolve_device,
    show_parameters,
)

if TYPE_CHECKING:
    from condense_training.labels.run import LabelReport


def label(
    data: Annotated[
        Path | None, typer.Argument(help="Data set, bag, or folder of pictures.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the labels.")] = Path("labels"),
    labeler: Annotated[
        str,
        typer.Option(help="clusters, grounded_sam, sam3, semseg, segment_anything or precomputed."),
    ] = "clusters",
    ontology: Annotated[
        str,
        typer.Option(
            help="nuscenes_16, semantickitti_19, olivine_13 or a YAML file; groups have none."
        ),
    ] = "",
    checkpoint: Annotated[
        str,
        typer.Option(help="Main weights of the labeler: file, folder, or id of the hub."),
    ] = "",
    frames: Annotated[
        int | None, typer.Option(min=1, help="At most so many frames or files.")
    ] = None,
    stride: Annotated[int, typer.Option(min=1, help="Every n-th frame or file.")] = 1,
    shard: Annotated[
        str,
        typer.Option(metavar="I/N", help="Only this part; without it, RANK and WORLD_SIZE say so."),
    ] = "",
    ray: Annotated[int, typer.Option(min=0, help="Run so many shards on a Ray cluster.")] = 0,
    reuse: Annotated[
        list[Path] | None, typer.Option(help="Take finished labels from this folder; repeatable.")
    ] = None,
    max_failures: Annotated[
        int, typer.Option(min=0, help="Stop when more frames or files than this have failed.")
    ] = 100,
    pictures: Annotated[int, typer.Option(min=0, help="Frames shown in report.html.")] = 12,
    device: Device = "auto",
    config: ConfigFile = None,
    param: Parameters = None,
    list_parameters: Annotated[
        bool, typer.Option("--parameters", help="List the labeler's parameters.")
    ] = False,
) -> None:
    """Label the pixels of images: PNGs of classes and confidence, and a page to look at.

    Stopped or killed, the same command goes on where it was. Exits with 0 if all images are
    labelled, with 3 if some could not be (they are listed in errors.json), with 1 or 2 if none can.
    """
    from condense_ros.cli.progress import progress_bar
    from condense_ros.errors import ConfigError
    from condense_training.labels.images import open_images
    from condense_training.labels.labelers import find_labeler
    from condense_training.labels.report import write_report
    from condense_training.labels.run import LabelConfig, label_on_ray
    from condense_training.labels.run import label as run
    from condense_training.labels.shards import which_shard

    entry = find_labeler(labeler)
    if list_parameters:
        show_parameters(entry.config_class())
        return
    if data is None:
        raise ConfigError("no images to label", "name a data set or bag: condense label BAG")
    settings = parameter_values(config, param)
    if checkpoint:
        settings[entry.checkpoint] = checkpoint
    if ray and shard:
        raise ConfigError("--ray and --shard exclude each other", "give one of them")
    chosen = LabelConfig(
        labeler=labeler,
        ontology=ontology,
        settings=settings,
        stride=stride,
        limit=frames,
        device=resolve_device(device),
        max_failures=max_failures,
        reuse=tuple(str(folder) for folder in reuse or ()),
    )
    part = which_shard(shard)
    with progress_bar("shards" if ray else "images") as progress:
        if ray:
            report = label_on_ray(data, out, chosen, ray, progress=progress)
        else:
            report = run(data, out, chosen, shard=part, progress=progress, show_training=True)
    source = open_images(data, stride=stride, limit=frames)
    page = write_report(source, report, images=pictures, suffix=part.suffix() if not ray else "")
    show(report, page)


def show(report: LabelReport, page: Path) -> None:
    """Prints classes and what was done; raises where images failed."""
    from rich.console import Console
    from rich.table import Table

    from condense_ros.errors import LabelsIncomplete
    from condense_training.labels.report import remarks

    total = max(1, sum(report.pixels.values()))
    table = Table("class", title=f"{report.images} images")
    table.add_column("share", justify="right")
    for name, pixels in report.pixels.most_common(20):
        table.add_row(name, f"{100 * pixels / total:.1f} %")
    console = Console()
    console.print(table)
    speed = f", {report.made / report.seconds:.1f} images/s" if report.made else ""
    there = report.images - report.made - report.adopted
    console.print(
        f"{report.made} labelled now{speed}, {report.adopted} taken over, {there} were there"
    )
    for remark in remarks(report):
        console.print(f"[yellow]{remark}[/yellow]")
    console.print(f"labels: {report.out}, to look at: {page}", soft_wrap=True)
    if report.failed:
        first = report.failed[0]
        raise LabelsIncomplete(
            f"{len(report.failed)} frames or files could not be labelled, the first being "
            f"{first['image']} ({first['reason']})",
            f"see errors*.json in {report.out}; repair them and run the same command again",
        )
