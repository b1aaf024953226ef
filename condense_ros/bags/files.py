"""Which files make up a bag."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from condense_ros.errors import BagError


def _number(path: Path) -> tuple[int, str]:
    match = re.search(r"_(\d+)$", path.stem)
    return (int(match.group(1)) if match else -1, path.name)


def bag_files(path: Path) -> tuple[list[Path], bool]:
    """The storage files of a bag in order, and whether they are sqlite3.

    The files in the folder count, not metadata.yaml: after a kill it is older than they are.

    Raises:
        BagError: no bag there.
    """
    if path.is_file():
        if path.suffix in (".mcap", ".db3"):
            return [path], path.suffix == ".db3"
        if path.name == "metadata.yaml":
            return bag_files(path.parent)
        raise BagError(f"{path} is no bag", "give a bag folder or an .mcap file")
    if not path.is_dir():
        raise BagError(f"there is no bag at {path}", "check the path")
    files = sorted(path.glob("*.mcap"), key=_number)
    if files:
        return files, False
    files = sorted(path.glob("*.db3"), key=_number)
    if files:
        return files, True
    raise BagError(
        f"the folder {path} holds no .mcap and no .db3 file{_named(path)}",
        "give the folder that a recorder wrote",
    )


def _named(path: Path) -> str:
    """What metadata.yaml says should be there."""
    try:
        content = yaml.safe_load((path / "metadata.yaml").read_text(encoding="utf-8"))
        names = content["rosbag2_bagfile_information"]["relative_file_paths"]
        return f" (metadata.yaml names {', '.join(map(str, names))})"
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return ""
