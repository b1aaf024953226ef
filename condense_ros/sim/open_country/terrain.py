"""`TerrainWorld`: open country with tracks, fields, a wood's edge and few landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from condense_ros.config import parameter
from condense_ros.errors import SimulationError
from condense_ros.geometry import Array
from condense_ros.ontology import Ontology
from condense_ros.sim.designs import Catalogue
from condense_ros.sim.mesh import Mesh, MeshBuilder
from condense_ros.sim.network import Network
from condense_ros.sim.open_country import country, growth
from condense_ros.sim.open_country.classes_terrain import ontology
from condense_ros.sim.open_country.earth import ground_surfaces
from condense_ros.sim.open_country.fields import SEASONS, Season
from condense_ros.sim.open_country.outdoor import MAKERS
from condense_ros.sim.open_country.relief import add_ground, make_ditch
from condense_ros.sim.open_country.tracks import Land, make_land
from condense_ros.sim.scenery import Light, Mover


@dataclass(frozen=True)
class TerrainConfig:
    """The size of open country and how much stands in it."""

    radius_m: float = parameter(95.0, "mean radius of the ring of tracks", low=60, high=400)
    relief: float = parameter(1.0, "height of the hills; 1 is some metres", low=0, high=3)
    trees: int = parameter(190, "trees at the wood's edge", low=0, high=1000)
    animals: int = parameter(9, "animals on the pastures", low=0, high=200)
    walkers: int = parameter(2, "people who walk beside the tracks", low=0, high=40)


class TerrainWorld:
    """Open country made from (seed, session, split). See `Scenery` for the attributes.

    The relief, tracks, wood of trees and bushes, rocks, fences, poles and the barn depend on seed
    and split alone and come first in the mesh (`permanent` triangles); leaves, crops, grass, bales,
    animals, people, the weather and the light are of the session.

    Attributes:
        land: tracks and fields.
        season: what grows, and how high.
        permanent: number of triangles that all sessions share.

    Raises:
        SimulationError: a negative seed or session, or an unknown split.
    """

    kind = "terrain"
    ontology: Ontology = ontology

    def __init__(
        self,
        seed: int,
        config: TerrainConfig | None = None,
        *,
        session: int = 0,
        split: str = "train",
    ) -> None:
        if seed < 0 or session < 0:
            raise SimulationError(
                f"terrain of seed {seed}, session {session} is negative", "use 0 or more"
            )
        self.seed, self.session, self.split = seed, session, split
        self.config = c = config or TerrainConfig()
        catalogue = Catalogue(split, MAKERS)
        rng = np.random.default_rng([seed, 9101])
        self.land: Land = make_land(rng, c.radius_m, c.relief)
        self.network: Network = self.land.network
        meadow = 4 + self.land.uses[4:].index("meadow")
        middle = self.land.middle(meadow)
        angle = float(np.arctan2(middle[1], middle[0]))
        self._ditch = make_ditch(self.land, angle - 0.55, angle + 0.55)
        builder = MeshBuilder()
        surfaces = ground_surfaces(catalogue, rng)
        extent = float(self.land.radius_m.max()) + 110.0
        ground_rng = np.random.default_rng([seed, 9102])
        add_ground(builder, self.land, self._ditch, surfaces, ground_rng, extent)
        place = country.Placer(self.land, self._ditch, catalogue, builder)
        country.add_landmarks(place, np.random.default_rng([seed, 9103]))
        plants = growth.add_wood(place, np.random.default_rng([seed, 9104]), c.trees)
        self.permanent = builder.triangle_count()
        self.season: Season = self.season_of(seed, session)
        growth.add_leaves(builder, plants, self.season)
        rng = np.random.default_rng([seed, session, 9106])
        growth.add_crops(place, np.random.default_rng([seed, 9107]), rng, self.season)
        rng = np.random.default_rng([seed, session, 9108])
        country.add_passing(place, rng, self.season, c.animals)
        self.mesh: Mesh = builder.mesh()
        rng = np.random.default_rng([seed, session, 9109])
        self.movers: tuple[Mover, ...] = country.movers(place, rng, c.walkers, builder.begin())
        self.light = _light(np.random.default_rng([seed, session, 9110]))
        self.obstacles: Array = np.array(place.obstacles)
        self.assets = catalogue.used

    @staticmethod
    def season_of(seed: int, session: int) -> Season:
        """The season of a session, without making the world."""
        rng = np.random.default_rng([seed, session, 9105])
        return SEASONS[int(rng.integers(len(SEASONS)))]

    def height(self, xy: Array) -> Array:
        """Height of the land (...,) at positions (..., 2), metres; ruts, clods and the ditch, of
        centimetres and of 0.75 m, come on top of it in the mesh."""
        return self.network.height(xy)


def _light(rng: np.random.Generator) -> Light:
    """Sun, clouds and haze of a day."""
    up, around = np.radians(rng.uniform(14, 58)), rng.uniform(0, 2 * np.pi)
    clouds = float(rng.choice([0.1, 0.4, 0.95], p=[0.4, 0.35, 0.25]))
    direct = 0.0 if clouds > 0.9 else 1.0
    low = float(np.clip(1 - (np.degrees(up) - 14) / 30, 0, 1))
    grey = 0.75 if clouds > 0.9 else 1.0
    return Light(
        sun=(
            float(np.cos(up) * np.cos(around)),
            float(np.cos(up) * np.sin(around)),
            float(np.sin(up)),
        ),
        sun_rgb=(1.3 * direct, (1.2 - 0.15 * low) * direct, (1.05 - 0.35 * low) * direct),
        ambient_rgb=(0.4 / grey, 0.46 / grey, 0.55 / grey),
        horizon_rgb=(0.78 * grey, 0.82 * grey, 0.86 * grey),
        zenith_rgb=(0.28 + 0.4 * (clouds > 0.9), 0.46 + 0.24 * (clouds > 0.9), 0.78),
        clouds=clouds,
        haze_m=float(rng.choice([260.0, 700.0, 2500.0], p=[0.2, 0.4, 0.4])),
        wet=float(rng.uniform(0.4, 0.9)) if rng.random() < 0.3 else 0.0,
    )
