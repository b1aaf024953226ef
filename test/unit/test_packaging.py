"""The package as pip and colcon see it: names, versions, entry points, files that travel along."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import condense_ros
from condense_ros.resources import config_file, interface_files

ROOT = Path(__file__).parents[2]
INTERFACE_PACKAGES = (ROOT / "msg", ROOT / "tools/interfaces/tf2_msgs")


def manifest(folder: Path) -> ElementTree.Element:
    return ElementTree.parse(folder / "package.xml").getroot()


def setup_value(name: str) -> object:
    """A list of setup.py, by the name it is assigned to."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return ast.literal_eval(node.value)
    raise KeyError(name)


def console_scripts() -> dict[str, str]:
    text = (ROOT / "setup.py").read_text()
    return dict(re.findall(r'"(\w+) = ([\w.]+:\w+)"', text))


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    """Name -> version of the constraints that hold for this Python."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        text = line.split("#")[0].strip()
        if text:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate():
                assert normal(requirement.name) not in found, f"{requirement.name} is pinned twice"
                found[normal(requirement.name)] = str(requirement.specifier).removeprefix("==")
    return found


def test_manifests_are_what_ros_accepts() -> None:
    package = pytest.importorskip("catkin_pkg.package")
    for folder, kind in (
        (ROOT, "ament_python"),
        *((folder, "ament_cmake") for folder in INTERFACE_PACKAGES),
    ):
        parsed = package.parse_package(str(folder))
        parsed.validate()
        assert parsed.package_format == 3
        assert parsed.get_build_type() == kind
        assert parsed.licenses == ["Apache-2.0"]


def test_versions_agree() -> None:
    version = condense_ros.__version__
    assert manifest(ROOT).findtext("version") == version
    assert manifest(ROOT / "msg").findtext("version") == version
    headings = re.findall(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert version in headings


def test_entry_points_name_functions_that_exist() -> None:
    scripts = console_scripts()
    assert {"condense", "capture_node", "replay_node", "perception_node"} <= set(scripts)
    for target in scripts.values():
        module, function = target.split(":")
        path = ROOT / Path(*module.split("."))
        source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        names = [node.name for node in ast.parse(source.read_text()).body if hasattr(node, "name")]
        assert function in names, f"{source} has no {function}"


def test_every_interface_file_is_built() -> None:
    for folder in INTERFACE_PACKAGES:
        listed = set(
            re.findall(r'"((?:msg|srv)/\w+\.\w+)"', (folder / "CMakeLists.txt").read_text())
        )
        there = {
            str(p.relative_to(folder)) for p in folder.glob("*/*") if p.suffix in (".msg", ".srv")
        }
        assert listed == there


def test_interfaces_name_only_packages_they_depend_on() -> None:
    for folder in INTERFACE_PACKAGES:
        declared = {element.text for element in manifest(folder).iter("depend")}
        used = set()
        for path in folder.glob("*/*.[ms][sr][gv]"):
            used |= set(re.findall(r"^([a-z]\w*)/\w+", path.read_text(), re.M))
        assert used - {folder.name} <= declared
        found = set(re.findall(r"find_package\((\w+)", (folder / "CMakeLists.txt").read_text()))
        assert declared <= found


def test_ros_packages_the_nodes_import_are_dependencies() -> None:
    declared = {element.text for element in manifest(ROOT).iter("depend")}
    imported = set()
    for path in (ROOT / "condense_ros/nodes").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    ros = {name for name in imported if name == "rclpy" or name.endswith(("_msgs", "_interfaces"))}
    assert ros
    assert ros <= declared


def test_every_requirement_is_pinned() -> None:
    pinned = pins()
    for group in ("CORE", "ROS", "INTERFACES", "LABELS", "DEV", "TRITON", "TENSORBOARD"):
        for requirement in setup_value(group):  # type: ignore[attr-defined]
            name = normal(Requirement(requirement).name)
            assert name in pinned, f"{requirement} of {group} has no pin in constraints.txt"


@pytest.mark.skipif(
    Path(sys.prefix) != ROOT / ".venv", reason="pins describe the environment of `make env`"
)
def test_installed_versions_are_the_pinned_ones() -> None:
    wrong = {}
    for name, version in pins().items():
        try:
            installed = metadata.version(name).split("+")[0]
        except metadata.PackageNotFoundError:
            continue  # for another Python version, or not needed on this platform
        if installed != version:
            wrong[name] = (installed, version)
    assert not wrong


def test_files_are_found_in_the_checkout() -> None:
    assert config_file("fastdds.xml").is_file()
    files = interface_files()
    assert files["condense_msgs/msg/Pair"].name == "Pair.msg"
    assert files["condense_msgs/srv/Seek"].name == "Seek.srv"


def test_wheel_carries_code_messages_and_configuration(tmp_path: Path) -> None:
    source = tmp_path / "source"
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*")
    for name in ("condense_ros", "training", "msg", "config", "launch", "resource"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "package.xml"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", tmp_path, source], check=True, stdin=subprocess.DEVNULL)
    (wheel,) = tmp_path.glob("condense_ros-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "condense_ros/py.typed",
        "condense_ros/cli/commands/doctor.py",
        "condense_ros/_data/config/fastdds.xml",
        "condense_ros/_data/config/ontologies/nuscenes_16.yaml",
        "condense_ros/_data/config/label_maps/cityscapes.yaml",
        "condense_ros/_data/config/point_labels/nuscenes.yaml",
        "condense_ros/_data/interfaces/msg/Pair.msg",
        "condense_ros/_data/interfaces/srv/Seek.srv",
        "condense_training/recipes/janda.py",
    } <= names
    assert any(name.endswith("share/condense_ros/launch/perception.launch.py") for name in names)
    # a `config`, `launch` or `msg` at top level would shadow other packages
    tops = {name.split("/")[0].split("-")[0] for name in names}
    assert tops == {"condense_ros", "condense_training"}
