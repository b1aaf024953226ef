"""docs/faults.md names a test for every fault, and each of them exists."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).parents[2]


def rows() -> dict[int, list[str]]:
    """Number of the fault -> names of its tests."""
    found: dict[int, list[str]] = {}
    for line in (ROOT / "docs/faults.md").read_text().splitlines():
        match = re.match(r"\| (\d+) \|", line)
        if match:
            names = re.findall(r"`(test_\w+\*?)`", line)
            found[int(match[1])] = found.get(int(match[1]), []) + names
    return found


def defined() -> set[str]:
    found: set[str] = set()
    for path in (ROOT / "test").rglob("test_*.py"):
        found |= set(re.findall(r"^def (test_\w+)", path.read_text(), re.M))
    return found


def test_every_fault_has_a_test_that_exists() -> None:
    listed, existing = rows(), defined()
    assert sorted(listed) == list(range(1, max(listed) + 1))
    assert max(listed) >= 49
    for number, names in listed.items():
        assert names, f"fault {number} names no test"
        for name in names:
            known = any(fnmatchcase(one, name) for one in existing)
            assert known, f"fault {number}: there is no {name}"
        assert any(f"_{number:02d}_" in name for name in names), f"fault {number}: {names}"
