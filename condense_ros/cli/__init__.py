"""The `condense` command line; the verbs live in `commands`."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits with its status."""
    from condense_ros.cli.app import main as run

    run(arguments)
