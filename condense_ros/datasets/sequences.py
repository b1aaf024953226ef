"""Which sequences and scans a folder in the layout of SemanticKITTI holds, and which are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from condense_ros.datasets.base import describe_folder
from condense_ros.datasets.options import DataOptions
from condense_ros.datasets.point_labels import PointLabels
from condense_ros.errors import ConfigError, DatasetError

#: names of the folder of scans in a sequence
SCAN_FOLDERS = ("velodyne", "os1_cloud_node_kitti_bin", "clouds")
#: where sequences lie, seen from the folder that is named
_PLACES = ("", "sequences", "dataset/sequences", "data")


def _is_sequence(folder: Path, scans: str) -> bool:
    # a folder of calibration files, one for each scan, is KITTI object's
    return (
        next((folder / scans).glob("*.bin"), None) is not None and not (folder / "calib").is_dir()
    )


def find_sequences(root: Path, scans: str) -> dict[str, Path]:
    """Name -> folder of every sequence, sorted by name; `root` may be a single one.

    Args:
        scans: name of the folder of scans in each.
    """
    if _is_sequence(root, scans):
        return {root.resolve().name: root}
    for place in _PLACES:
        base = root / place
        if base.is_dir():
            found = {p.name: p for p in sorted(base.iterdir()) if _is_sequence(p, scans)}
            if found:
                return found
    return {}


def scan_folder_of(root: Path) -> str | None:
    """Which of `SCAN_FOLDERS` the sequences in a folder have; None where there are none."""
    return next((name for name in SCAN_FOLDERS if find_sequences(root, name)), None)


def list_scans(folder: Path) -> list[str]:
    """Stems of the scans in a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.bin"))


def choose_scans(
    root: Path, scans: str, labels: PointLabels | None, options: DataOptions
) -> dict[str, tuple[Path, list[str]]]:
    """Sequence -> folder and stems of the chosen scans, sorted; before every k-th is taken.

    Raises:
        DatasetError: no sequences, or a chosen one or a listed scan is not there.
        ConfigError: no such split.
    """
    found = find_sequences(root, scans)
    if not found:
        raise DatasetError(
            f"{root} has no sequences with {scans}/*.bin (it holds {describe_folder(root)})",
            "point to the folder above the sequences, or choose the label map of this data set",
        )
    names = sorted(found)
    listed: dict[str, list[str]] | None = None
    if options.split is not None:
        chosen = _split(root, labels, options.split)
        if isinstance(chosen, tuple):
            names = sorted(set(_present(chosen, found, root)))
        else:
            listed = chosen
            names = sorted(set(_present(tuple(listed), found, root)))
    if options.drives:
        wanted = set(_present(options.drives, found, root))
        names = [name for name in names if name in wanted]
    if not names:
        raise DatasetError(
            f"none of the drives {', '.join(options.drives)} is in split {options.split}",
            "choose drives of that split",
        )
    picked = {}
    for name in names:
        stems = list_scans(found[name] / scans)
        if listed is not None:
            missing = sorted(set(listed[name]) - set(stems))
            if missing:
                raise DatasetError(
                    f"{len(missing)} scans of split {options.split} are not in "
                    f"{found[name] / scans}, the first is {missing[0]}.bin",
                    "restore the files",
                )
            stems = sorted(set(listed[name]))
        picked[name] = (found[name], stems)
    return picked


def _present(names: tuple[str, ...], found: Mapping[str, Path], root: Path) -> tuple[str, ...]:
    missing = [name for name in names if name not in found]
    if missing:
        raise DatasetError(
            f"{root} lacks the sequences {', '.join(missing)} (it has {', '.join(found)})",
            "restore them, or choose others: ?drives=NAME,NAME",
        )
    return names


def _split(
    root: Path, labels: PointLabels | None, name: str
) -> tuple[str, ...] | dict[str, list[str]]:
    """Names of sequences, or the stems that a list file gives for each."""
    known = {} if labels is None else labels.splits
    value = known.get(name, name)
    if isinstance(value, tuple):
        return value
    path = next((p for p in (root / value, Path(value)) if p.is_file()), None)
    if path is None and name in known:
        raise DatasetError(f"{root / value}, the list of split {name}, is missing", "restore it")
    if path is None:
        raise ConfigError(
            f"no split {name!r}" + ("" if labels is None else f" of {labels.name}"),
            f"use one of {', '.join(known)}, or a file with one sequence or scan per line"
            if known
            else "choose a label map that has splits, or give a file with a sequence per line",
        )
    return _read_list(path)


def _read_list(path: Path) -> tuple[str, ...] | dict[str, list[str]]:
    """Lines are names of sequences, or paths SEQUENCE/FOLDER/STEM.bin (first word)."""
    try:
        lines = [line.split()[0] for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is no list ({error})", "give a text file") from None
    if not lines:
        raise DatasetError(f"{path} lists nothing", "write one sequence or scan per line")
    parts = [line.strip("/").split("/") for line in lines]
    if all(len(part) == 1 for part in parts):
        return tuple(lines)
    if any(len(part) < 3 for part in parts):
        raise DatasetError(
            f"{path} mixes names and paths", "write SEQUENCE or SEQUENCE/FOLDER/STEM.bin lines"
        )
    listed: dict[str, list[str]] = {}
    for part in parts:
        listed.setdefault(part[-3], []).append(Path(part[-1]).stem)
    return listed
