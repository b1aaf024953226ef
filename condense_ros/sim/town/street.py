"""One side of one street: what stands there for good, from the kerb to the gardens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from condense_ros.geometry import Array
from condense_ros.sim.mesh import MeshBuilder, pose2d
from condense_ros.sim.network import Network
from condense_ros.sim.town import buildings, clutter, furniture, plants
from condense_ros.sim.town.assets import Assets
from condense_ros.sim.town.footprints import Footprints
from condense_ros.sim.town.ground import CLEAR_M, KERB_M, corner_curves

if TYPE_CHECKING:
    from condense_ros.sim.town.world import WorldConfig

#: how far from the kerb lamps and trees stand, and from the pavement's back what leans there
KERB_ZONE_M, BACK_ZONE_M = 0.5, 0.38


@dataclass(frozen=True, eq=False)
class Growth:
    """Something green whose wood, if it has any, stands; its leaves depend on the session.

    `kind` is "tree", "bush" or "hedge"; `instance` the object it belongs to (0: its own); `size` a
    scale, and for hedges their length and height, metres.
    """

    kind: str
    name: str
    T: Array
    instance: int
    size: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Front:
    """A house front: the side it belongs to, where it begins and ends (s), how far out it stands
    (t) and how high its eaves are, metres."""

    edge: int
    side: int
    s0: float
    s1: float
    t: float
    eaves_m: float


@dataclass(eq=False)
class Layout:
    """What the parts of a town share while it is made."""

    network: Network
    config: WorldConfig
    assets: Assets
    builder: MeshBuilder = field(default_factory=MeshBuilder)
    taken: Footprints = field(default_factory=Footprints)
    growth: list[Growth] = field(default_factory=list)
    fronts: list[Front] = field(default_factory=list)
    benches: list[Array] = field(default_factory=list)

    def __post_init__(self) -> None:
        nodes = range(len(self.network.nodes))
        curves = [back for n in nodes for _, back in corner_curves(self.network, n)]
        #: (C, 2) backs of all rounded corners
        self.corners = np.concatenate(curves)

    def tree(self, T: Array, rng: np.random.Generator) -> float:
        """Plants a tree and returns its trunk's radius."""
        name, scale = self.assets.draw(rng, "tree"), float(rng.uniform(0.85, 1.15))
        instance = self.builder.begin()
        T = plants.standing(plants.turned(T, rng), scale)
        model = plants.tree(name)
        model.wood.add(self.builder, T, plants.bark(self.assets, rng))
        self.growth.append(Growth("tree", name, T, instance, (scale,)))
        return model.radius_m * scale


class Side:
    """One side of one street with its own frame: s along it, t outwards."""

    def __init__(self, layout: Layout, edge: int, side: int) -> None:
        self.layout, self.edge, self.side = layout, edge, side
        a, b = layout.network.nodes[layout.network.edges[edge]]
        if side < 0:
            a, b = b, a
        # with the ends swapped for the other side, outwards is always to the left
        self.origin, self.length = a, float(np.linalg.norm(b - a))
        self.along = (b - a) / self.length
        self.out = np.array([-self.along[1], self.along[0]])
        self.yaw = float(np.arctan2(self.along[1], self.along[0]))
        self.road = float(layout.network.half_road[edge])
        self.street = float(layout.network.half_street[edge])
        self.first, self.last = CLEAR_M + 0.5, self.length - CLEAR_M - 0.5

    def xy(self, s: float, t: float) -> Array:
        """(2,) position, world frame."""
        return np.asarray(self.origin + s * self.along + t * self.out)

    def at(self, s: float, t: float, turn: float = 0.0, z: float = 0.0) -> Array:
        """(4, 4) upright pose at `s` along and `t` outwards, on the ground plus z."""
        x, y = self.xy(s, t)
        ground = float(self.layout.network.height(np.array([x, y])))
        return pose2d(x, y, self.yaw + turn, ground + z)

    def tilted(self, s: float, t: float, turn: float = 0.0, z: float = 0.0) -> Array:
        """As `at`, tilted as the ground is."""
        yaw = np.array([self.yaw + turn])
        return np.asarray(self.layout.network.stand(self.xy(s, t)[None], yaw, z)[0])

    def claim(self, taken: Footprints, s0: float, s1: float, t0: float, t1: float) -> bool:
        """Takes a rectangle if it is free and, behind the pavement, off every other street."""
        middle = self.xy((s0 + s1) / 2, (t0 + t1) / 2)
        args = (float(middle[0]), float(middle[1]), self.yaw, (s1 - s0) / 2, (t1 - t0) / 2)
        if t0 >= self.street - 0.01:
            s, t = np.meshgrid(np.linspace(s0, s1, 7), np.linspace(t0 + 0.05, t1, 5))
            xy = self.origin + s.reshape(-1, 1) * self.along + t.reshape(-1, 1) * self.out
            distance, edge = self.layout.network.offsets(xy)
            if (distance < self.layout.network.half_street[edge]).any():
                return False
            delta = self.layout.corners - middle
            beside = np.abs(delta @ self.along) < args[3] + 0.3
            if (beside & (np.abs(delta @ self.out) < args[4] + 0.3)).any():
                return False
        if not taken.clear(*args):
            return False
        taken.add(*args)
        return True


def fill_lots(side: Side, styles: list[str], rng: np.random.Generator) -> None:
    """Rows of equal houses, villas in gardens, apartment blocks, or a park behind a border."""
    layout, s = side.layout, 8.0 + float(rng.uniform(0, 2))
    while s < side.length - 12.0:
        kind = str(rng.choice(["row", "villas", "blocks", "open"], p=[0.43, 0.3, 0.15, 0.12]))
        name, tone = styles[int(rng.integers(len(styles)))], int(rng.integers(3))
        style = buildings.style(name)
        if kind == "open":
            width = float(rng.uniform(10, 26))
            end = min(s + width, side.length - CLEAR_M)
            if end - s > 4:
                _border(side, s, end, rng)
            s += width
            continue
        low, high = {"row": (2, 4), "villas": (3, 5), "blocks": (5, 8)}[kind]
        bays = int(rng.integers(low, high))
        width = bays * style.bay_m
        setback = {"row": float(rng.choice([0.3, 2.8])), "villas": float(rng.uniform(3.5, 9)),
                   "blocks": float(rng.choice([0.3, 4.0, 8.0]))}[kind]  # fmt: skip
        gap = {"row": 0.0, "villas": float(rng.uniform(3, 6)), "blocks": 5.0}[kind]
        many = {"row": int(rng.integers(3, 8)), "villas": int(rng.integers(2, 5)), "blocks": 2}
        fence = str(rng.choice(["hedge", "fence", "wall", "none"], p=[0.33, 0.39, 0.2, 0.08]))
        model = buildings.house(name, bays)
        look = buildings.house_look(layout.assets, name, tone)
        for _ in range(many[kind]):
            front = side.street + setback
            if s + width > side.length - 8.0:
                s += 1.5
                break
            if not side.claim(layout.taken, s, s + width, front, front + style.depth_m):
                s += 1.5
                continue
            layout.builder.begin()
            model.add(layout.builder, side.at(s, front, z=0.08), look)
            eaves = style.floors * style.floor_m + 0.3
            layout.fronts.append(Front(side.edge, side.side, s, s + width, front, eaves))
            if setback > 2:
                _border(side, s, s + width + gap, rng, fence)
                _garden(side, s, s + width + gap, setback, rng)
            s += width + gap
        s += float(rng.choice([0.6, 2.5, 4.0]))


def _border(
    side: Side, s0: float, s1: float, rng: np.random.Generator, kind: str | None = None
) -> None:
    """Hedge, fence or wall at the back of the pavement, with a gate left open."""
    layout, assets = side.layout, side.layout.assets
    s1 = min(s1, side.length - CLEAR_M)
    if s1 - s0 < 2 or not side.claim(layout.taken, s0, s1, side.street + 0.3, side.street + 1.4):
        return
    kind = kind or str(rng.choice(["hedge", "fence", "wall"], p=[0.38, 0.4, 0.22]))
    gate = float(rng.uniform(s0 + 0.5, max(s0 + 0.6, s1 - 2.0)))
    name = assets.draw(rng, kind) if kind != "none" else ""
    fence, wall = furniture.fence_paint(assets, rng), furniture.wall_paints(assets, rng)
    height = float(rng.uniform(*((0.9, 1.8) if kind != "wall" else (0.6, 1.7))))
    t = side.street + (0.85 if kind == "hedge" else 0.55)
    for a, b in ((s0, gate), (gate + 1.4, s1)):
        if b - a < 1.0 or kind == "none":
            continue
        # in short pieces that follow the slope of the ground
        pieces = max(1, int((b - a) / 4))
        for piece in range(pieces):
            long = (b - a) / pieces
            T = side.at(a + long * piece, t, z=0.08)
            if kind == "hedge":
                layout.growth.append(Growth("hedge", name, T, 0, (long, height)))
                continue
            layout.builder.begin()
            if kind == "fence":
                furniture.add_fence(layout.builder, T, long, height, name, fence)
            else:
                furniture.add_wall(layout.builder, T, long, height, name, wall)


def _garden(side: Side, s0: float, s1: float, deep: float, rng: np.random.Generator) -> None:
    """Bushes and a tree between border and house."""
    layout = side.layout
    for _ in range(int(rng.poisson(0.12 * (s1 - s0)))):
        s, t = float(rng.uniform(s0 + 0.8, s1 - 0.8)), side.street + float(rng.uniform(2.0, deep))
        if not side.claim(layout.taken, s - 0.6, s + 0.6, t - 0.6, t + 0.6):
            continue
        if rng.random() < 0.7:
            name = layout.assets.draw(rng, "bush")
            layout.growth.append(Growth("bush", name, side.at(s, t, z=0.08), 0, (1.0,)))
        else:
            layout.tree(side.at(s, t, z=0.08), rng)


def fill_pavement(side: Side, rng: np.random.Generator) -> None:
    """Lamps, trees, signals, bollards, benches and bins that stay."""
    layout, b, assets = side.layout, side.layout.builder, side.layout.assets
    taken, kerb, back = layout.taken, side.road + KERB_ZONE_M, side.street - BACK_ZONE_M
    first, last = side.first, side.last
    name, look = assets.draw(rng, "lamp"), furniture.post_look(assets, rng)
    for s in np.arange(first + rng.uniform(0, 10), last, float(rng.uniform(22, 34))):
        if side.claim(taken, s - 0.2, s + 0.2, kerb - 0.2, kerb + 0.2):
            b.begin()
            furniture.lamp(name).add(b, side.at(s, kerb, np.pi, KERB_M), look)
    for s in (CLEAR_M - 0.5, side.length - CLEAR_M + 0.5):
        if rng.random() < 0.8 and side.claim(taken, s - 0.2, s + 0.2, kerb - 0.2, kerb + 0.2):
            kind = "signal" if rng.random() < 0.35 else "sign"
            model = getattr(furniture, kind)(assets.draw(rng, kind))
            b.begin()
            turn = np.pi * (rng.random() < 0.5)
            model.add(b, side.at(s, kerb, turn, KERB_M), furniture.post_look(assets, rng))
    if rng.random() < 0.65:
        gap = float(rng.uniform(7, 12))
        for s in np.arange(first + rng.uniform(0, gap), last, gap):
            if rng.random() < layout.config.trees and side.claim(
                taken, s - 0.35, s + 0.35, kerb - 0.15, kerb + 0.55
            ):
                layout.tree(side.at(s, kerb + 0.2, 0, KERB_M), rng)
    kinds = ("bollard", "basket", "bench", "planter", "cabinet", "bollard")
    row = {k: (assets.draw(rng, "clutter"), clutter.look(assets, rng)) for k in kinds}
    for _ in range(int(rng.poisson(side.length / 10))):
        kind, s = str(rng.choice(kinds)), float(rng.uniform(first, last))
        # benches lean against the back and face the street; the rest stands along the kerb too
        t = back if kind in ("bench", "cabinet", "planter") or rng.random() < 0.4 else kerb
        many = int(rng.integers(2, 6)) if kind == "bollard" else 1
        for k in range(many):
            model = clutter.thing(row[kind][0], kind)
            half_s, half_t = model.half[1], min(model.half[0], 0.36)
            at = s + 1.6 * k
            if at > last or not side.claim(taken, at - half_s, at + half_s, t - half_t, t + half_t):
                break
            b.begin()
            T = side.at(at, t, -np.pi / 2, KERB_M)
            model.add(b, T, row[kind][1])
            if kind == "bench":
                layout.benches.append(T)


def fill_open_land(layout: Layout, rng: np.random.Generator) -> None:
    """Trees and bushes wherever nothing else is."""
    net, taken = layout.network, layout.taken
    low, high = net.nodes.min(axis=0) - 30, net.nodes.max(axis=0) + 30
    xy = rng.uniform(low, high, (int(np.prod(high - low) / 220), 2))
    distance, edge = net.offsets(xy)
    for (x, y), d, e in zip(xy, distance, edge, strict=True):
        if d < net.half_street[e] + 2.5 or not taken.clear(x, y, 0, 1.2, 1.2):
            continue
        T = pose2d(x, y, 0, float(net.height(np.array([x, y]))) + 0.1)
        if rng.random() < 0.6:
            radius = layout.tree(T, rng)
            taken.add(x, y, 0, radius + 0.2, radius + 0.2)
        else:
            name = layout.assets.draw(rng, "bush")
            layout.growth.append(Growth("bush", name, T, 0, (float(rng.uniform(1, 1.5)),)))
            taken.add(x, y, 0, 0.8, 0.8)
