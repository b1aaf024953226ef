"""`condense convert`: published weights as a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from condense_ros.cli.options import ConfigFile, Parameters, parameters, show_parameters

if TYPE_CHECKING:
    from condense_ros.models import InputSpec
    from condense_ros.models.convert import Conversion, FeatureMap


def convert(
    file: Annotated[
        Path | None, typer.Argument(help="Weight file: .pth, .pt or .safetensors.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The checkpoint to write, .safetensors.")] = None,
    voxel_size_m: Annotated[
        float | None, typer.Option(help="Voxel size the weights were trained with, in metres.")
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(
            help="Input features the weights were trained with, in their order; repeatable or "
            "separated by commas."
        ),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="How they were pretrained: slidr, olivine, pri3d, ...")
    ] = None,
    source: Annotated[
        str, typer.Option(help="Library of the weights: auto, minkowski, spconv or torchsparse.")
    ] = "auto",
    preset: Annotated[
        str | None, typer.Option(help="Widths and blocks the file must have; they are read off it.")
    ] = None,
    scale: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=X", help="The weights saw X times our feature; repeatable."),
    ] = None,
    offset: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=X", help="The weights saw our feature plus X; repeatable."),
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(help="Prefix of the backbone's tensors; found where it is one.")
    ] = None,
    minkowski_order: Annotated[
        str, typer.Option(help="Kernels of blocks: auto, hypercube, or hybrid (version 0.4).")
    ] = "auto",
    spconv_version: Annotated[
        str, typer.Option(help="Version that wrote the file: auto, 1, 2.0, 2.1, or 2.2 and later.")
    ] = "auto",
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor.")] = False,
    config: ConfigFile = None,
    param: Parameters = None,
    list_parameters: Annotated[
        bool, typer.Option("--parameters", help="List the parameters of the input.")
    ] = False,
) -> None:
    """Convert published weights (MinkowskiEngine, spconv, torchsparse) to a checkpoint.

    Voxel size and input features are not in such files: give those of the training.
    """
    from condense_ros.errors import ConfigError
    from condense_ros.models import InputSpec
    from condense_ros.models.convert import convert_file

    if list_parameters:
        show_parameters(InputSpec)
        return
    if file is None or out is None or voxel_size_m is None or not features or not recipe:
        raise ConfigError(
            "convert needs a file, and what the file does not say",
            "type: condense convert FILE --out model.safetensors --voxel-size-m 0.1 "
            "--features intensity --recipe slidr",
        )
    names = [name.strip() for text in features for name in text.split(",")]
    spec = parameters(InputSpec, config, param, voxel_size_m=voxel_size_m, features=names)
    conversion = convert_file(
        file,
        out,
        spec,
        recipe,
        preset=preset,
        source=source,
        prefix=prefix,
        minkowski_order=minkowski_order,
        spconv_version=spconv_version,
        feature_maps=feature_maps(scale or [], offset or []),
    )
    show(conversion, spec, tensors)
    typer.echo(f"checkpoint: {out}")


def feature_maps(scales: list[str], offsets: list[str]) -> dict[str, FeatureMap]:
    """Scales and offsets of NAME=X settings.

    Raises:
        ConfigError: no "=", or no number behind it.
    """
    from condense_ros.errors import ConfigError
    from condense_ros.models.convert import FeatureMap

    values: dict[str, dict[str, float]] = {}
    for kind, settings in (("scale", scales), ("offset", offsets)):
        for setting in settings:
            name, _, number = setting.partition("=")
            try:
                values.setdefault(name.strip(), {})[kind] = float(number)
            except ValueError:
                raise ConfigError(
                    f"--{kind} {setting} is not NAME=NUMBER", f"write --{kind} intensity=255"
                ) from None
    return {name: FeatureMap(**value) for name, value in values.items()}


def show(conversion: Conversion, spec: InputSpec, tensors: bool) -> None:
    """Prints what was loaded, by part or by tensor, and what was left aside."""
    from rich.console import Console
    from rich.table import Table

    report, config = conversion.report, conversion.config
    console = Console()
    title = f"{report.network}, {report.source} ({report.layout})"
    if tensors:
        table = Table("ours", "theirs", "shape", title=title)
        for item in report.loaded:
            table.add_row(item.ours, report.prefix + item.theirs, str(item.shape))
    else:
        table = Table("part", title=title)
        table.add_column("tensors", justify="right")
        table.add_column("values", justify="right")
        parts: dict[str, list[int]] = {}
        for item in report.loaded:
            part = ".".join(item.ours.split(".")[: 1 if item.ours.startswith("stem") else 2])
            values = conversion.state[f"net.{item.ours}"].numel()
            parts.setdefault(part, []).append(values)
        for part, sizes in parts.items():
            table.add_row(part, str(len(sizes)), str(sum(sizes)))
        sizes = [size for found in parts.values() for size in found]
        table.add_row("all", str(len(sizes)), str(sum(sizes)), style="bold")
    console.print(table)
    console.print(f"widths {config.widths}, blocks {config.blocks}")
    names = ", ".join(spec.features)
    console.print(
        f"stem: kernel {config.stem_kernel}, {config.stem_layers} layers; levels widen in "
        f"{config.widening}; input {names}, voxels of {spec.voxel_size_m} m"
    )
    for part, left in report.unused_parts().items():
        what = f"{left[0][0]} {left[0][1]}" if len(left) == 1 else f"{part}, {len(left)} tensors"
        console.print(f"not used: {what}", style="yellow", highlight=False, markup=False)
    for note in report.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
