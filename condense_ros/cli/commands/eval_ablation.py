"""`condense eval ablation`: the component table of recipe olivine, cell by cell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from condense_ros.cli.options import Device, parameter_values, resolve_device

if TYPE_CHECKING:
    from condense_training.evaluate.ablation import AblationConfig


def ablation(
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Labelled data to pretrain on and to draw labels from; repeatable."),
    ] = None,
    test: Annotated[
        list[Path] | None, typer.Option(help="Labelled data of other places; repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for cells, table and picture.")] = Path(
        "ablation"
    ),
    labels: Annotated[
        list[str] | None,
        typer.Option(
            help="Where classes come from: truth, truth20 (20 % of it wrong), clusters (made here) "
            "or NAME=FOLDER; repeatable. Default: clusters and truth20."
        ),
    ] = None,
    rows: Annotated[str, typer.Option(help="Rows, separated by commas; all by default.")] = "",
    seeds: Annotated[
        int, typer.Option(min=0, help="Pretraining seeds per row; 0: three, one with --quick.")
    ] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small data and few steps: the chain, not the figures.")
    ] = False,
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="Only every N-th cell, from the I-th (0-based).")
    ] = "",
    device: Device = "cpu",
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="NAME=VALUE", help="Set a parameter of all rows."),
    ] = None,
) -> None:
    """Pretrain every row with several seeds and judge it by a linear probe and by few labels.

    One JSON file per cell; stopped or killed, the same command goes on where it was. Without
    --data, towns are simulated first: 400 frames to train, 100 of other towns to judge.
    """
    import os

    from rich.console import Console

    from condense_ros.cli.progress import progress_bar
    from condense_ros.errors import ConfigError
    from condense_training.evaluate import ablation_report
    from condense_training.evaluate.ablation import cells, label_source
    from condense_training.evaluate.ablation_data import labels_of_clusters, towns
    from condense_training.evaluate.ablation_run import finished, run
    from condense_training.frames import FrameSource
    from condense_training.labels.shards import Shard, which_shard
    from condense_training.trainer import TrainerConfig

    console = Console(stderr=True)
    config = _config(rows, seeds or (1 if quick else 3), quick, parameter_values(None, param))
    # what is misspelt is refused before anything is made
    cells(config, [label_source("truth", 2)])
    part = which_shard(shard) if shard else Shard()
    if bool(data) != bool(test):
        raise ConfigError(
            "--data without --test, or --test without --data",
            "name both, of different places; or none, and towns are simulated",
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "the table was started by torchrun, but every cell trains in one process",
            "start it without torchrun, once for each --shard I/N",
        )
    if not data or not test:
        data, test = towns(out / "data", quick=quick, progress=progress_bar)
    source, judged = FrameSource(data), FrameSource(test)
    texts = [
        f"clusters={labels_of_clusters(data, out / 'labels', quick=quick, progress=progress_bar)}"
        if text == "clusters"
        else text
        for text in labels or ["clusters", "truth20"]
    ]
    classes = len(source.classes or ())
    todo = cells(config, [label_source(text, classes) for text in texts])
    trainer = TrainerConfig(device=resolve_device(device))
    run(config, source, judged, part.of(todo), out, trainer, console=console)
    summary = ablation_report.write(finished(config, source, judged, todo, out), out)
    typer.echo(ablation_report.markdown(summary))
    typer.echo(f"cells, table and picture: {out}")


def _config(rows: str, seeds: int, quick: bool, settings: dict[str, object]) -> AblationConfig:
    from condense_training.evaluate.ablation import QUICK, SETTINGS, AblationConfig

    chosen = {"rows": tuple(rows.split(","))} if rows else {}
    small = QUICK if quick else {}
    own = {**small.get("settings", SETTINGS), **settings}
    return AblationConfig(
        **{**small, **chosen, "settings": own, "seeds": tuple(range(seeds))}  # type: ignore[arg-type]
    )
