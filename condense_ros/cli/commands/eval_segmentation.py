"""`condense eval segmentation`: a backbone under fine-tuning and probe protocols of papers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from condense_ros.cli.options import (
    ConfigFile,
    Device,
    Parameters,
    Seed,
    parameter_values,
    resolve_device,
    show_parameters,
)


def segmentation(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="Pretrained checkpoint.", dir_okay=False)
    ] = None,
    train: Annotated[
        list[Path] | None, typer.Option(help="Labelled data to learn from; repeatable.")
    ] = None,
    test: Annotated[
        list[Path] | None, typer.Option(help="Labelled data to be judged on; repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for runs and results.")] = Path("segmentation"),
    preset: Annotated[
        str, typer.Option(help="Protocol: nuscenes, semantickitti_1, demo, ...; see --parameters.")
    ] = "demo",
    fractions: Annotated[
        str,
        typer.Option(help="Shares of the training data in percent, separated by commas: 1,5,10."),
    ] = "",
    random: Annotated[
        bool,
        typer.Option(
            "--random/--no-random", help="Also a random network of the same architecture."
        ),
    ] = True,
    head: Annotated[
        bool,
        typer.Option(
            "--head", help="Only judge the segmentation head in the checkpoint on --test."
        ),
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each protocol.")] = 1,
    seed: Seed = 0,
    device: Device = "cpu",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here.", dir_okay=False)
    ] = None,
    config: ConfigFile = None,
    param: Parameters = None,
    list_parameters: Annotated[
        bool, typer.Option("--parameters", help="List the parameters and presets.")
    ] = False,
) -> None:
    """Train on a share of the labels and report IoU per class; transfer is other --train data.

    Stopped or killed, the same command goes on where it was.
    """
    from condense_ros.errors import ConfigError
    from condense_ros.files import write_json
    from condense_training.evaluate.finetune import PRESETS, FinetuneConfig
    from condense_training.evaluate.protocol import Protocol, judge_head, run

    if list_parameters:
        typer.echo(f"presets: {', '.join(PRESETS)}")
        show_parameters(FinetuneConfig)
        return
    if checkpoint is None or not test or not (train or head):
        raise ConfigError(
            "a checkpoint, data to learn from and data to be judged on are needed",
            "type: condense eval segmentation CHECKPOINT --train DATA --test OTHER, or --head "
            "with --test alone",
        )
    if head:
        results = [judge_head(checkpoint, test)]
    else:
        protocol = Protocol(
            preset=preset,
            settings=parameter_values(config, param),
            fractions=_shares(fractions),
            seeds=tuple(range(seed, seed + seeds)),
            random=random,
        )
        results = run(checkpoint, train or [], test, out, protocol, device=resolve_device(device))
    show(results)
    path = json_file or out / "segmentation.json"
    write_json(path, {"results": results})
    typer.echo(f"figures: {path}")


def show(results: list[dict[str, Any]]) -> None:
    """Prints IoU by class for every network and share, means over seeds, and both mIoU."""
    from statistics import fmean

    from rich.console import Console

    from condense_ros.cli.tables import class_table
    from condense_training.evaluate.protocol import columns

    found = columns(results)
    by_class = {
        heading: {name: fmean(one["iou"][name] for one in ones) for name in ones[0]["iou"]}
        for heading, ones in found.items()
    }
    means = {heading: fmean(one["miou"] for one in ones) for heading, ones in found.items()}
    console = Console()
    console.print(class_table("IoU %, classes that are present", by_class, means))
    for heading, ones in found.items():
        each = ", ".join(f"{100 * one['miou']:.1f}" for one in ones)
        absent = 100 * fmean(one["miou_absent_is_one"] for one in ones)
        console.print(f"{heading}: mIoU {each} % by seed; {absent:.1f} % with absent classes as 1")


def _shares(text: str) -> tuple[float, ...]:
    from condense_ros.errors import ConfigError

    try:
        shares = tuple(float(part) / 100 for part in text.split(",") if part.strip())
    except ValueError:
        shares = (0.0,)
    if any(not 0 < share <= 1 for share in shares):
        raise ConfigError(f"--fractions {text!r}", "give percents in (0, 100], as 1,5,10,25,100")
    return shares
