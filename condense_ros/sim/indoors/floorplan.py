"""Floor plans: long corridors joined by cross corridors, with rows of rooms that repeat."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from condense_ros.geometry import Array
from condense_ros.sim.mesh import pose2d
from condense_ros.sim.network import Network

#: half the width of corridors, metres
HALF_CORRIDOR_M = 1.3
#: from the corridor to a room's far wall
DEPTH_M = 4.8
#: between the far walls of two rows of rooms: a yard that gives them windows
YARD_M = 3.0
CEILING_M = 2.65
DOOR_M, DOOR_HIGH_M = 1.1, 2.08
#: each side of a wall is a lining of its own, this thick; rooms and corridors meet in its middle
LINING_M = 0.06
#: what the robot has at least to each side of its ways
ROOM_TO_SIDE_M = 0.45

#: width of the rooms of one row and distance of the door from the room's left wall, metres
ROOMS: dict[str, tuple[float, float]] = {
    "office": (3.7, 0.85),
    "meeting": (5.6, 1.9),
    "storage": (2.5, 0.85),
    "bathroom": (2.6, 0.85),
    "kitchen": (4.0, 0.9),
    "living": (6.0, 2.8),
    "bedroom": (4.1, 0.9),
}
_WINGS = {
    "office": ("office", "office", "meeting", "office", "storage", "bathroom", "kitchen"),
    "home": ("living", "bedroom", "kitchen", "bathroom", "bedroom", "storage"),
}
#: corners of the way round a table, room frame
_RINGS = {
    "meeting": np.array([[0.75, 0.95], [4.85, 0.95], [4.85, 3.95], [0.75, 3.95]]),
    "living": np.array([[1.6, 1.15], [4.4, 1.15], [4.4, 3.7], [1.6, 3.7]]),
}


@dataclass(frozen=True, eq=False)
class Room:
    """One room. Its frame: x along the corridor 0 .. width, y from the corridor 0 .. depth.

    Attributes:
        kind: key of `ROOMS`, or "stairs".
        number: of the room in the building.
        wing, slot: rooms of equal wing and slot are copies of each other.
        T: (4, 4) room frame to world.
        width, door: metres; `door` is the x of the middle of the door.
        mirrored: furnished the other way round (the door is given as it is).
        way: (W, 2) polyline of the robot's way into the room, room frame; empty without one.
        ring: whether the way ends in a closed ring (its last four points).
    """

    kind: str
    number: int
    wing: str
    slot: int
    T: Array
    width: float
    door: float
    mirrored: bool
    way: Array
    ring: bool

    def world(self, xy: Array) -> Array:
        """(N, 2) room frame to world."""
        return np.asarray(xy) @ self.T[:2, :2].T + self.T[:2, 3]


@dataclass(frozen=True, eq=False)
class FloorPlan:
    """Where corridors and rooms lie.

    Attributes:
        xs: (M,) x of the cross corridors' centre lines.
        ys: (K,) y of the long corridors' centre lines.
        wings: (K,) wing of each long corridor.
        rooms: all rooms.
        network: the robot's ways.
    """

    xs: Array
    ys: Array
    wings: tuple[str, ...]
    rooms: tuple[Room, ...]
    network: Network


def make_plan(rng: np.random.Generator, corridors: int, segments: int) -> FloorPlan:
    """A plan of `corridors` long corridors, each of `segments` equal stretches."""
    wings = tuple("home" if k % 3 == 1 else "office" for k in range(corridors))
    patterns = {w: [_WINGS[w][i] for i in rng.permutation(len(_WINGS[w]))] for w in _WINGS}
    # slots that the robot may enter; a wing's copies are entered alike
    entered = {
        w: [k in _RINGS or (k not in ("storage", "bathroom") and rng.random() < 0.65) for k in p]
        for w, p in patterns.items()
    }
    length = max(sum(ROOMS[kind][0] for kind in p) for p in patterns.values())
    pitch = 2 * HALF_CORRIDOR_M + 2 * DEPTH_M + YARD_M
    xs: Array = np.arange(segments + 1, dtype=np.float64) * (length + 2 * HALF_CORRIDOR_M)
    ys: Array = np.arange(corridors, dtype=np.float64) * pitch
    stairs = {(0, 1, 0), (corridors - 1, -1, segments - 1)}
    rooms: list[Room] = []
    for k, y in enumerate(ys):
        for j in range(segments):
            for side in (1, -1):
                row = (k, side, j)
                rooms.extend(
                    _row(rooms, wings[k], patterns[wings[k]], entered[wings[k]], xs[j], y, length,
                         side, stairs=row in stairs, flip=j % 2 == 1)
                )  # fmt: skip
    return FloorPlan(xs, ys, wings, tuple(rooms), _network(xs, ys, rooms))


def _row(
    before: list[Room],
    wing: str,
    pattern: list[str],
    entered: list[bool],
    x: float,
    y: float,
    length: float,
    side: int,
    *,
    stairs: bool,
    flip: bool,
) -> list[Room]:
    """The rooms of one stretch on one side; `flip` mirrors their order and each of them."""
    slack = length - sum(ROOMS[kind][0] for kind in pattern)
    start = x + HALF_CORRIDOR_M if side > 0 else x + HALF_CORRIDOR_M + length
    T0 = pose2d(start, y + side * HALF_CORRIDOR_M, 0.0 if side > 0 else np.pi)
    rooms: list[Room] = []
    at = 0.0
    for slot in reversed(range(len(pattern))) if flip else range(len(pattern)):
        kind = pattern[slot]
        width, door = ROOMS[kind]
        width += slack / len(pattern)
        if kind == "storage" and stairs:
            kind = "stairs"
        door = width - door if flip else door
        way, ring = _way(kind, width, door, flip) if entered[slot] else (np.empty((0, 2)), False)
        number = len(before) + len(rooms)
        T = T0 @ pose2d(at, 0.0, 0.0)
        rooms.append(Room(kind, number, wing, slot, T, width, door, flip, way, ring))
        at += width
    return rooms


def _way(kind: str, width: float, door: float, mirrored: bool) -> tuple[Array, bool]:
    """From the corridor's centre line into a room: a ring round its table, or a dead end."""
    start = [door, -HALF_CORRIDOR_M]
    if kind not in _RINGS:
        return np.array([start, [door, DEPTH_M - 1.45]]), False
    ring = _RINGS[kind].copy()
    if mirrored:
        ring[:, 0] = width - ring[:, 0]
    return np.concatenate([[start, [door, ring[0, 1]]], ring]), True


def _network(xs: Array, ys: Array, rooms: list[Room]) -> Network:
    nodes: list[tuple[float, float]] = []
    edges: list[tuple[int, int]] = []
    half: list[float] = []

    def node(xy: Array) -> int:
        nodes.append((float(xy[0]), float(xy[1])))
        return len(nodes) - 1

    def edge(a: int, b: int, half_m: float) -> None:
        edges.append((a, b))
        half.append(half_m)

    crossing = {(j, k): node(np.array([x, y])) for j, x in enumerate(xs) for k, y in enumerate(ys)}
    wide = HALF_CORRIDOR_M - 0.52
    for j in range(len(xs)):
        for k in range(len(ys) - 1):
            edge(crossing[j, k], crossing[j, k + 1], wide)
    for k, y in enumerate(ys):
        for j in range(len(xs) - 1):
            stops = [(float(xs[j]), crossing[j, k]), (float(xs[j + 1]), crossing[j + 1, k])]
            for room in rooms:
                if not len(room.way):
                    continue
                gate = room.world(room.way[:1])[0]
                if abs(gate[1] - y) > 1e-6 or not xs[j] < gate[0] < xs[j + 1]:
                    continue
                near = [n for x, n in stops if abs(x - gate[0]) < 0.02]
                door = near[0] if near else node(gate)
                if not near:
                    stops.append((float(gate[0]), door))
                inside = [node(p) for p in room.world(room.way[1:])]
                edge(door, inside[0], ROOM_TO_SIDE_M)
                if room.ring:
                    # the ring's near side passes the entry
                    first, second, third, fourth = inside[1:]
                    for a, b in (
                        (inside[0], first), (inside[0], second), (second, third),
                        (third, fourth), (fourth, first),
                    ):  # fmt: skip
                        edge(a, b, ROOM_TO_SIDE_M)
            stops.sort()
            for (_, a), (_, b) in pairwise(stops):
                edge(a, b, wide)
    return Network(
        np.array(nodes),
        np.array(edges, np.int64),
        np.array(half),
        np.array(half),
        np.zeros((1, 4)),
        lane_m=0.0,
        corner_m=1.0,
        speed_m_s=1.0,
    )
