"""`condense bench losses`: losses and samplers of pretraining beside bare matrix products."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from condense_ros.cli.options import Device, resolve_device


def losses(
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here.", dir_okay=False)
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="Time for each figure.")] = 1.0,
    pairs: Annotated[int, typer.Option(min=2, help="Point-pixel pairs of a batch.")] = 100_000,
    drawn: Annotated[int, typer.Option(min=2, help="Pairs that a contrast looks at.")] = 4096,
    channels: Annotated[int, typer.Option(min=2, help="Length of features.")] = 64,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: as training uses them.")] = 0,
    device: Device = "cpu",
) -> None:
    """Time and memory of every loss and sampler, forward and backward."""
    from condense_ros.cli.bench.losses import lines, measure
    from condense_ros.errors import ConfigError
    from condense_ros.files import write_json

    if drawn > pairs:
        raise ConfigError(f"{drawn} pairs drawn of {pairs}", "draw no more than there are")
    device = resolve_device(device)
    result = measure(
        seconds, pairs=pairs, drawn=drawn, channels=channels, device=device, threads=threads
    )
    for line in lines(result):
        typer.echo(line)
    if json_file is not None:
        write_json(json_file.absolute(), result)
