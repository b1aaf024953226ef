"""The house rules that a parser can check: who imports whom, and what `--help` may cost."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE, TRAINING = ROOT / "condense_ros", ROOT / "training" / "condense_training"


def _floors() -> dict[str, int]:
    """The table of docs/architecture.md: every room and single file with its floor."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page[page.index("## Floors") : page.index("## Contracts")]
    floors = {}
    for floor, names in re.findall(r"^\| (\d) \| ([^|]+) \|", table, re.MULTILINE):
        for name in re.findall(r"`([^`]+)`", names):
            floors[name.rstrip("/").split("/")[-1].removesuffix(".py")] = int(floor)
    return floors


FLOORS = _floors()
#: imports between rooms of one floor that the page allows
SIDEWAYS = {("datasets", "bags"), ("datasets", "sim"), ("perception", "places")}
ROS = re.compile(
    r"(rclpy|rosidl\w*|rosbag2\w*|tf2\w*|launch\w*|ament\w*|message_filters|cv_bridge|rpyutils"
    r"|builtin_interfaces|unique_identifier_msgs|\w+_msgs|std_srvs|example_interfaces)"
)
#: what no command should wait for before it prints its help
HEAVY = (
    *("torch", "cv2", "matplotlib", "lancedb", "pyarrow", "scipy", "embreex", "rclpy"),
    *("small_gicp", "rosbags", "pandas"),
)


def sources(root: Path) -> list[Path]:
    return sorted(root.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Full dotted names a file imports anywhere, also inside functions."""
    package = path.relative_to(TRAINING.parent if TRAINING in path.parents else ROOT).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def room(dotted: str) -> str | None:
    """The room a dotted name of this project lies in."""
    head, *rest = dotted.split(".")
    if head == "condense_training":
        return head
    if head == "condense_ros" and rest:
        return rest[0] if not rest[0].startswith("__") else None
    return None


def own_room(path: Path) -> str | None:
    if TRAINING in path.parents:
        return "condense_training"
    top = path.relative_to(CORE).parts[0].removesuffix(".py")
    return None if top == "__init__" else top


FILES = sources(CORE) + sources(TRAINING)


def test_there_is_something_to_check() -> None:
    assert len(FILES) > 30
    assert "numpy" in {name.split(".")[0] for name in imports(CORE / "geometry.py")}
    assert "condense_ros.errors.FrameError" in imports(CORE / "frame.py")


def test_every_room_has_a_floor() -> None:
    rooms = {own_room(path) for path in FILES} - {None}
    nowhere = rooms - set(FLOORS)
    assert not nowhere, f"give these a floor in docs/architecture.md: {nowhere}"
    assert FLOORS["geometry"] == 0
    assert FLOORS["cli"] == 5


def test_imports_go_down_only() -> None:
    wrong = []
    for path in FILES:
        here = own_room(path)
        if here is None:
            continue
        for name in imports(path):
            there = room(name)
            if there is None or there == here or there == "py":
                continue
            # the ground floor is one room of single files; cycles are looked for below
            down = (
                FLOORS.get(there, 99) < FLOORS.get(here, 99)
                or FLOORS[here] == FLOORS.get(there) == 0
            )
            allowed = down or (here, there) in SIDEWAYS
            if not allowed:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(sorted(wrong))


def test_no_two_rooms_import_each_other() -> None:
    edges = {(own_room(path), room(name)) for path in FILES for name in imports(path)}
    edges = {(a, b) for a, b in edges if a and b and a != b}
    assert not {(a, b) for a, b in edges if (b, a) in edges}


def test_only_nodes_import_ros() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in FILES
        if CORE / "nodes" not in path.parents
        for name in imports(path)
        if ROS.fullmatch(name.split(".")[0])
    ]
    assert not wrong, "\n".join(sorted(wrong))


def test_training_is_imported_by_the_command_line_only() -> None:
    users = {
        own_room(path)
        for path in sources(CORE)
        for name in imports(path)
        if name.split(".")[0] == "condense_training"
    }
    assert users <= {"cli"}


@pytest.mark.parametrize("name", ["condense_ros", "condense_ros.cli"])
def test_help_does_not_wait_for_heavy_libraries(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not there yet")
    code = f"import {name}, sys, json; print(json.dumps(sorted(sys.modules)))"
    if name == "condense_ros.cli" and (CORE / "cli" / "__main__.py").is_file():
        code = (
            "import sys, json, runpy\nsys.argv = ['condense', '--help']\n"
            "try: runpy.run_module('condense_ros.cli', run_name='__main__')\n"
            "except SystemExit as end: assert not end.code, end.code\n"
            "print(); print(json.dumps(sorted(sys.modules)))"
        )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.returncode == 0, done.stderr
    loaded = {module.split(".")[0] for module in json.loads(done.stdout.splitlines()[-1])}
    assert not loaded & set(HEAVY)


def test_nothing_public_lacks_a_docstring() -> None:
    bare = []
    for path in FILES:
        tree = ast.parse(path.read_text())
        if tree.body and not ast.get_docstring(tree):
            bare.append(f"{path.relative_to(ROOT)}: module")
        for node in tree.body:
            public = isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name[0] != "_"
            # one-liners whose name says it all, and command callbacks that only forward
            if public and not ast.get_docstring(node) and len(ast.unparse(node)) > 600:
                bare.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert not bare, "\n".join(bare)
