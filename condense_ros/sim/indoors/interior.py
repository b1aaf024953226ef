"""How rooms are furnished: what stands where, kept clear of doors and of the robot's ways."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from condense_ros.geometry import Array
from condense_ros.sim.designs import Catalogue
from condense_ros.sim.indoors.floorplan import CEILING_M, DEPTH_M, LINING_M, ROOM_TO_SIDE_M, Room
from condense_ros.sim.mesh import MeshBuilder, pose2d

#: what stands at least this high above the floor is no obstacle to a robot
OVERHEAD_M = 1.3
#: chairs are pushed under these
_OPEN = ("desk", "meeting_table", "dining_table")
_NEAR, _FAR, _LEFT, _RIGHT = range(4)


@dataclass(frozen=True)
class Place:
    """Where something may stand, room frame: metres, radians."""

    kind: str
    x: float
    y: float
    yaw: float


class Floor:
    """Oriented rectangles that are taken, in one frame, and ways that must stay free."""

    def __init__(self, ways: list[Array], clearance_m: float = ROOM_TO_SIDE_M) -> None:
        self.rows: list[tuple[float, float, float, float, float]] = []
        #: for each rectangle: whether chairs may be pushed under it
        self.open: list[bool] = []
        self.clearance_m = clearance_m
        pieces = [np.empty((0, 2))]
        for way in ways:
            for a, b in pairwise(way):
                n = max(2, int(np.ceil(np.linalg.norm(b - a) / 0.1)))
                pieces.append(a + (b - a) * np.linspace(0, 1, n)[:, None])
        self.way = np.concatenate(pieces)

    def clear(
        self, x: float, y: float, yaw: float, half: tuple[float, float], *, under: bool = False
    ) -> bool:
        """Whether a rectangle overlaps no other (but, with `under`, tables) and no way."""
        if len(self.way):
            gap = rectangle_distance(self.way, np.array([[x, y, yaw, *half]])).min()
            if gap < self.clearance_m:
                return False
        a = np.array([x, y, yaw, *half])
        return not any(
            _overlap(a, np.array(row))
            for row, opened in zip(self.rows, self.open, strict=True)
            if not (under and opened)
        )

    def take(
        self, x: float, y: float, yaw: float, half: tuple[float, float], *, under: bool = False
    ) -> None:
        self.rows.append((x, y, yaw, *half))
        self.open.append(under)


def rectangle_distance(xy: Array, rectangles: Array) -> Array:
    """(N, R) distances of points (N, 2) to rectangles (R, 5) x, y, yaw, half length, half width."""
    delta = xy[:, None] - rectangles[None, :, :2]
    c, s = np.cos(rectangles[:, 2]), np.sin(rectangles[:, 2])
    dx = np.abs(delta[..., 0] * c + delta[..., 1] * s) - rectangles[:, 3]
    dy = np.abs(-delta[..., 0] * s + delta[..., 1] * c) - rectangles[:, 4]
    return np.asarray(np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)))


def _overlap(a: Array, b: Array) -> bool:
    """Separating axes of two rectangles; they may touch."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    if np.hypot(dx, dy) > np.hypot(a[3], a[4]) + np.hypot(b[3], b[4]):
        return False
    for yaw in (a[2], a[2] + np.pi / 2, b[2], b[2] + np.pi / 2):
        reach = 0.0
        for r in (a, b):
            reach += r[3] * abs(np.cos(r[2] - yaw)) + r[4] * abs(np.sin(r[2] - yaw))
        if abs(dx * np.cos(yaw) + dy * np.sin(yaw)) > reach - 0.005:
            return False
    return True


class RoomPlacer:
    """Puts assets into one room.

    Args:
        models: per kind the names of the assets that this building has of it.
        obstacles: rows x, y, yaw, half length, half width (world) are appended here.
    """

    def __init__(
        self,
        room: Room,
        catalogue: Catalogue,
        models: dict[str, list[str]],
        builder: MeshBuilder,
        obstacles: list[tuple[float, ...]],
    ) -> None:
        self.room, self.catalogue, self.models = room, catalogue, models
        self.builder, self.obstacles = builder, obstacles
        ways = [room.way] if len(room.way) else []
        if room.ring:
            ways.append(np.concatenate([room.way[2:], room.way[2:3]]))
        self.floor = Floor(ways)
        # the door's leaf swings here, and one has to get in
        self.floor.take(room.door, 0.55, 0.0, (0.62, 0.55))
        #: places of chairs, people and what else moves from session to session
        self.seats: list[Place] = []

    def put(
        self,
        kind: str,
        x: float,
        y: float,
        yaw: float,
        *,
        z: float = 0.0,
        pick: int = 0,
        under: bool = False,
    ) -> bool:
        """Puts an asset's middle at (x, y), in the frame of an unmirrored room, if it fits.

        Args:
            pick: which of the building's models of that kind, modulo their number.
            under: it may reach under or stand on what is there (chairs, screens).
        """
        names = self.models[kind]
        design = self.catalogue.design(names[pick % len(names)])
        if self.room.mirrored:
            x, yaw = self.room.width - x, np.pi - yaw
        turned = _bounds(design.half, yaw)
        margin = LINING_M + 0.005
        inside = turned[0] + margin <= x <= self.room.width - turned[0] - margin
        inside &= turned[1] + margin <= y <= DEPTH_M - turned[1] - margin
        solid = design.low_m + z < OVERHEAD_M and z == 0.0
        if not inside:
            return False
        if solid and not self.floor.clear(x, y, yaw, design.half, under=under):
            return False
        self.builder.begin()
        design.add(self.builder, self.room.T @ pose2d(x, y, yaw, z))
        if solid:
            self._take(x, y, yaw, design.half, kind in _OPEN)
        return True

    def against(
        self, wall: int, kind: str, along: float, *, pick: int = 0, z: float = 0.0
    ) -> tuple[float, float, float] | None:
        """Puts an asset with its back to a wall (near, far, left, right = 0 .. 3).

        Returns:
            where it stands (x, y, yaw), unmirrored; None where it did not fit.
        """
        names = self.models[kind]
        deep = self.catalogue.design(names[pick % len(names)]).half[0] + LINING_M + 0.015
        x, y, yaw = {
            _NEAR: (along, deep, np.pi / 2),
            _FAR: (along, DEPTH_M - deep, -np.pi / 2),
            _LEFT: (deep, along, 0.0),
            _RIGHT: (self.room.width - deep, along, np.pi),
        }[wall]
        return (x, y, yaw) if self.put(kind, x, y, yaw, pick=pick, z=z) else None

    def hang(self, wall: int, kind: str, along: float, pick: int = 0) -> None:
        """Hangs something flat at a wall; its own z says how high."""
        names = self.models[kind]
        design = self.catalogue.design(names[pick % len(names)])
        deep = design.half[0] + LINING_M + 0.003
        x, y, yaw = {
            _NEAR: (along, deep, np.pi / 2),
            _FAR: (along, DEPTH_M - deep, -np.pi / 2),
            _LEFT: (deep, along, 0.0),
            _RIGHT: (self.room.width - deep, along, np.pi),
        }[wall]
        if self.room.mirrored:
            x, yaw = self.room.width - x, np.pi - yaw
        self.builder.begin()
        design.add(self.builder, self.room.T @ pose2d(x, y, yaw))
        if design.low_m < 0.5:
            self._take(x, y, yaw, design.half, False)

    def _take(self, x: float, y: float, yaw: float, half: tuple[float, float], under: bool) -> None:
        self.floor.take(x, y, yaw, half, under=under)
        (wx, wy), T = self.room.world(np.array([[x, y]]))[0], self.room.T
        self.obstacles.append((wx, wy, yaw + float(np.arctan2(T[1, 0], T[0, 0])), *half))

    def ceiling_lamp(self, kind: str, x: float, y: float, pick: int) -> tuple[float, float, float]:
        """Hangs a lamp; returns where its light comes from, world frame."""
        names = self.models[kind]
        design = self.catalogue.design(names[pick % len(names)])
        if self.room.mirrored:
            x = self.room.width - x
        self.builder.begin()
        design.add(self.builder, self.room.T @ pose2d(x, y, 0.0, CEILING_M))
        wx, wy = self.room.world(np.array([[x, y]]))[0]
        return (float(wx), float(wy), float(CEILING_M + design.low_m - 0.06))


def _bounds(half: tuple[float, float], yaw: float) -> tuple[float, float]:
    c, s = abs(np.cos(yaw)), abs(np.sin(yaw))
    return float(half[0] * c + half[1] * s), float(half[0] * s + half[1] * c)


def furnish(p: RoomPlacer, rng: np.random.Generator) -> None:
    """The furniture that stays; seats and free places are noted for `people_and_things`."""
    w, kind = p.room.width, p.room.kind
    {
        "office": _office,
        "meeting": _meeting,
        "storage": _storage,
        "bathroom": _bathroom,
        "kitchen": _kitchen,
        "living": _living,
        "bedroom": _bedroom,
        "stairs": _stairs,
    }[kind](p, w, rng)


def _office(p: RoomPlacer, w: float, rng: np.random.Generator) -> None:
    for y in (1.5, 3.3) if rng.random() < 0.7 else (2.6,):
        _workplace(p, y, rng)
    p.against(_NEAR, "cabinet", w - 0.75)
    p.against(_FAR, "shelf", 0.62, pick=int(rng.integers(3)))
    p.hang(_LEFT, "picture", rng.uniform(1.6, 3.0), int(rng.integers(9)))
    _spare(p, [(w - 0.35, DEPTH_M - 0.35), (w - 0.5, 0.4), (1.7, 0.4), (1.9, 4.2)])


def _workplace(p: RoomPlacer, y: float, rng: np.random.Generator) -> None:
    """A desk at the right wall with what stands on it, and its seat."""
    at = p.against(_RIGHT, "desk", y)
    if at is None:
        return
    half = p.catalogue.design(p.models["desk"][0])
    top = half.top_m
    p.put("monitor", at[0] + 0.18, y, np.pi, z=top, pick=int(rng.integers(2)))
    p.put("keyboard", at[0] - 0.12, y, np.pi, z=top)
    if rng.random() < 0.5:
        p.put("desk_lamp", at[0] + 0.1, y - half.half[1] + 0.15, np.pi, z=top)
    p.seats.append(Place("office_chair", at[0] - half.half[0] - 0.12, y, 0.0))


def _meeting(p: RoomPlacer, w: float, rng: np.random.Generator) -> None:
    ring = p.room.way[2:] if p.room.ring else np.array([[0.75, 0.95], [w - 0.75, 3.95]])
    x, y = ring.mean(axis=0)
    x = w - x if p.room.mirrored else x
    p.put("meeting_table", x, y, 0.0)
    half = p.catalogue.design(p.models["meeting_table"][0]).half
    for dx in np.linspace(-1, 1, 3) * (half[0] - 0.4):
        p.seats.append(Place("chair", x + dx, y - half[1] - 0.12, np.pi / 2))
        p.seats.append(Place("chair", x + dx, y + half[1] + 0.12, -np.pi / 2))
    p.hang(_LEFT if rng.random() < 0.5 else _RIGHT, "whiteboard", 2.4)
    p.hang(_NEAR, "picture", w - 1.2, int(rng.integers(9)))
    p.against(_RIGHT, "shelf", 3.9 if rng.random() < 0.5 else 0.9)
    _spare(p, [(0.3, DEPTH_M - 0.3), (w - 0.3, DEPTH_M - 0.3), (w - 0.3, 0.3)])


def _storage(p: RoomPlacer, w: float, rng: np.random.Generator) -> None:
    for y in (1.0, 2.2, 3.4):
        p.against(_RIGHT, "shelf", y, pick=int(rng.integers(3)))
    p.against(_FAR, "cabinet", w - 1.2)
    for y in (1.9, 2.8, 3.6, 4.3):
        p.seats.append(Place("box", 0.4, y, float(rng.normal(0, 0.2))))
    _spare(p, [(1.3, 2.0), (1.3, 3.2), (1.4, 4.3)])


def _bathroom(p: RoomPlacer, w: float, rng: np.random.Generator) -> None:
    p.against(_RIGHT, "basin", 1.6)
    p.against(_RIGHT, "toilet", 2.7)
    if rng.random() < 0.7:
        p.put("bathtub", w - 0.9, DEPTH_M - 0.47, -np.pi / 2)
    p.against(_LEFT, "cabinet", 2.4)
    _spare(p, [(0.3, 3.6), (w - 0.3, 3.6)])


def _kitchen(p: RoomPlacer, w: float, rng: np.random.Generator) -> None:
    p.against(_RIGHT, "kitchenette", 3.0)
    p.against(_RIGHT, "fridge", 1.2)
    p.against(_NEAR, "cabinet", w - 1.3)
    p.put("dining_table", 2.35, 2.9, np.pi / 2)
    half = p.catalogue.design(p.models["dining_table"][0]).half
    p.seats.append(Place("chair", 2.35, 2.9 - half[0] - 0.1, np.pi / 2))
    p.seats.append(Place("chair", 2.35, 2.9 + half[0] + 0.1, -np.pi / 2))
    p.hang(_LEFT, "picture", rng.uniform(1.5, 3.5), int(rng.integers(9)))
    _spare(p, [(0.3, DEPTH_M - 0.3), (w - 0.9, DEPTH_M - 0.3), (1.8, 4.4)])


def _living(p: RoomPlacer, w: float, rng: np.random.Generator) -> None:
    ring = p.room.way[2:] if p.room.ring else np.array([[1.6, 1.15], [w - 1.6, 3.7]])
    x, y = ring.mean(axis=0)
    x = w - x if p.room.mirrored else x
    p.seats.append(Place("coffee_table", x, y, np.pi / 2))
    deep = p.catalogue.design(p.models["sofa"][0]).half[0]
    p.seats.append(Place("sofa", LINING_M + 0.14 + deep, y, 0.0))
    p.against(_RIGHT, "television", y)
    p.against(_FAR, "shelf", 0.8, pick=int(rng.integers(3)))
    p.against(_FAR, "cabinet", w - 0.8)
    p.hang(_LEFT, "picture", y, int(rng.integers(9)))
    p.hang(_NEAR, "picture", w - 1.2, int(rng.integers(9)))
    p.seats.append(Place("floor_lamp", 0.35, y + 1.5, 0.0))
    _spare(p, [(w - 0.35, 0.4), (0.4, 0.4), (w - 0.4, 4.0), (w - 1.0, 0.35)])


def _bedroom(p: RoomPlacer, w: float, rng: np.random.Generator) -> None:
    at = p.against(_RIGHT, "bed", 2.7)
    half = p.catalogue.design(p.models["bed"][0]).half[1]
    if at is not None:
        p.against(_RIGHT, "bedside", 2.7 - half - 0.3)
        p.against(_RIGHT, "bedside", 2.7 + half + 0.3)
    p.against(_NEAR, "wardrobe", w - 1.2)
    p.against(_FAR, "shelf" if rng.random() < 0.4 else "cabinet", 0.75)
    p.hang(_RIGHT, "picture", 2.7, int(rng.integers(9)))
    _spare(p, [(0.35, 4.3), (1.8, 4.3), (w - 0.4, 4.3), (2.2, 1.2)])


def _stairs(p: RoomPlacer, w: float, rng: np.random.Generator) -> None:
    p.put("stairs", w / 2, DEPTH_M - 1.85, -np.pi / 2)


def _spare(p: RoomPlacer, places: list[tuple[float, float]]) -> None:
    for x, y in places:
        p.seats.append(Place("spare", x, y, 0.0))


_SPARE = ("plant", "box", "clutter", "floor_lamp", "person_standing", "none")
_SHARE = (0.2, 0.25, 0.2, 0.06, 0.04, 0.25)


def people_and_things(p: RoomPlacer, rng: np.random.Generator) -> None:
    """What is elsewhere in every session: chairs, sofas, people, boxes, bags, pot plants."""
    for seat in p.seats:
        kind, yaw = seat.kind, seat.yaw
        # the same number of draws for every place, whatever fits
        away, turn, sat, gone = rng.normal(0, 0.05, 2), rng.normal(0, 0.3), *rng.random(2)
        pick = int(rng.integers(99))
        if kind == "spare":
            kind = str(rng.choice(_SPARE, p=_SHARE))
            away, yaw = away * 2, float(rng.uniform(-np.pi, np.pi))
            if kind == "none":
                continue
            p.put(kind, seat.x + away[0], seat.y + away[1], yaw, pick=pick)
            continue
        if gone < 0.08:
            continue
        chair = kind in ("chair", "office_chair")
        back = 0.12 if chair and gone < 0.4 else 0.0
        x = seat.x - back * np.cos(yaw) + away[0]
        y = seat.y - back * np.sin(yaw) + away[1]
        pick = p.room.number if chair else pick
        pick = pick // 3 if chair else pick
        turn *= {"office_chair": 1.5, "sofa": 0.1}.get(kind, 0.4)
        put = p.put(kind, x, y, yaw + turn, pick=pick, under=chair)
        if not put and not chair:
            put = p.put(kind, seat.x, seat.y, yaw, pick=pick)
        if put and chair and sat < 0.1:
            _sit(p, x, y, yaw, int(rng.integers(99)))


def _sit(p: RoomPlacer, x: float, y: float, yaw: float, pick: int) -> None:
    """A person on a chair; the chair's footprint already counts as the obstacle."""
    names = p.models["person_sitting"]
    design = p.catalogue.design(names[pick % len(names)])
    if p.room.mirrored:
        x, yaw = p.room.width - x, np.pi - yaw
    p.builder.begin()
    # the footprint's middle lies before the hips
    x, y = x + 0.14 * np.cos(yaw), y + 0.14 * np.sin(yaw)
    design.add(p.builder, p.room.T @ pose2d(x, y, yaw))
