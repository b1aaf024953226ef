"""`condense pretrain`: data without labels in, checkpoint out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

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


def pretrain(
    data: Annotated[
        list[Path] | None, typer.Argument(help="Bags and data sets with clouds and images.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, log and state.")] = Path(
        "pretrained"
    ),
    recipe: Annotated[str, typer.Option(help="How to pretrain.")] = "janda",
    preset: Annotated[str, typer.Option(help="Set of the recipe's parameters.")] = "demo",
    frames: Annotated[
        int | None, typer.Option(min=1, help="At most so many frames of each data set.")
    ] = None,
    stride: Annotated[int, typer.Option(min=1, help="Use every n-th frame.")] = 1,
    resume: Annotated[
        bool, typer.Option("--resume/--restart", help="Go on with the run in --out.")
    ] = True,
    select: Annotated[
        str,
        typer.Option(
            help="Checkpoint to export: last, best (lowest validation loss), or a step. The latter "
            "need -p trainer.keep_every_steps=N."
        ),
    ] = "last",
    seed: Seed = 0,
    device: Device = "auto",
    config: ConfigFile = None,
    param: Parameters = None,
    list_parameters: Annotated[
        bool, typer.Option("--parameters", help="List the parameters of recipe and trainer.")
    ] = False,
) -> None:
    """Pretrain the 3D backbone from images, without labels.

    Stopped with Ctrl-C or killed, the same command goes on where it was. In several processes, on
    one machine or many: torchrun --nproc-per-node 4 -m condense_ros.cli pretrain ... Precision,
    accumulation, averaged weights and validation are parameters: -p trainer.precision=bfloat16.
    """
    import condense_training
    from condense_ros.config import build
    from condense_ros.errors import ConfigError
    from condense_training.recipes import RECIPES
    from condense_training.trainer_config import TrainerConfig

    if recipe not in RECIPES:
        raise ConfigError(f"unknown recipe {recipe!r}", f"use one of: {', '.join(RECIPES)}")
    if list_parameters:
        show_parameters(RECIPES[recipe].config, trainer=TrainerConfig)
        return
    if not data:
        raise ConfigError("no data to learn from", "name bags or data sets: condense pretrain BAG")
    values = parameter_values(config, param)
    run = {"seed": seed, "device": resolve_device(device)}
    run |= {
        name.removeprefix("trainer."): values.pop(name)
        for name in list(values)
        if name.startswith("trainer.")
    }
    settings = condense_training.PretrainConfig(
        recipe=recipe,
        preset=preset,
        settings=values,
        frame_stride=stride,
        frame_limit=frames,
        select=select,
        trainer=build(TrainerConfig, run),
    )
    checkpoint = condense_training.pretrain(data, out, settings, resume)
    if int(os.environ.get("RANK", "0")) == 0:
        typer.echo(f"checkpoint: {checkpoint}")
