"""`condense bench engine`: the sparse engine on LiDAR sweeps, beside what the machine can do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from condense_ros.cli.options import Device


def engine(
    network: Annotated[
        str,
        typer.Option(help="minkunet, or a backbone's preset: unet34c, unet18, unet14, live, demo."),
    ] = "minkunet",
    cloud: Annotated[
        str, typer.Option(help="64beam, 32beam (simulated street), or a cloud's file.")
    ] = "64beam",
    voxel: Annotated[float, typer.Option(help="Edge of a voxel, metres.")] = 0.05,
    backend: Annotated[
        str, typer.Option(help="all, or names: torch,cpu,triton,spconv,spconv-triton.")
    ] = "all",
    dtype: Annotated[
        str,
        typer.Option(
            help="all, or names: float32,bfloat16,float16 (which takes minutes on most CPUs)."
        ),
    ] = "float32,bfloat16",
    threads: Annotated[int, typer.Option(min=1, help="Threads of every operator.")] = 1,
    device: Device = "cpu",
    runs: Annotated[int, typer.Option(min=5, help="Medians are of so many runs.")] = 5,
    train: Annotated[bool, typer.Option("--train", help="Also a training step.")] = False,
    peers: Annotated[
        bool,
        typer.Option("--peers", help="Also spconv, torchsparse, MinkowskiEngine where installed."),
    ] = False,
    peer_python: Annotated[
        Path | None, typer.Option(help="Python interpreter in which the peers are installed.")
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Also tables of layers.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here.", dir_okay=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Draw each layer's time beside its floor here.", dir_okay=False),
    ] = None,
) -> None:
    """Time sparse networks layer by layer, beside the machine's own products and copies."""
    from condense_ros.cli.bench.engine.measure import BACKENDS, DTYPES, EngineBench, measure
    from condense_ros.cli.bench.engine.report import show
    from condense_ros.cli.options import resolve_device
    from condense_ros.cli.progress import progress_bar
    from condense_ros.files import write_json

    bench = EngineBench(
        network,
        cloud,
        voxel,
        () if backend == "all" else _names(backend, BACKENDS),
        DTYPES if dtype == "all" else _names(dtype, DTYPES),
        threads,
        resolve_device(device),
        runs,
        train,
        peers or peer_python is not None,
        peer_python,
    )
    with progress_bar("engine") as progress:
        result = measure(bench, progress)
    show(result, layers)
    if json_file is not None:
        write_json(json_file.absolute(), result)
    if out is not None:
        from condense_ros.cli.bench.engine.picture import draw_layers

        typer.echo(f"picture: {draw_layers(result, out)}")


def _names(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Names separated by commas, in the order of `known` and each once; unknown ones at the end."""
    given = dict.fromkeys(name.strip() for name in text.split(","))
    return (*(name for name in known if name in given), *(n for n in given if n not in known))
