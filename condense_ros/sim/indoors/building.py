"""`BuildingWorld`: an office and home on one storey, whose corridors and rooms repeat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from condense_ros.config import parameter
from condense_ros.errors import SimulationError
from condense_ros.geometry import Array
from condense_ros.ontology import Ontology
from condense_ros.sim.designs import Catalogue
from condense_ros.sim.indoors import shell
from condense_ros.sim.indoors.classes_building import ontology
from condense_ros.sim.indoors.corridors import CorridorPlacer, add_walls, stretches
from condense_ros.sim.indoors.floorplan import (
    DEPTH_M,
    DOOR_M,
    HALF_CORRIDOR_M,
    LINING_M,
    ROOMS,
    FloorPlan,
    Room,
    make_plan,
)
from condense_ros.sim.indoors.indoor import MAKERS
from condense_ros.sim.indoors.interior import RoomPlacer, furnish, people_and_things
from condense_ros.sim.indoors.outlook import add_outlook, outside
from condense_ros.sim.indoors.shell import FINISHES, Finish, Opening
from condense_ros.sim.materials import Surface
from condense_ros.sim.mesh import Mesh, MeshBuilder, pose2d
from condense_ros.sim.network import Network
from condense_ros.sim.scenery import Light, Mover
from condense_ros.sim.walkers import corridor_walkers

Point = tuple[float, float, float]
#: the wall opposite the door, for `RoomPlacer`
_FAR = 1


@dataclass(frozen=True)
class BuildingConfig:
    """A building's size."""

    corridors: int = parameter(3, "long corridors, side by side", low=1, high=12)
    segments: int = parameter(2, "stretches of each, between cross corridors", low=1, high=12)
    walkers: int = parameter(2, "people who walk in the corridors", low=0, high=40)


#: how many models of a kind one building has
_MODELS = {
    "picture": 9, "shelf": 3, "monitor": 2, "plant": 6, "box": 6, "clutter": 6,
    "floor_lamp": 2, "person_standing": 6, "person_sitting": 6, "person_walking": 6,
    "chair": 2, "office_chair": 2,
}  # fmt: skip


class BuildingWorld:
    """An office/home building made from (seed, session, split). See `Scenery` for the attributes.

    The shell and the heavy furniture depend on seed and split alone and come first in the mesh
    (`permanent` triangles); chairs, boxes, plants, door leaves, people and the light are of the
    session. Every door that the robot's ways lead through stands open in all sessions.

    Attributes:
        plan: corridors and rooms.
        permanent: number of triangles that all sessions share.

    Raises:
        SimulationError: a negative seed or session, or an unknown split.
    """

    kind = "building"
    ontology: Ontology = ontology

    def __init__(
        self,
        seed: int,
        config: BuildingConfig | None = None,
        *,
        session: int = 0,
        split: str = "train",
    ) -> None:
        if seed < 0 or session < 0:
            raise SimulationError(
                f"building of seed {seed}, session {session} is negative", "use 0 or more"
            )
        self.seed, self.session, self.split = seed, session, split
        self.config = config or BuildingConfig()
        self._catalogue = Catalogue(split, MAKERS)
        rng = np.random.default_rng([seed, 8101])
        self.plan: FloorPlan = make_plan(rng, self.config.corridors, self.config.segments)
        self.network: Network = self.plan.network
        self._models = {
            kind: self._catalogue.draw(rng, kind, _MODELS.get(kind, 1)) for kind in MAKERS
        }
        self._builder, self._obstacles = MeshBuilder(), list[tuple[float, ...]]()
        self._choose_finishes(rng)
        self._stretches = stretches(self.plan)
        lamps = self._build_permanent()
        self.permanent = self._builder.triangle_count()
        self._build_session()
        self.light = _light(np.random.default_rng([seed, session, 8107]), lamps)
        self.mesh: Mesh = self._builder.mesh()
        self.movers: tuple[Mover, ...] = corridor_walkers(
            np.random.default_rng([seed, session, 8111]),
            self.plan,
            [self._catalogue.design(name) for name in self._models["person_walking"]],
            self.config.walkers,
            self._builder.begin(),
        )
        self.obstacles: Array = np.array(self._obstacles)
        self.assets = self._catalogue.used
        del self._builder, self._obstacles, self._rooms, self._corridors

    def height(self, xy: Array) -> Array:
        """Ground height (...,) at positions (..., 2): the floor is level, 0."""
        return np.zeros(np.asarray(xy).shape[:-1])

    def _choose_finishes(self, rng: np.random.Generator) -> None:
        """Paints per wing and kind of room: rooms of one kind in one wing look alike."""

        def one(kind: str) -> Surface:
            return self._catalogue.surface(self._catalogue.draw(rng, kind)[0], FINISHES[kind])

        self._skirting, self._metal = one("skirting"), one("door_frame")
        self._window = (one("window_frame"), one("window_glass"))
        keys = ["office", "home", "cross"]
        keys += [f"{wing}/{kind}" for wing in ("office", "home") for kind in (*ROOMS, "stairs")]
        self._finish: dict[str, Finish] = {}
        for key in keys:
            wall = "wall_tiles" if key.endswith("bathroom") else "wallpaper"
            self._finish[key] = Finish(one("flooring"), one(wall), one("ceiling"), self._skirting)
        self._finish["crossing"] = self._finish["cross"]
        self._outside = [
            self._catalogue.surface(name, outside)
            for name in self._catalogue.draw(rng, "outside", 3)
        ]
        self._leaf = {wing: (one("door_leaf"), one("door_frame")) for wing in ("office", "home")}

    def _build_permanent(self) -> list[list[Point]]:
        """Shell and heavy furniture. Returns the lamps, those of one switch together."""
        b, obstacles, h = self._builder, self._obstacles, HALF_CORRIDOR_M
        rooms = self.plan.rooms
        for s in self._stretches:
            shell.add_floor(
                b, s.T @ pose2d(0, -h, 0), (s.length, 2 * h), self._finish[s.kind].floor
            )
        for room in rooms:
            shell.add_floor(b, room.T, (room.width, DEPTH_M), self._room_finish(room).floor)
        lamps: list[list[Point]] = []
        args = (self._catalogue, self._models, b, obstacles)
        self._corridors = [CorridorPlacer(s, *args) for s in self._stretches]
        for s, placer in zip(self._stretches, self._corridors, strict=True):
            add_walls(b, s, self._finish[s.kind], self._window, obstacles)
            kinds = ("office", "home", "cross", "crossing")
            placer.furnish(np.random.default_rng([self.seed, kinds.index(s.kind), 8102]))
            lamps.append(placer.lamps())
        add_outlook(b, self.plan, self._outside, np.random.default_rng([self.seed, 8106]))
        self._rooms = [RoomPlacer(room, *args) for room in rooms]
        for room, inside in zip(rooms, self._rooms, strict=True):
            # copies of one room are furnished by the same draws
            rng = np.random.default_rng([self.seed, room.wing == "home", room.slot, 8103])
            self._add_room(room, inside, rng)
            furnish(inside, rng)
            kind = "ceiling_panel" if room.wing == "office" else "pendant"
            xs = (room.width / 2,) if room.width < 4.5 else (room.width * 0.27, room.width * 0.73)
            lamps.append([inside.ceiling_lamp(kind, x, DEPTH_M / 2, 0) for x in xs])
        return lamps

    def _room_finish(self, room: Room) -> Finish:
        return self._finish[f"{room.wing}/{room.kind}"]

    def _add_room(self, room: Room, inside: RoomPlacer, rng: np.random.Generator) -> None:
        """Ceiling, walls, door frame, window with radiator and curtains."""
        b, finish, w, t = self._builder, self._room_finish(room), room.width, LINING_M
        shell.add_ceiling(b, room.T, (w, DEPTH_M), finish.ceiling)
        near = room.T @ pose2d(0, t, 0)
        door = Opening(room.door - DOOR_M / 2, room.door + DOOR_M / 2)
        shell.add_lining(b, near, w, [door], finish, self._obstacles)
        shell.add_door_frame(b, near, room.door, self._leaf[room.wing][1])
        holes = []
        curtains = bool(rng.random() < (0.8 if room.wing == "home" else 0.3))
        if room.kind not in ("storage", "bathroom", "stairs"):
            wide = min(1.7, w - 2.2)
            middle = w / 2 - 0.3 if not room.mirrored else w / 2 + 0.3
            holes.append(Opening.window(middle - wide / 2, middle + wide / 2))
            inside.hang(_FAR, "radiator", w / 2 + 0.3)
            for side in (-1, 1) if curtains else ():
                inside.hang(_FAR, "curtain", w / 2 + 0.3 + side * (wide / 2 + 0.12))
        far = room.T @ pose2d(w, DEPTH_M - t, np.pi)
        shell.add_lining(b, far, w, holes, finish, self._obstacles)
        for hole in holes:
            shell.add_window(b, far, hole, *self._window)
        for T in (pose2d(t, DEPTH_M, -np.pi / 2), pose2d(w - t, 0, np.pi / 2)):
            shell.add_lining(b, room.T @ T, DEPTH_M, [], finish, self._obstacles)

    def _build_session(self) -> None:
        """Door leaves, chairs, boxes, plants, people: where they are this time."""
        for room, inside in zip(self.plan.rooms, self._rooms, strict=True):
            rng = np.random.default_rng([self.seed, self.session, room.number, 8104])
            self._add_leaf(room, rng)
            people_and_things(inside, rng)
        for number, placer in enumerate(self._corridors):
            placer.scatter(np.random.default_rng([self.seed, self.session, number, 8105]))

    def _add_leaf(self, room: Room, rng: np.random.Generator) -> None:
        state, share = rng.random(2)
        if room.kind == "stairs":
            return
        # hinged on the side of the nearer wall; ways stay open, round a table to the wall
        hinge = -1 if room.door < room.width / 2 else 1
        if room.ring:
            angle = 2.95 - 0.15 * share
        elif len(room.way):
            angle = 1.6 + 0.25 * share
        elif state < 0.5:
            angle = 0.0
        else:
            angle = 0.35 + 1.25 * share
        leaf = self._leaf[room.wing][0]
        T = room.T @ pose2d(0, LINING_M, 0)
        shell.add_door_leaf(
            self._builder, T, room.door, hinge, angle, leaf, self._metal, self._obstacles
        )


def _light(rng: np.random.Generator, switches: list[list[Point]]) -> Light:
    """Day or evening; some rooms are dark."""
    evening = bool(rng.random() < 0.35)
    lit = rng.random(len(switches)) < (0.75 if evening else 0.6)
    warm = float(rng.uniform(0.75, 1.0))
    power = float(rng.uniform(1.6, 2.4))
    up, around = np.radians(rng.uniform(18, 50)), rng.uniform(0, 2 * np.pi)
    sun = (
        float(np.cos(up) * np.cos(around)),
        float(np.cos(up) * np.sin(around)),
        float(np.sin(up)),
    )
    grey = 0.05 if evening else float(rng.uniform(0.14, 0.24))
    sky = 0.05 if evening else 1.0
    return Light(
        sun=sun,
        sun_rgb=(0.0, 0.0, 0.0) if evening else (1.2, 1.12, 0.96),
        ambient_rgb=(grey, grey * 1.02, grey * (0.9 if evening else 1.1)),
        horizon_rgb=(0.78 * sky, 0.82 * sky, 0.86 * sky),
        zenith_rgb=(0.3 * sky, 0.46 * sky, 0.78 * sky),
        lamps=tuple(lamp for group, on in zip(switches, lit, strict=True) if on for lamp in group),
        lamp_rgb=(power, power * (0.9 + 0.1 * warm), power * warm),
    )
