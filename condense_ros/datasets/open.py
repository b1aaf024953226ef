"""`open_dataset`: which reader fits a path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from condense_ros.config import build
from condense_ros.datasets.base import Dataset, describe_folder
from condense_ros.datasets.options import DataOptions, read_options, split_path
from condense_ros.errors import ConfigError, DatasetError

CLOUD_SUFFIXES = (".bin", ".npy", ".npz", ".pcd", ".ply", ".feather")


def _any(path: Path, *patterns: str) -> bool:
    return any(next(path.glob(pattern), None) is not None for pattern in patterns)


# Each entry: what marks the format (shown to the user), test, and reader. Readers are imported only
# when their format is found. The order matters: the folder of clouds takes what is left.
def _simulated(path: Path) -> Dataset:
    from condense_ros.datasets.simulated import SimulatedFolder

    return SimulatedFolder(path)


def _bag(path: Path) -> Dataset:
    from condense_ros.datasets.bag import BagDataset

    return BagDataset(path)


def _kitti_object(path: Path) -> Dataset:
    from condense_ros.datasets.kitti_object import KittiObject

    return KittiObject(path)


def _kitti(path: Path) -> Dataset:
    from condense_ros.datasets.kitti import KittiSequence

    return KittiSequence(path)


def _nuscenes(path: Path) -> Dataset:
    from condense_ros.datasets.nuscenes import NuScenesSample

    return NuScenesSample(path)


def _devkit_folder(path: Path) -> bool:
    return _any(path, "v1.0-*/sample_data.json", "sample_data.json")


def _devkit(path: Path, options: DataOptions) -> Dataset:
    from condense_ros.datasets.nuscenes_devkit import NuScenesDevkit

    return NuScenesDevkit(path, options)


def _sequences_folder(path: Path) -> bool:
    from condense_ros.datasets.sequences import scan_folder_of

    return scan_folder_of(path) is not None


def _sequences(path: Path, options: DataOptions) -> Dataset:
    from condense_ros.datasets.semantickitti import SemanticKitti

    return SemanticKitti(path, options)


def _rgbd(path: Path) -> Dataset:
    from condense_ros.datasets.rgbd import RgbdSequence

    return RgbdSequence(path)


def _argoverse(path: Path) -> Dataset:
    from condense_ros.datasets.argoverse import ArgoverseLog

    return ArgoverseLog(_argoverse_log(path) or path)


def _clouds(path: Path) -> Dataset:
    from condense_ros.datasets.clouds import CloudFolder

    return CloudFolder(path)


def _argoverse_log(path: Path) -> Path | None:
    """The log folder itself, or the only log in a folder of logs."""
    logs = [p.parents[1] for p in (*path.glob("sensors/lidar"), *path.glob("*/sensors/lidar"))]
    return logs[0] if len(logs) == 1 else None


# Formats that know which part of them to read.
_FORMATS_WITH_OPTIONS: tuple[
    tuple[str, Callable[[Path], bool], Callable[[Path, DataOptions], Dataset]], ...
] = (
    ("nuScenes devkit folder: v1.0-*/sample_data.json", _devkit_folder, _devkit),
    (
        "sequences in SemanticKITTI's layout: sequences/*/velodyne/*.bin and the like",
        _sequences_folder,
        _sequences,
    ),
)

_FORMATS: tuple[tuple[str, Callable[[Path], bool], Callable[[Path], Dataset]], ...] = (
    (
        "bag: a folder with .mcap or .db3 files, or one .mcap file",
        lambda p: _any(p, "*.mcap", "*.db3") if p.is_dir() else p.suffix in (".mcap", ".db3"),
        _bag,
    ),
    (
        "simulated folder: manifest.json",
        lambda p: (p / "manifest.json").is_file(),
        _simulated,
    ),
    (
        "nuScenes sample: sample.json",
        lambda p: (p / "sample.json").is_file() and not (p / "sample_data.json").is_file(),
        _nuscenes,
    ),
    (
        "KITTI object: calib/, image_2/, velodyne/",
        lambda p: (p / "calib").is_dir() and (p / "velodyne").is_dir(),
        _kitti_object,
    ),
    (
        "KITTI sequence or raw drive: velodyne/ or velodyne_points/data/, image_02/ or image_2/",
        lambda p: (p / "velodyne").is_dir() or (p / "velodyne_points").is_dir(),
        _kitti,
    ),
    (
        "RGB-D sequence: frame-*.color.*, frame-*.depth.png, frame-*.pose.txt",
        lambda p: p.is_dir() and _any(p, "frame-*.depth.png", "frame-*.color.*"),
        _rgbd,
    ),
    (
        "Argoverse 2 log: sensors/lidar/*.feather",
        lambda p: p.is_dir() and _argoverse_log(p) is not None,
        _argoverse,
    ),
    (
        f"clouds: files ending in {' '.join(CLOUD_SUFFIXES)}",
        lambda p: (
            any(q.suffix in CLOUD_SUFFIXES for q in p.iterdir())
            if p.is_dir()
            else p.suffix in CLOUD_SUFFIXES
        ),
        _clouds,
    ),
)


def open_dataset(path: str | Path, options: DataOptions | None = None) -> Dataset:
    """Opens a data set, guessing its format from the names in the folder.

    Folders of several drives (nuScenes' devkit layout, SemanticKITTI and its relatives) take
    `DataOptions`: from `condense.yaml` in the folder, after the path
    (`FOLDER?label_map=semanticposs&split=train`), and from here; the later one counts.

    Raises:
        DatasetError: nothing there, or nothing this project reads; the message lists what was
            looked for and what was found. A path with options that its format does not have.
        ConfigError: an unknown option, or a value that makes no sense.
    """
    path, asked = split_path(Path(path))
    if not path.exists():
        raise DatasetError(f"{path} does not exist", "give the folder of a data set or a bag")
    if options is not None:
        asked = {**asked, **options.given()}
    values = {**(read_options(path) if path.is_dir() else {}), **asked}
    # a single drive is read as what it is, unless it is said what its labels are
    single = "label_map" not in values and any(fits(path) for _, fits, _ in _FORMATS[:-1])
    if path.is_dir() and not single:
        for _, accepts, open_part in _FORMATS_WITH_OPTIONS:
            if accepts(path):
                return open_part(path, build(DataOptions, values))
    for what, fits, reader in _FORMATS:
        if fits(path):
            if values:
                raise ConfigError(
                    f"{path} ({what.partition(':')[0]}) does not take {', '.join(values)}",
                    "leave them out; they are for folders of several drives",
                )
            return reader(path)
    found = describe_folder(path) if path.is_dir() else f"a file ending in {path.suffix!r}"
    looked = "; ".join(entry[0] for entry in (*_FORMATS, *_FORMATS_WITH_OPTIONS))
    raise DatasetError(
        f"{path} holds no data set this project reads. Found: {found}. Looked for: {looked}",
        "point to the folder that holds one of these",
    )
