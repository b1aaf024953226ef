"""`condense bag export`: pairs as KITTI folders or WebDataset shards."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Layout(str, Enum):
    """Layouts that can be written."""

    kitti = "kitti"
    webdataset = "webdataset"


class Picture(str, Enum):
    """Image files of a WebDataset."""

    png = "png"
    jpg = "jpg"


def export(
    path: Annotated[Path, typer.Argument(help="Bag, or any other data set.")],
    out: Annotated[Path, typer.Argument(help="New folder, or that of an interrupted export.")],
    layout: Annotated[
        Layout, typer.Option("--format", help="KITTI odometry folders, or WebDataset .tar shards.")
    ] = Layout.kitti,
    frames: Annotated[
        str | None, typer.Option(metavar="A:B", help="Only frames A to B, without B.")
    ] = None,
    camera: Annotated[
        list[str] | None, typer.Option(help="Only this camera (KITTI); repeatable.")
    ] = None,
    shard_frames: Annotated[int, typer.Option(min=1, help="Frames per shard.")] = 64,
    images: Annotated[
        Picture, typer.Option(help="Image files of shards: lossless or small.")
    ] = Picture.png,
) -> None:
    """Write pairs in a layout that other tools read. Run it again to go on after an interruption.

    Exits with 3 if some frames cannot be read; the others are there.
    """
    from condense_ros.cli.progress import progress_bar
    from condense_ros.datasets import open_dataset
    from condense_ros.errors import BagDamaged

    wanted = _range(frames)
    dataset = open_dataset(path)
    with progress_bar("exporting") as progress:
        if layout is Layout.kitti:
            from condense_ros.datasets.export_kitti import export_kitti

            found = export_kitti(
                dataset, out, cameras=tuple(camera or ()), frames=wanted, progress=progress
            )
        else:
            from condense_ros.datasets.export_webdataset import export_webdataset

            found = export_webdataset(
                dataset,
                out,
                shard_frames=shard_frames,
                images=images.value,
                frames=wanted,
                progress=progress,
            )
    typer.echo(f"{out}: {found.frames} frames, {found.fresh} of them new")
    for note in found.notes:
        typer.echo(f"note: {note}")
    if found.skipped:
        index, why = next(iter(found.skipped.items()))
        raise BagDamaged(
            f"{len(found.skipped)} frames of {path} cannot be read, the first is {index}: {why}",
            f"{out} holds all others; {out}/export.json names these",
        )


def _range(text: str | None) -> tuple[int, int] | None:
    from condense_ros.errors import ConfigError

    if text is None:
        return None
    first, colon, last = text.partition(":")
    if not colon or not first.isdigit() or not last.isdigit():
        raise ConfigError(f"--frames {text} is no range", "write it as 0:100")
    return int(first), int(last)
