"""`condense calib`: is a camera's calibration against the LiDAR right, and what would be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from condense_ros.cli.options import Parameters

if TYPE_CHECKING:
    from condense_ros.calibration import CalibrationEstimate, CalibrationWatch
    from condense_ros.datasets.base import Dataset
    from condense_ros.frame import Frame

app = typer.Typer(help="Check camera-LiDAR calibration without a target.", no_args_is_help=True)

#: exit status by verdict; 1 to 3 are those of errors
EXIT = {"good": 0, "off": 4, "cannot tell": 5}

Data = Annotated[Path, typer.Argument(metavar="DATA", help="A bag, or a data set with images.")]
Camera = Annotated[str | None, typer.Option(help="Name of the camera; the first by default.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the estimate here.")]
First = Annotated[int, typer.Option(min=0, help="Leave out the frames before this one.")]
Frames = Annotated[int, typer.Option(min=0, help="Use so many frames; 0: all.")]
Deskew = Annotated[
    bool, typer.Option("--deskew", help="Clouds carry point times and are not compensated.")
]


@app.command()
def check(
    data: Data,
    camera: Camera = None,
    out: Annotated[Path | None, typer.Option(help="Folder for pictures.")] = None,
    as_json: Json = None,
    first: First = 0,
    frames: Frames = 0,
    deskew: Deskew = False,
    settings: Parameters = None,
) -> None:
    """Estimate the error of a calibration, axis by axis, from a recorded drive.

    Exit status: 0 the calibration is good, 4 it is off, 5 the data cannot tell.
    """
    estimate, watch, example = _estimate(data, camera, first, frames, deskew, settings)
    _show(estimate)
    if as_json is not None:
        _write_json(as_json, estimate)
    if out is not None:
        _draw(out, estimate, watch, example)
    raise typer.Exit(EXIT[estimate.verdict])


@app.command()
def refine(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for the proposal, report and pictures.")],
    camera: Camera = None,
    first: First = 0,
    frames: Frames = 0,
    deskew: Deskew = False,
    settings: Parameters = None,
) -> None:
    """Propose a better calibration; nothing that is in use is changed.

    Writes calibration.yaml, report.json and pictures. Axes that the data do not show keep the given
    value. Exit status: 0 a proposal was written, 5 the data cannot tell and none was.
    """
    from condense_ros.files import write_atomically

    estimate, watch, example = _estimate(data, camera, first, frames, deskew, settings)
    _show(estimate)
    _draw(out, estimate, watch, example)
    _write_json(out / "report.json", estimate)
    if not any(axis.status != "unobservable" for axis in estimate.axes.values()):
        typer.echo("no proposal: the data show no axis")
        raise typer.Exit(EXIT["cannot tell"])
    path = out / "calibration.yaml"
    write_atomically(path, _proposal(estimate, data))
    typer.echo(f"proposal: {path} (nothing was changed; put it where the robot reads it)")


def _estimate(
    data: Path,
    camera: str | None,
    first: int,
    frames: int,
    deskew: bool,
    settings: list[str] | None,
) -> tuple[CalibrationEstimate, CalibrationWatch, Frame]:
    from condense_ros.calibration import CalibrationConfig, CalibrationWatch
    from condense_ros.cli.options import parameters
    from condense_ros.cli.progress import progress_bar
    from condense_ros.datasets import open_dataset
    from condense_ros.errors import DatasetError

    config = parameters(CalibrationConfig, None, settings)
    dataset = open_dataset(data)
    numbers = range(first, min(len(dataset), first + frames) if frames else len(dataset))
    if not numbers:
        raise DatasetError(f"{data} has {len(dataset)} frames, none from {first}", "lower --first")
    watch, example = CalibrationWatch(config, camera), None
    with progress_bar("frames") as report:
        for done, number in enumerate(numbers, 1):
            frame = _deskewed(dataset, number) if deskew else dataset[number]
            watch.add(frame)
            if done - 1 == len(numbers) // 2:
                example = frame
            report(done, len(numbers))
    assert example is not None
    return watch.estimate(), watch, example


def _deskewed(dataset: Dataset, number: int) -> Frame:
    """A frame whose cloud is carried to its stamp along the poses of the frames around it."""
    from dataclasses import replace

    from condense_ros.deskew import deskew
    from condense_ros.errors import DatasetError

    around = range(max(number - 1, 0), min(number + 2, len(dataset)))
    near = [dataset[k] for k in around]
    frame = dataset[number]
    poses = [f.T_world_lidar for f in near if f.T_world_lidar is not None]
    if len(poses) < len(near):
        raise DatasetError(f"{dataset.name} has frames without poses", "leave out --deskew")
    stamps = [f.stamp_ns for f in near]
    if number + 1 == len(dataset):  # the last sweep goes on as the one before ended
        from condense_ros.deskew import exp_se3, log_se3
        from condense_ros.geometry import inverse

        step = log_se3(inverse(poses[-2]) @ poses[-1])
        stamps.append(2 * stamps[-1] - stamps[-2])
        poses.append(poses[-1] @ exp_se3(step))
    return replace(frame, cloud=deskew(frame.cloud, frame.stamp_ns, stamps, poses))


def _show(estimate: CalibrationEstimate) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"calibration of {estimate.camera}", title_justify="left")
    for heading in ("axis", "error", "95 % interval", "unit", "status"):
        table.add_column(heading, justify="right" if heading == "error" else "left")
    style = {"off": "red", "unobservable": "dim", "good": ""}
    for name, axis in estimate.axes.items():
        table.add_row(
            name.replace("_", " "),
            f"{axis.value:+.4f}",
            f"{axis.low:+.4f} to {axis.high:+.4f}",
            axis.unit,
            axis.status,
            style=style[axis.status],
        )
    if estimate.axes:
        Console().print(table)
    typer.echo(f"{estimate.verdict}: {estimate.reason}")


def _write_json(path: Path, estimate: CalibrationEstimate) -> None:
    from condense_ros.files import write_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(estimate.to_dict(), indent=2) + "\n")


def _proposal(estimate: CalibrationEstimate, data: Path) -> str:
    """A calibration file: the mounting as matrix and as tf wants it, and where it comes from."""
    import yaml

    from condense_ros import __version__
    from condense_ros.geometry import quaternion_from_rotation

    T = estimate.T_cam_lidar_proposed
    content = {
        "camera": estimate.camera,
        "T_cam_lidar": [[round(float(x), 9) for x in row] for row in T],
        "translation_xyz_m": [round(float(x), 6) for x in T[:3, 3]],
        "rotation_xyzw": [round(float(x), 9) for x in quaternion_from_rotation(T[:3, :3])],
        "time_offset_s": round(estimate.time_offset_s, 6),
        "axes": {
            name: {
                "changed_by": round(axis.value, 6) if axis.status != "unobservable" else 0.0,
                "interval_95": [round(axis.low, 6), round(axis.high, 6)],
                "unit": axis.unit,
                "status": axis.status,
            }
            for name, axis in estimate.axes.items()
        },
        "from": {
            "data": str(data.name),
            "T_cam_lidar_given": [
                [round(float(x), 9) for x in row] for row in estimate.T_cam_lidar_given
            ],
            "figures": estimate.figures,
            "software": f"condense_ros {__version__}",
        },
    }
    head = (
        "# Proposed by `condense calib refine`; not in use until you put it there.\n"
        "# T_cam_lidar maps lidar points into the optical frame (metres). Images were taken\n"
        "# time_offset_s after their stamps.\n"
    )
    return head + str(yaml.safe_dump(content, sort_keys=False))


def _draw(
    out: Path, estimate: CalibrationEstimate, watch: CalibrationWatch, example: Frame
) -> None:
    from dataclasses import replace

    from condense_ros.draw import draw_overlay
    from condense_ros.draw.calibration import draw_cost_curves, draw_intervals

    image = next(image for image in example.images if image.name == estimate.camera)
    for name, T in (
        ("given", estimate.T_cam_lidar_given),
        ("proposed", estimate.T_cam_lidar_proposed),
    ):
        shown = replace(example, images=(replace(image, T_cam_lidar=T),))
        draw_overlay(shown, image.name, out / f"overlay_{name}.png")
    written = ["overlay_given.png", "overlay_proposed.png"]
    if estimate.axes:
        c = watch.config
        rows = [
            (name, axis.value, axis.low, axis.high, axis.unit, axis.status)
            for name, axis in estimate.axes.items()
        ]
        tolerance = {
            "deg": c.tolerance_rotation_deg,
            "m": c.tolerance_translation_m,
            "s": c.tolerance_time_s,
        }
        draw_intervals(
            rows,
            out / "intervals.png",
            title=f"{estimate.camera}: {estimate.verdict}",
            tolerance=tolerance,
        )
        curves, what = watch.curves()
        units = {name: axis.unit for name, axis in estimate.axes.items()}
        draw_cost_curves(curves, out / "cost_curves.png", units=units, y_label=what)
        written += ["intervals.png", "cost_curves.png"]
    typer.echo(f"pictures in {out}: {', '.join(written)}")
