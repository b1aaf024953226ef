"""How long each part of the demo is: `FULL` for people, `QUICK` for continuous integration."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DemoPlan:
    """Sizes of the demo's steps.

    Attributes:
        drive_s: length of the recorded drive, seconds at 10 Hz.
        pretrain_preset: preset of the recipe.
        probe_frames: labelled frames of each world used by the linear probe.
        probe_seeds: seeds of the linear probe.
        head_frames: labelled simulated frames the segmentation head is fitted on.
        map_spacing_m: distance between stored places.
        revisits: queries beside the drive, answered offline.
        unknowns: queries from places never visited, answered offline.
        live_revisits, live_unknowns: places the robot is put down at while the node is live.
        live_stop_s: how long it stands at each.
        steps_workers: processes that render and that answer queries.
    """

    drive_s: float
    pretrain_preset: str
    probe_frames: int
    probe_seeds: tuple[int, ...]
    head_frames: int
    map_spacing_m: float
    revisits: int
    unknowns: int
    live_revisits: int
    live_unknowns: int
    live_stop_s: float
    workers: int = 2


FULL = DemoPlan(
    drive_s=40.0,
    pretrain_preset="demo",
    probe_frames=40,
    probe_seeds=(0, 1, 2),
    head_frames=40,
    map_spacing_m=3.0,
    revisits=40,
    unknowns=200,
    live_revisits=3,
    live_unknowns=2,
    live_stop_s=4.0,
)
QUICK = DemoPlan(
    drive_s=10.0,
    pretrain_preset="quick",
    probe_frames=14,
    probe_seeds=(0, 1, 2),
    head_frames=14,
    map_spacing_m=3.0,
    revisits=8,
    unknowns=16,
    live_revisits=1,
    live_unknowns=1,
    live_stop_s=3.0,
)
