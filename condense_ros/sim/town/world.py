"""`World`: a procedural town, the same bytes for the same seed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from condense_ros.config import parameter
from condense_ros.errors import SimulationError
from condense_ros.geometry import Array
from condense_ros.sim.mesh import Mesh
from condense_ros.sim.network import Network, make_network
from condense_ros.sim.scenery import Light, Mover
from condense_ros.sim.town.assets import Assets
from condense_ros.sim.town.classes import ontology
from condense_ros.sim.town.ground import add_terrain, add_ways
from condense_ros.sim.town.rounds import vehicles_in_traffic, walkers
from condense_ros.sim.town.session import SessionPart
from condense_ros.sim.town.street import Layout, Side, fill_lots, fill_open_land, fill_pavement
from condense_ros.sim.town.weather import make_day


@dataclass(frozen=True)
class WorldConfig:
    """A town's size and how full it is."""

    columns: int = parameter(6, "crossings along one side of the town", low=2, high=40)
    rows: int = parameter(5, "crossings along the other side", low=2, high=40)
    block_m: float = parameter(80.0, "mean distance of neighbouring crossings", low=50, high=300)
    hill_m: float = parameter(2.0, "largest height of the hills", low=0, high=10)
    styles: int = parameter(9, "kinds of houses in the town", low=1, high=200)
    parked: float = parameter(0.5, "share of parking places that are taken", low=0, high=1)
    people_per_100m: float = parameter(4.0, "standing per 100 m of street", low=0, high=100)
    trees: float = parameter(0.55, "share of tree places that hold one", low=0, high=1)
    cars_per_km: float = parameter(9.0, "cars and vans that drive", low=0, high=40)
    cyclists_per_km: float = parameter(2.0, "bicycles that are ridden", low=0, high=20)
    walkers_per_km: float = parameter(24.0, "people who walk", low=0, high=200)
    movers: float = parameter(1.0, "factor to all that moves; 0: nothing does", low=0, high=4)


class World:
    """A town made from a seed.

    What stands for good depends on seed, split and configuration alone: it comes first in `mesh`
    and is the same, bit for bit, in every session.

    Args:
        seed: of the town.
        session: which day: other light and weather, parked cars, people, leaves, building sites.
        split: "train" or "test", from whose assets everything is made.

    Attributes:
        permanent: how many of `mesh`'s triangles, its first, are the same in every session.
        weather: name of the session's weather.
        sun: (3,) unit vector towards the sun.
        The others are those of `Scenery`.

    Raises:
        SimulationError: a negative seed or session, another split.
    """

    def __init__(
        self,
        seed: int,
        config: WorldConfig | None = None,
        *,
        session: int = 0,
        split: str = "train",
    ) -> None:
        if seed < 0 or session < 0:
            raise SimulationError(
                f"world seed {seed}, session {session}: one is negative", "use 0 or more"
            )
        self.kind, self.seed, self.session, self.split = "town", seed, session, split
        self.config = c = config or WorldConfig()
        assets = Assets(split)
        #: one stream for what lasts, one for what does not
        lasting = np.random.default_rng([seed, 7041])
        passing = np.random.default_rng([seed, session, 90173])
        self.network: Network = make_network(lasting, c.columns, c.rows, c.block_m, c.hill_m)
        layout = Layout(self.network, c, assets)
        add_ways(layout.builder, self.network, assets, lasting)
        styles = [assets.draw(lasting, "house") for _ in range(c.styles)]
        sides = [Side(layout, e, s) for e in range(len(self.network.edges)) for s in (1, -1)]
        for side in sides:
            fill_lots(side, styles, lasting)
        for side in sides:
            fill_pavement(side, lasting)
        fill_open_land(layout, lasting)
        with layout.builder.of(0):
            add_terrain(layout.builder, self.network, layout.taken, assets, lasting)
        self.permanent = layout.builder.triangle_count()
        day = make_day(passing, session)
        part = SessionPart(layout, sides, day, session)
        part.fill(passing)
        self.mesh: Mesh = layout.builder.mesh()
        self.obstacles: Array = part.taken.array().copy()
        self.light: Light = day.light
        self.weather, self.sun = day.name, np.array(day.light.sun)
        per_km = self.network.length_m() / 1000 * c.movers
        first = int(self.mesh.instance.max())
        moving = vehicles_in_traffic(
            self.network,
            assets,
            passing,
            round(c.cars_per_km * per_km),
            round(c.cyclists_per_km * per_km),
            first,
        )
        moving += walkers(
            self.network,
            assets,
            passing,
            round(c.walkers_per_km * per_km),
            first + len(moving),
            part.closed,
        )
        self.movers: tuple[Mover, ...] = tuple(moving)
        self.ontology, self.assets = ontology, assets.used

    def height(self, xy: Array) -> Array:
        """Ground height (...,) at positions (..., 2), metres; roads lie on it."""
        return self.network.height(xy)


@lru_cache(maxsize=2)
def shared_world(
    seed: int, config: WorldConfig | None = None, *, session: int = 0, split: str = "train"
) -> World:
    """The world of a seed, built once per process (some seconds) for all that only look at it.

    Raises:
        SimulationError: a negative seed or session, another split.
    """
    return World(seed, config, session=session, split=split)
