"""Trees, bushes, crops and grass: wood that stays, leaves that follow the season."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from condense_ros.geometry import Array
from condense_ros.sim.designs import asset_rng, stuff
from condense_ros.sim.materials import Surface
from condense_ros.sim.mesh import MeshBuilder, leaves
from condense_ros.sim.open_country import classes_terrain as c
from condense_ros.sim.open_country.country import Placer
from condense_ros.sim.open_country.fields import (
    Season,
    crop_surface,
    grass_surface,
    keep,
    lattice,
    row_plants,
    strips,
    tufts,
    turn,
)
from condense_ros.sim.open_country.outdoor import PLANTS, Plant
from condense_ros.sim.open_country.relief import ground_height

#: plants farther from all tracks than this have fewer, larger leaves
_NEAR_M = 22.0


@dataclass(frozen=True, eq=False)
class Standing:
    """A plant that stands somewhere; its leaves are still to come."""

    plant: Plant
    T: Array
    instance: int
    far: bool


def add_wood(p: Placer, rng: np.random.Generator, trees: int) -> list[Standing]:
    """Trunks and branches of the wood's edge, single trees and a hedgerow along one spoke."""
    species = [PLANTS["tree"](asset_rng(n)) for n in p.catalogue.draw(rng, "tree", 8)]
    shrubs = [PLANTS["bush"](asset_rng(n)) for n in p.catalogue.draw(rng, "bush", 6)]
    found: list[Standing] = []

    def stand(options: list[Plant], x: float, y: float, half: float) -> None:
        plant, yaw = options[int(rng.integers(len(options)))], float(rng.uniform(0, 6.28))
        size = float(rng.uniform(0.8, 1.2))
        if not p.free(x, y, (half, half)):
            return
        T = p.pose(x, y, yaw)
        T[:3, :3] *= size
        number = p.builder.begin()
        for shape, what in plant.wood:
            p.builder.add(shape, what, T)
        p.take(x, y, yaw, (half, half))
        far = float(p.land.distance(np.array([[x, y]]))[0]) > _NEAR_M
        found.append(Standing(plant, T, number, far))

    wood = p.fields("wood")
    for x, y in p.spots(rng, wood, trees, (5.0, 48.0)):
        stand(species, x, y, 0.45)
    for x, y in p.spots(rng, wood, trees // 2, (4.0, 14.0)):
        stand(shrubs, x, y, 0.7)
    for x, y in p.spots(rng, p.fields("meadow", "pasture", "cereal", "plough"), 9, (4.0, 24.0)):
        stand(species, x, y, 0.45)
    spoke = p.land.spokes[int(rng.integers(4))]
    side = np.gradient(spoke, axis=0)
    side = np.column_stack([-side[:, 1], side[:, 0]]) / np.linalg.norm(side, axis=1, keepdims=True)
    offset = float(rng.choice([-1, 1])) * 4.6
    along = np.r_[0, np.cumsum(np.linalg.norm(np.diff(spoke, axis=0), axis=1))]
    for s in np.arange(12.0, along[-1] - 10.0, 1.5):
        if np.sin(s * 0.21 + offset) < -0.75:
            continue
        x, y = (np.interp(s, along, (spoke + offset * side)[:, i]) for i in (0, 1))
        x, y = x + float(rng.normal(0, 0.25)), y + float(rng.normal(0, 0.25))
        stand(species if rng.random() < 0.06 else shrubs, float(x), float(y), 0.6)
    _add_far_woods(p, rng)
    return found


def _add_far_woods(p: Placer, rng: np.random.Generator) -> None:
    """Woods on the horizon: large ragged leaves, out of every laser's reach."""
    leaf = stuff(rng, c.FOLIAGE, ("leaf",), 8, 9, 13, scale_m=3.0)
    p.builder.begin()
    for _ in range(14):
        angle, rho = float(rng.uniform(0, 6.28)), float(rng.uniform(290, 620))
        wide, n = float(rng.uniform(25, 90)), 240
        t = rng.uniform(-1, 1, n) * wide
        xy = rho * np.array([np.cos(angle), np.sin(angle)])
        xy = xy + t[:, None] * [-np.sin(angle), np.cos(angle)] + rng.normal(0, 5, (n, 2))
        z = p.land.network.height(xy) + rng.uniform(0.5, 13, n) * (1 - 0.5 * (t / wide) ** 2)
        p.builder.add(leaves(np.column_stack([xy, z]), rng.uniform(3, 6, n), rng), leaf)


def add_leaves(builder: MeshBuilder, plants: list[Standing], season: Season) -> None:
    """Leaves of all plants in a season; they belong to the object that their wood is."""
    for s in plants:
        count = int(len(s.plant.leaf) * season.leaves)
        shape = s.plant.leaf[:count]
        if s.far:
            # every sixth leaf, so much larger
            shape = shape[::6]
            centre = shape.mean(axis=(1, 2), keepdims=True)
            shape = centre + (shape - centre) * 2.4
        surface = turn(s.plant.surface, season)
        with builder.of(s.instance):
            builder.add(shape.reshape(-1, 3, 3), surface, s.T)


def add_crops(
    p: Placer, stay: np.random.Generator, rng: np.random.Generator, season: Season
) -> None:
    """Crops in rows, cereals, and tall grass on verges and meadows.

    Args:
        stay: where the rows run; the same in all sessions.
        rng: how the plants of this session have grown.
    """
    crops = [crop_surface(asset_rng(n)) for n in p.catalogue.draw(stay, "crop", 4)]
    grass = [grass_surface(asset_rng(n)) for n in p.catalogue.draw(stay, "tall_grass", 3)]
    for field, use in enumerate(p.land.uses):
        yaw = float(stay.uniform(0, np.pi))
        what = turn(crops[field % 4], season, 0.8)
        p.builder.begin()
        if use == "rows":
            _add_rows(p, field, yaw, season.rows_m, what, rng)
        elif use == "cereal":
            _add_cereal(p, field, yaw, season.cereal_m, what, rng)
        elif use == "meadow":
            _add_grass(p, [field], (3.2, 9.0), 0.62, season, grass, rng)
            far = lattice(p.land, field, yaw, (1.9, 1.9), (9.0, 34.0))
            base = _on_ground(p, far + rng.uniform(-0.9, 0.9, far.shape))
            p.builder.add(tufts(base, season.grass_m, 7, 0.12, rng), turn(grass[0], season))
    p.builder.begin()
    _add_grass(p, list(range(8)), (1.75, 3.2), 0.5, season, grass, rng)


def _on_ground(p: Placer, xy: Array) -> Array:
    xy = xy[p.ditch.depth(xy) < 0.4]
    return np.column_stack([xy, ground_height(p.land, p.ditch, xy)])


def _add_rows(
    p: Placer, field: int, yaw: float, high: float, what: Surface, rng: np.random.Generator
) -> None:
    near = lattice(p.land, field, yaw, (0.34, 0.75), (3.3, 8.5))
    near = near[keep(rng, len(near), 0.94)] + rng.normal(0, 0.03, (1, 2))
    base = _on_ground(p, near + rng.normal(0, 0.025, near.shape))
    p.builder.add(row_plants(base, high, rng), what)
    far = lattice(p.land, field, yaw, (1.0, 0.75), (8.5, 38.0))
    far = far[keep(rng, len(far), 0.95)]
    p.builder.add(strips(far, yaw, 1.0, 0.85 * high, p.land, rng), what)


def _add_cereal(
    p: Placer, field: int, yaw: float, high: float, what: Surface, rng: np.random.Generator
) -> None:
    near = lattice(p.land, field, yaw, (0.3, 0.26), (3.3, 6.5))
    near = near[keep(rng, len(near), 0.93)]
    base = _on_ground(p, near + rng.normal(0, 0.03, near.shape))
    p.builder.add(tufts(base, high, 4, 0.05, rng), what)
    far = lattice(p.land, field, yaw, (1.2, 0.7), (6.5, 34.0))
    p.builder.add(strips(far, yaw, 1.2, 0.9 * high, p.land, rng), what)


def _add_grass(
    p: Placer,
    fields: list[int],
    band: tuple[float, float],
    spacing: float,
    season: Season,
    surfaces: list[Surface],
    rng: np.random.Generator,
) -> None:
    """Tufts of tall grass, in patches."""
    for k, field in enumerate(fields):
        xy = lattice(p.land, field, 0.3 * k, (spacing, spacing), band)
        xy = xy + rng.uniform(-0.5, 0.5, xy.shape) * spacing
        d = p.land.distance(xy)
        patch = np.sin(0.31 * xy[:, 0] + field) + np.sin(0.27 * xy[:, 1])
        xy = xy[(d > band[0] - 0.1) & (patch > -0.7)]
        if len(xy):
            base = _on_ground(p, xy)
            what = turn(surfaces[field % len(surfaces)], season)
            p.builder.add(tufts(base, season.grass_m, 8, 0.025, rng), what)
