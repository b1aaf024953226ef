"""`condense relocalise`: where in a stored map was this cloud taken?"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from condense_ros.cli.options import Device

if TYPE_CHECKING:
    from collections.abc import Iterator

    from condense_ros.frame import Frame


def frames_of(path: Path, every: int) -> Iterator[Frame]:
    """Every n-th frame of a data set or bag, or the one cloud of a file; shows how far it is."""
    from condense_ros.cli.progress import progress_bar
    from condense_ros.datasets import open_dataset, read_cloud
    from condense_ros.frame import Frame

    if path.is_file() and path.suffix != ".mcap":
        yield Frame(stamp_ns=1, cloud=read_cloud(path), sequence=path.stem)
        return
    dataset = open_dataset(path)
    numbers = range(0, len(dataset), every)
    with progress_bar("frames") as report:
        for done, number in enumerate(numbers, 1):
            yield dataset[number]
            report(done, len(numbers))


def relocalise(
    place_map: Annotated[Path, typer.Argument(metavar="MAP", help="Folder of a map.")],
    data: Annotated[Path, typer.Argument(help="A cloud file, data set or bag.")],
    checkpoint: Annotated[Path | None, typer.Option(help="The backbone of the map.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Ask with every n-th frame.")] = 1,
    truth: Annotated[
        bool, typer.Option("--truth", help="The data's poses are in the map's frame: show errors.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write the answers here, as JSON.")] = None,
    device: Device = "auto",
) -> None:
    """Find the pose of clouds in a map, or answer "unknown"; never a guess.

    Poses of the data are compared with the answers only with --truth: a recording does not say
    whether its frame has the map's origin.
    """
    from rich.console import Console
    from rich.table import Table

    from condense_ros.errors import DatasetError
    from condense_ros.geometry import pose_error
    from condense_ros.perception import Observer
    from condense_ros.places.place_map import PlaceMap
    from condense_ros.places.relocalise import relocalise as ask

    stored = PlaceMap.open(place_map)
    observer = Observer.of_kind(stored.header.descriptor_kind, checkpoint, device)
    stored.check_query(observer.backbone, observer.kind)
    answers: list[dict[str, Any]] = []
    table = Table(title=f"{data} in {place_map}", title_justify="left")
    table.add_column("frame", justify="right")
    for heading in ("answer", "x m", "y m", "yaw deg", "score", "error or reason"):
        table.add_column(heading)
    for frame in frames_of(data, every):
        if truth and frame.T_world_lidar is None:
            raise DatasetError(f"frame {frame.index} of {data} has no pose", "leave out --truth")
        answer = ask(stored, observer(frame))
        entry: dict[str, Any] = {
            "frame": f"{frame.sequence}:{frame.index}",
            "stamp_ns": frame.stamp_ns,
            "status": answer.status,
            "score": answer.score,
            "place": answer.place,
            "reason": answer.reason,
            "T_map_lidar": None,
            "timings_ms": answer.timings_ms,
        }
        cells = ["", "", ""]
        remark = answer.reason if answer.T_map_lidar is None else ""
        if answer.T_map_lidar is not None:
            T = answer.T_map_lidar
            entry["T_map_lidar"] = T.tolist()
            yaw = math.degrees(math.atan2(T[1, 0], T[0, 0]))
            cells = [f"{T[0, 3]:.2f}", f"{T[1, 3]:.2f}", f"{yaw:.1f}"]
            if truth:
                assert frame.T_world_lidar is not None  # checked as it was read
                metres, degrees = pose_error(T, frame.T_world_lidar)
                entry["error_m"], entry["error_deg"] = metres, degrees
                remark = f"{metres:.2f} m, {degrees:.1f} deg"
        answers.append(entry)
        row = str(frame.index), answer.status, *cells, f"{answer.score:.2f}", remark
        table.add_row(*row)
    if out is not None:
        from condense_ros.files import write_atomically

        write_atomically(out, json.dumps(answers, indent=1).encode())
    Console().print(table)
    found = sum(entry["status"] == "found" for entry in answers)
    typer.echo(f"{found} of {len(answers)} found in {place_map}")
