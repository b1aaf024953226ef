"""`condense eval robustness`: a segmentation head under weather, motion and sensor faults."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from condense_ros.cli.options import ConfigFile, Parameters, parameters, show_parameters

if TYPE_CHECKING:
    from rich.table import Table

    from condense_ros.frame import Frame
    from condense_ros.models import Checkpoint
    from condense_training.evaluate.robustness import Robustness, RobustnessConfig
    from condense_training.evaluate.robustness_metrics import Baseline


def robustness(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="Checkpoint with a segmentation head.")
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Labelled data with the classes of the head; repeatable."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Reference network of mCE: a file that --json wrote, or nuscenes_c or "
            "semantickitti_c."
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here.", dir_okay=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for pictures: corruptions.png, robustness.png.")
    ] = None,
    config: ConfigFile = None,
    param: Parameters = None,
    list_parameters: Annotated[
        bool, typer.Option("--parameters", help="List the parameters.")
    ] = False,
) -> None:
    """Segment corrupted sweeps: eight corruptions, three severities, mIoU, mRR and mCE."""
    from condense_ros.cli.progress import progress_bar
    from condense_ros.errors import ConfigError
    from condense_ros.models import load_checkpoint
    from condense_training.evaluate.robustness import RobustnessConfig, evaluate_robustness
    from condense_training.evaluate.robustness_metrics import read_baseline
    from condense_training.frames import FrameSource, spread

    if list_parameters:
        show_parameters(RobustnessConfig)
        return
    if checkpoint is None or not data:
        raise ConfigError(
            "robustness needs a checkpoint with a segmentation head, and labelled data",
            "type: condense eval robustness CHECKPOINT --data TOWN; `condense probe CHECKPOINT "
            "--train TOWN --head FILE` fits a head",
        )
    settings = parameters(RobustnessConfig, config, param)
    reference = None if baseline is None else read_baseline(baseline)
    loaded, source = load_checkpoint(checkpoint), FrameSource(data)
    head = loaded.heads.get(settings.head)
    if head is not None and source.classes != head.ontology:
        raise ConfigError(
            f"the head {settings.head!r} knows other classes than the data",
            "evaluate on data with the classes that the head was fitted on",
        )
    frames = source.subset(spread(len(source), settings.max_frames))
    names = ", ".join(str(path) for path in data)
    with progress_bar("sweeps") as progress:
        result = evaluate_robustness(
            loaded, frames, settings, network=str(checkpoint), data=names, progress=progress
        )
    if reference is not None:
        reference.errors(result.miou)  # before anything is written: the reference fits
    if json_file is not None:
        write(json_file.absolute(), result, reference)
    show(result, reference)
    if out is not None:
        for path in draw(out, result, frames[0], loaded, settings):
            typer.echo(f"picture: {path}")


def write(path: Path, result: Robustness, baseline: Baseline | None) -> None:
    """Writes JSON: the result, and errors against the baseline where there is one."""
    from condense_ros.files import write_json

    content = result.to_dict()
    if baseline is not None:
        content["baseline"] = {
            "network": baseline.network,
            "data": baseline.data,
            "errors": baseline.errors(result.miou),
            "mce": baseline.mce(result.miou),
        }
    write_json(path, content)


def show(result: Robustness, baseline: Baseline | None) -> None:
    """Prints mIoU by corruption and severity, then IoU by class."""
    from rich.console import Console
    from rich.table import Table

    from condense_training.evaluate.corruptions import SEVERITIES

    def percent(value: float) -> str:
        return f"{100 * value:.1f}"

    table = Table("corruption", title=f"mIoU %, {result.frames} frames")
    for heading in (*SEVERITIES, "mean", "RR"):
        table.add_column(heading, justify="right")
    errors = {} if baseline is None else baseline.errors(result.miou)
    if baseline is not None:
        table.add_column("CE", justify="right")
    table.add_row("none", "", "", "", percent(result.clean), "")
    for name, values in result.miou.items():
        cells = [*values, sum(values) / len(values), result.resilience[name]]
        cells += [errors[name]] if baseline is not None else []
        table.add_row(name.replace("_", " "), *(percent(value) for value in cells))
    table.add_section()
    last = ["", "", "", "", percent(result.mrr)]
    if baseline is not None:
        last.append(percent(baseline.mce(result.miou)))
    table.add_row("mRR" if baseline is None else "mRR, mCE", *last, style="bold")
    console = Console()
    console.print(table)
    if baseline is not None:
        console.print(f"CE against {baseline.network} on {baseline.data}")
        if baseline.data != result.data:
            console.print(
                "[yellow]the reference was evaluated on other data: CE compares two networks only "
                "where the data are the same[/yellow]"
            )
    console.print(_by_class(result))
    for name, count in result.untouched.items():
        if count:
            console.print(
                f"[yellow]{name} left {count} of {result.frames} frames as they were[/yellow]"
            )


def _by_class(result: Robustness) -> Table:
    """IoU clean, over all corruptions and severities, and under the corruption that costs most."""
    from condense_ros.cli.tables import class_table

    mean, worst, cause = {}, {}, {}
    for kind in result.classes:
        means = {name: _mean(by_class[kind]) for name, by_class in result.iou.items()}
        known = {name: value for name, value in means.items() if value is not None}
        if known:
            least = min(known, key=known.__getitem__)
            mean[kind], worst[kind] = sum(known.values()) / len(known), known[least]
            cause[kind] = least.replace("_", " ")
    totals = {name: sum(values) / len(values) for name, values in result.miou.items()}
    return class_table(
        "IoU %, mean over severities",
        {"clean": result.clean_iou, "corrupted": mean, "worst": worst},
        {
            "clean": result.clean,
            "corrupted": sum(totals.values()) / len(totals),
            "worst": min(totals.values()),
        },
        notes={"under": cause},
    )


def _mean(values: tuple[float | None, ...]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def draw(
    out: Path, result: Robustness, frame: Frame, checkpoint: Checkpoint, config: RobustnessConfig
) -> list[Path]:
    """Draws one frame under every corruption, and mIoU as bars."""
    from condense_ros.draw import draw_bars
    from condense_training.evaluate.corruptions import SEVERITIES
    from condense_training.evaluate.robustness import draw_corruptions, sensor_of

    ontology = checkpoint.heads[config.head].ontology
    sensor = sensor_of(ontology, config, float(result.protocol["intensity_scale"]))
    grid = draw_corruptions(
        frame, sensor, out / "corruptions.png", names=config.corruptions, seed=config.seed
    )
    bars = draw_bars(
        {name: [100 * value for value in values] for name, values in result.miou.items()},
        SEVERITIES,
        out / "robustness.png",
        y_label="mIoU [%]",
        title="Segmentation of corrupted sweeps",
        reference=("clean", 100 * result.clean),
    )
    return [grid, bars]
