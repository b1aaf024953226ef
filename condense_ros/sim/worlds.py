"""`build_world`: a world of any kind by name."""

from __future__ import annotations

from typing import Any

from condense_ros.errors import SimulationError
from condense_ros.sim.scenery import Scenery

KINDS = ("town", "building", "terrain")


def build_world(
    kind: str, seed: int, session: int = 0, split: str = "train", config: Any = None
) -> Scenery:
    """Makes a world.

    Args:
        kind: one of `KINDS`.
        seed: of everything that stays from session to session.
        session: which day.
        split: "train" or "test"; the two share no asset.
        config: the kind's own configuration; its defaults if None.

    Raises:
        SimulationError: an unknown kind or split, a negative seed or session.
    """
    if kind == "town":
        from condense_ros.sim.town.world import World

        return World(seed, config, session=session, split=split)
    if kind == "building":
        from condense_ros.sim.indoors.building import BuildingWorld

        return BuildingWorld(seed, config, session=session, split=split)
    if kind == "terrain":
        from condense_ros.sim.open_country.terrain import TerrainWorld

        return TerrainWorld(seed, config, session=session, split=split)
    raise SimulationError(f"there is no world of kind {kind!r}", f"use one of {KINDS}")
