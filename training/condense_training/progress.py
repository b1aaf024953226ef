"""What a person at the terminal sees of a run, and how that person stops it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def progress_bar(console: Console, shown: bool) -> Progress:
    """Steps, loss, samples per second and the time that is left; tasks have fields loss, speed."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  {task.fields[speed]:.1f} samples/s"),
        TimeRemainingColumn(),
        console=console,
        disable=not shown,
    )


@contextmanager
def stop_requests(*, impatient: bool = True) -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM instead of dying in the middle of a step.

    Args:
        impatient: a second request does not wait. Under torchrun, Ctrl-C arrives twice, from the
            terminal and from torchrun, which ends processes that take too long by itself.
    """
    requests: list[int] = []
    old: dict[int, Any] = {}

    def handle(number: int, _frame: object) -> None:
        if requests and impatient:
            raise KeyboardInterrupt
        requests.append(number)

    for number in (int(signal.SIGINT), int(signal.SIGTERM)):
        try:
            old[number] = signal.signal(number, handle)
        except ValueError:  # not the main thread: the caller handles signals
            break
    try:
        yield requests
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
