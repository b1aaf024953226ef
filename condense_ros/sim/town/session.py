"""What is there for one session only: parked vehicles, people, leaves, and building sites."""

from __future__ import annotations

import numpy as np

from condense_ros.geometry import Array
from condense_ros.sim.materials import Surface
from condense_ros.sim.mesh import pose2d
from condense_ros.sim.town import classes, clutter, furniture, people, plants, vehicles
from condense_ros.sim.town.footprints import Footprints
from condense_ros.sim.town.ground import CLEAR_M, KERB_M
from condense_ros.sim.town.street import BACK_ZONE_M, KERB_ZONE_M, Layout, Side
from condense_ros.sim.town.weather import Day


class SessionPart:
    """Adds one session's things to a town whose lasting part is made.

    Attributes:
        taken: lasting and passing footprints.
        closed: (edge, side) of pavements that a building site closes.
    """

    def __init__(self, layout: Layout, sides: list[Side], day: Day, session: int) -> None:
        self.layout, self.day, self.session = layout, day, session
        self.assets, self.builder = layout.assets, layout.builder
        self.taken = Footprints(layout.taken.array())
        self.closed: set[tuple[int, int]] = set()
        self.sides = sides

    def fill(self, rng: np.random.Generator) -> None:
        """Adds everything, each street side from its own stream."""
        self._sites(rng)
        seeds = rng.integers(2**62, size=len(self.sides))
        for side, seed in zip(self.sides, seeds, strict=True):
            stream = np.random.default_rng(int(seed))
            self._parking(side, stream)
            self._pavement(side, stream)
        self._leaves(rng)

    def _thing(
        self,
        kind: str,
        T: Array,
        rng: np.random.Generator,
        look: dict[str, Surface] | None = None,
        name: str = "",
    ) -> None:
        self.builder.begin()
        model = clutter.thing(name or self.assets.draw(rng, "clutter"), kind)
        model.add(self.builder, T, look or clutter.look(self.assets, rng))

    def _sites(self, rng: np.random.Generator) -> None:
        """One site per 1.5 km; from the second session on the first closes a pavement."""
        wanted = max(1, round(self.layout.network.length_m() / 1500)) + (self.session > 0)
        order = rng.permutation(len(self.layout.fronts))
        done = 0
        for number in order:
            if done == wanted:
                return
            front = self.layout.fronts[int(number)]
            side = next(s for s in self.sides if (s.edge, s.side) == (front.edge, front.side))
            s0, s1 = max(front.s0 - 3, side.first + 2), min(front.s1 + 6, side.last - 2)
            if s1 - s0 < 9 or (side.edge, side.side) in self.closed:
                continue
            self._site(side, s0, s1, front.t, front.eaves_m, front.s0, front.s1, rng)
            done += 1

    def _site(
        self,
        side: Side,
        s0: float,
        s1: float,
        t: float,
        eaves: float,
        f0: float,
        f1: float,
        rng: np.random.Generator,
    ) -> None:
        look, cone = clutter.look(self.assets, rng), self.assets.draw(rng, "clutter")
        barrier, inner = self.assets.draw(rng, "clutter"), side.road - 2.25
        if t - side.street < 3:
            self.builder.begin()
            for slot, shape in clutter.scaffold(f1 - f0, eaves - 0.2):
                self.builder.add(shape, look[slot], side.at(f0, t, z=0.0))
        if self.session > 0:
            self.closed.add((side.edge, side.side))
            # barriers along the traffic, cones before them, and across the pavement at both ends
            for s in np.arange(s0, s1, 2.3):
                self._thing("barrier", side.at(s + 1.1, inner + 0.2, np.pi / 2), rng, look, barrier)
            for s in (s0 - 0.3, s1 + 0.3):
                T = side.at(s, side.road + 1.5, 0.0, KERB_M)
                self._thing("barrier", T, rng, look, barrier)
            for k in range(5):
                at = side.at(s0 - 1.0 - 1.1 * k, inner + 0.25 + 0.4 * k)
                self._thing("cone", at, rng, look, cone)
            self._block(side, s0 - 6, s1 + 0.5, inner, side.road + 0.02)
            middle = side.xy((s0 + s1) / 2, (side.road + side.street) / 2)
            half_t = (side.street - side.road) / 2
            x, y = middle.tolist()
            self.taken.add(x, y, side.yaw, (s1 - s0) / 2 + 0.5, half_t)
        kinds = ["skip", "container", "heap", "pallet", "toilet", "heap", "pallet"]
        if self.session > 0:
            kinds.insert(0, "digger")
        s = s0 + 0.5
        spots = Footprints(self.layout.taken.array())
        for kind in rng.permutation(kinds) if self.session == 0 else kinds:
            name = self.assets.draw(rng, "clutter")
            model = clutter.thing(name, str(kind))
            half_s, half_t = model.half
            if half_t > 0.95:
                half_s, half_t = half_s, 0.95
            where = side.road - 1.15
            if s + 2 * half_s > s1 or (self.session == 0 and s > s0 + 8):
                break
            if side.claim(spots, s, s + 2 * half_s, where - half_t, where + half_t):
                T = side.at(s + half_s, where)
                self._thing(str(kind), T, rng, None, name)
                if self.session == 0:
                    self._block(side, s, s + 2 * half_s, inner, side.road)
                s += 2 * half_s + 0.4
            else:
                s += 1.0

    def _block(self, side: Side, s0: float, s1: float, t0: float, t1: float) -> None:
        middle = side.xy((s0 + s1) / 2, (t0 + t1) / 2)
        x, y = middle.tolist()
        self.taken.add(x, y, side.yaw, (s1 - s0) / 2, (t1 - t0) / 2)

    def _parking(self, side: Side, rng: np.random.Generator) -> None:
        """Cars and vans along the kerb, bicycles in racks between them, a skip at times."""
        full = float(np.clip(rng.normal(self.layout.config.parked, 0.22), 0, 1))
        s, lane = CLEAR_M + 4.0, side.road - 1.15
        while s < side.length - CLEAR_M - 6:
            kind = str(rng.choice(["car", "van", "rack", "skip"], p=[0.78, 0.13, 0.075, 0.015]))
            if rng.random() > full:
                s += 5.5
                continue
            if kind == "rack":
                s += self._rack(side, s, lane, rng)
                continue
            if kind == "skip":
                model = clutter.thing(self.assets.draw(rng, "clutter"), "skip")
                look = clutter.look(self.assets, rng)
            else:
                name = self.assets.draw(rng, kind)
                model = vehicles.car(name) if kind == "car" else vehicles.van(name)
                semantic = classes.VAN if kind == "van" else classes.CAR
                look = vehicles.car_look(self.assets, rng, semantic)
            half_s, half_t = model.half[0], min(model.half[1], 1.05)
            t = lane + float(rng.uniform(-0.08, 0.08))
            if self._claim(side, s, s + 2 * half_s, t - half_t, t + half_t):
                turn = np.pi * (rng.random() < 0.85) + rng.normal(0, 0.02)
                self.builder.begin()
                model.add(self.builder, side.tilted(s + half_s, t, turn), look)
                s += 2 * half_s + float(rng.uniform(0.6, 1.6))
            else:
                s += 2.0

    def _claim(self, side: Side, s0: float, s1: float, t0: float, t1: float) -> bool:
        return side.claim(self.taken, s0, s1, t0, t1)

    def _rack(self, side: Side, s: float, lane: float, rng: np.random.Generator) -> float:
        many = int(rng.integers(3, 8))
        if not self._claim(side, s, s + 0.62 * many, lane - 0.95, lane + 0.95):
            return 2.0
        for k in range(many):
            if rng.random() < 0.2:
                continue
            self.builder.begin()
            turn = np.pi / 2 * (1 if rng.random() < 0.7 else -1) + rng.normal(0, 0.1)
            T = side.tilted(s + 0.31 + 0.62 * k, lane + rng.uniform(-0.08, 0.08), turn)
            name = self.assets.draw(rng, "bicycle")
            look = vehicles.bicycle_look(self.assets, rng)
            vehicles.bicycle(name).add(self.builder, T @ _roll(rng.normal(0, 0.06)), look)
        return 0.62 * many + 1.0

    def _pavement(self, side: Side, rng: np.random.Generator) -> None:
        """People, bicycles, bins and signs on the pavement, off the strip that people walk on."""
        kerb, back = side.road + KERB_ZONE_M, side.street - BACK_ZONE_M
        config, first, last = self.layout.config, side.first, side.last
        per = side.length
        bins = ("bin", "bin", "box", "basket")
        for what, mean in (
            ("sign", per / 34),
            ("clutter", per / 22),
            ("bicycle", per / 26),
            ("person", per / 200 * config.people_per_100m),
        ):
            for _ in range(int(rng.poisson(mean))):
                s, t = float(rng.uniform(first, last)), kerb if rng.random() < 0.5 else back
                turn = float(rng.choice([0, np.pi])) + float(rng.normal(0, 0.2))
                if what == "sign":
                    if not self._claim(side, s - 0.3, s + 0.3, kerb - 0.3, kerb + 0.3):
                        continue
                    self.builder.begin()
                    model = furniture.sign(self.assets.draw(rng, "sign"))
                    T = side.at(s, kerb, turn, KERB_M)
                    model.add(self.builder, T, furniture.post_look(self.assets, rng))
                elif what == "clutter":
                    if self._claim(side, s - 0.45, s + 0.45, t - 0.35, t + 0.35):
                        T = side.at(s, t, -np.pi / 2 + float(rng.normal(0, 0.15)), KERB_M)
                        self._thing(bins[int(rng.integers(4))], T, rng)
                elif what == "bicycle":
                    if self._claim(side, s - 0.9, s + 0.9, t - 0.3, t + 0.3):
                        self.builder.begin()
                        name = self.assets.draw(rng, "bicycle")
                        T = side.at(s, t, turn * 0.3 if turn < 2 else turn, KERB_M)
                        look = vehicles.bicycle_look(self.assets, rng)
                        T = T @ _roll(float(rng.normal(0, 0.08)))
                        vehicles.bicycle(name).add(self.builder, T, look)
                else:
                    self._people(side, s, t, rng)
        for T in self.layout.benches:
            if np.hypot(*(T[:2, 3] - side.xy(side.length / 2, side.street))) > side.length / 2:
                continue
            if rng.random() < 0.12:
                self._person(T @ pose2d(-0.05, float(rng.uniform(-0.4, 0.4)), 0), "sit", rng)

    def _people(self, side: Side, s: float, t: float, rng: np.random.Generator) -> None:
        """One to three people who stand together."""
        for k in range(int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1]))):
            at = s + 0.75 * k
            if self._claim(side, at - 0.35, at + 0.35, t - 0.35, t + 0.35):
                turn = float(rng.uniform(0, 2 * np.pi)) if not k else np.pi + rng.normal(0, 0.4)
                self._person(side.at(at, t, turn, KERB_M), "stand", rng)

    def _person(self, T: Array, pose: str, rng: np.random.Generator) -> None:
        self.builder.begin()
        model = people.person(self.assets.draw(rng, "person"), pose)
        model.add(self.builder, T, people.person_look(self.assets, rng))

    def _leaves(self, rng: np.random.Generator) -> None:
        day, assets = self.day, self.assets
        looks = {
            kind: [plants.foliage(assets, rng, semantic, day.season) for _ in range(12)]
            for kind, semantic in (
                ("tree", classes.FOLIAGE),
                ("bush", classes.HEDGE),
                ("hedge", classes.HEDGE),
            )
        }
        for g in self.layout.growth:
            look = looks[g.kind][int(rng.integers(12))]
            if g.kind == "hedge":
                self.builder.begin()
                length, height = g.size
                plants.add_hedge(self.builder, g.T, length, height, day.grown, g.name, look, rng)
                continue
            share = float(np.clip(day.leaves + rng.normal(0, 0.06) * (self.session > 0), 0.1, 1))
            if g.kind == "tree":
                leaves = plants.tree(g.name).leaves
                with self.builder.of(g.instance):
                    self.builder.add(leaves[: int(share * len(leaves))], look, g.T)
                continue
            leaves, scale = plants.bush(g.name), g.size[0] * (0.6 + 0.4 * day.grown)
            self.builder.begin()
            T = plants.standing(g.T, scale)
            self.builder.add(leaves[: max(1, int(share * len(leaves)))], look, T)


def _roll(angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1.0]])
