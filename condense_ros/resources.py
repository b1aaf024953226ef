"""Finds the files that travel with the package: parameter files and message definitions."""

from __future__ import annotations

from pathlib import Path

from condense_ros.errors import EnvironmentProblem

_PACKAGE = Path(__file__).resolve().parent


def _folder(installed: str, in_checkout: str) -> Path:
    for folder in (_PACKAGE / "_data" / installed, _PACKAGE.parent / in_checkout):
        if folder.is_dir():
            return folder
    raise EnvironmentProblem(
        f"the installed condense_ros has no folder {installed!r} (looked beside {_PACKAGE})",
        "install it again: `make env`, `pip install .` or `colcon build`",
    )


def config_file(name: str) -> Path:
    """Path of a file of config/, e.g. "fastdds.xml", in a checkout and once installed.

    Raises:
        EnvironmentProblem: the installation lacks it.
    """
    path = _folder("config", "config") / name
    if not path.is_file():
        raise EnvironmentProblem(
            f"there is no {name} in {path.parent}", "install condense_ros again"
        )
    return path


def interface_files() -> dict[str, Path]:
    """Definitions of package condense_msgs: "condense_msgs/msg/Pair" -> path of Pair.msg.

    Raises:
        EnvironmentProblem: the installation lacks them.
    """
    folder = _folder("interfaces", "msg")
    files = sorted([*folder.glob("msg/*.msg"), *folder.glob("srv/*.srv")])
    if not files:
        raise EnvironmentProblem(f"no definitions in {folder}", "install condense_ros again")
    return {f"condense_msgs/{path.parent.name}/{path.stem}": path for path in files}
