"""What `condense sim info` shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from condense_ros.datasets.simulated import SimulatedFolder

#: clouds that the shares of classes are counted in
_COUNTED = 20


def info_table(folder: Path) -> Table:
    """World, sensors, faults, drive and classes of a simulated folder.

    Raises:
        DatasetError: no such folder, or its generation did not finish.
    """
    data = SimulatedFolder(folder)
    world, config = data.manifest["world"], data.manifest["config"]
    table = Table("", "", title=str(folder), show_header=False)
    table.add_row(
        "world",
        f"{world['kind']}, seed {world['seed']}, session {world['session']}, {world['split']}; "
        f"{len(world['assets'])} assets, {world['movers']} movers"
        + (f" ({len(world['removed_movers'])} taken out)" if world["removed_movers"] else ""),
    )
    driven = np.linalg.norm(np.diff(data.T_world_base[:, :3, 3], axis=0), axis=1).sum()
    table.add_row("drive", f"{len(data)} frames, {len(data) * data.period_s:.1f} s, {driven:.0f} m")
    duration = len(data) * data.period_s
    for sensor, count in data.samples.items():
        delivery = data.truth.delivery(sensor)
        lost = f", {int(delivery.lost.sum())} lost in transport" if delivery.lost.any() else ""
        table.add_row(sensor, f"{count} samples, {count / duration:.1f} Hz{lost}")
    table.add_row("faults", ", ".join(_faults(config["faults"])) or "none")
    size = sum(file.stat().st_size for file in data.path.rglob("*") if file.is_file())
    table.add_row("on disk", f"{size / 1e6:.1f} MB, {size / len(data) / 1e6:.2f} MB per frame")
    rows = np.unique(np.linspace(0, len(data) - 1, _COUNTED).astype(int))
    counts = sum(np.bincount(data.sweep(int(i))[1], minlength=256) for i in rows)
    shares = np.asarray(counts) / max(1, np.sum(counts))
    for k in np.argsort(-shares):
        if shares[k] > 0 and k < len(data.classes):
            table.add_row(f"class {data.classes.names[k]}", f"{shares[k]:.2%} of points")
    return table


def _faults(values: dict[str, Any]) -> list[str]:
    return [
        f"{name} {sensor} {value:g}"
        for name, of in values.items()
        if isinstance(of, dict)
        for sensor, value in of.items()
        if value
    ]
