"""What moves in a town: cars, vans and bicycles in the right-hand lanes, people on the pavements.

No two of them ever meet, by construction. Every lane of every street belongs to exactly one closed
round (at each crossing, arriving lanes go on into leaving lanes one to one). Crossings hand out
time slots: in a cycle of `CYCLE_S` each arm gets one, and one vehicle passes in it. Vehicles of a
round travel the same way at the same pace, whole cycles apart, and wait or slow down for slots.
"""

from __future__ import annotations

import numpy as np

from condense_ros.geometry import Array
from condense_ros.sim.materials import Surface
from condense_ros.sim.mesh import MeshBuilder
from condense_ros.sim.network import Network
from condense_ros.sim.scenery import Mover, Trajectory
from condense_ros.sim.town import classes, people, vehicles
from condense_ros.sim.town.assets import Assets, Model
from condense_ros.sim.town.ground import CLEAR_M, KERB_M

CYCLE_S = 32.0
#: vehicles keep this far right of the centre line, and wait this far before a bend, metres
LANE_M, STOP_M = 1.5, 3.0
_STEP_S = 0.25
_ACCELERATION, _BRAKING = 1.8, 2.2  # m/s^2


def _arms(network: Network) -> list[list[tuple[int, int]]]:
    """Per node its (edge, other node) pairs, counter-clockwise."""
    around = []
    for node in range(len(network.nodes)):
        delta = {n: network.nodes[n] - network.nodes[node] for _, n in network.neighbours(node)}
        pairs = network.neighbours(node)
        pairs.sort(key=lambda pair: float(np.arctan2(*delta[pair[1]][::-1])))
        around.append(pairs)
    return around


def rounds(network: Network, turns: list[int]) -> list[list[tuple[int, int]]]:
    """Closed rounds of directed edges (from, to) that use every one exactly once.

    Args:
        turns: per node, by how many arms (counter-clockwise from the one they arrive by) vehicles
            turn; 1 .. arms - 1.
    """
    arms = _arms(network)
    left = {(a, b) for a, b in network.edges.tolist()}
    left |= {(b, a) for a, b in left}
    found = []
    for start in sorted(left):
        if start not in left:
            continue
        here, path = start, []
        while here in left:
            left.remove(here)
            path.append(here)
            ring = [other for _, other in arms[here[1]]]
            out = ring[(ring.index(here[0]) + turns[here[1]]) % len(ring)]
            here = (here[1], out)
        found.append(path)
    return found


def _line(
    network: Network, path: list[tuple[int, int]], offset: list[float], corner_m: float
) -> tuple[Array, Array]:
    """A closed polyline (P, 2) along directed edges, `offset` metres to their right (negative:
    left), rounded at crossings, and its length at the start of each edge's bend out (E,)."""
    starts, ends = [], []
    for (a, b), t in zip(path, offset, strict=True):
        p, q = network.nodes[a], network.nodes[b]
        d = (q - p) / np.linalg.norm(q - p)
        right = np.array([d[1], -d[0]])
        starts.append(p + corner_m * d + t * right)
        ends.append(q - corner_m * d + t * right)
    points: list[Array] = []
    stops: list[int] = []
    for k in range(len(path)):
        nxt = (k + 1) % len(path)
        straight = np.linspace(starts[k], ends[k], 8)
        d, e = ends[k] - starts[k], ends[nxt] - starts[nxt]
        matrix = np.column_stack([d / np.linalg.norm(d), -e / np.linalg.norm(e)])
        control = (ends[k] + starts[nxt]) / 2
        if abs(np.linalg.det(matrix)) > 0.15:
            along = float(np.linalg.solve(matrix, starts[nxt] - ends[k])[0])
            if -1 < along < 40:
                control = ends[k] + along * matrix[:, 0]
        u = np.linspace(0, 1, 17)[1:-1, None]
        bend = (1 - u) ** 2 * ends[k] + 2 * u * (1 - u) * control + u**2 * starts[nxt]
        stops.append(sum(len(p) for p in points) + len(straight) - 1)
        points += [straight, bend]
    line = np.concatenate([*points, starts[0][None]])
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    return np.column_stack([line, length]), length[stops]


def _poses(network: Network, line: Array, s: Array, reach_m: float, lift_m: float) -> Array:
    """(N, 4, 4) poses at lengths `s` along a closed line (P, 3) of x, y, length."""
    total = line[-1, 2]

    def at(where: Array) -> Array:
        where = where % total
        return np.column_stack([np.interp(where, line[:, 2], line[:, i]) for i in (0, 1)])

    chord = at(s + reach_m) - at(s - reach_m)
    return network.stand(at(s), np.arctan2(chord[:, 1], chord[:, 0]), lift_m)


def _drive_time(metres: float, speed: float) -> float:
    return metres / speed + speed / (2 * _ACCELERATION) + speed / (2 * _BRAKING)


def _travelled(t: Array, metres: float, speed: float) -> Array:
    """Metres after t seconds from one halt to the next, at most at `speed`."""
    up, down = speed / _ACCELERATION, speed / _BRAKING
    end = _drive_time(metres, speed)
    s = np.where(t < up, 0.5 * _ACCELERATION * t**2, speed * (t - up / 2))
    rest = np.clip(end - t, 0, None)
    s = np.where(rest < down, metres - 0.5 * _BRAKING * rest**2, s)
    return np.clip(s, 0, metres)


def _schedule(
    network: Network, path: list[tuple[int, int]], stops: Array, total: float,
    slot: dict[tuple[int, int], float], fastest: float,
) -> Array:  # fmt: skip
    """Metres along a round at every `_STEP_S` of its period, which is whole cycles long."""
    t0 = slot[path[0]]
    begin, times, places = t0, [], []
    for k in range(len(path)):
        nxt = (k + 1) % len(path)
        metres = float(stops[nxt] - stops[k]) % total
        least = _drive_time(metres, fastest) + 0.3
        wait = (slot[path[nxt]] - begin - least) % CYCLE_S
        span = least + wait
        # slower driving takes up the wait as far as traffic would bear it
        speeds = np.linspace(fastest, max(0.6 * fastest, 4.5), 40)
        speed = next(v for v in speeds[::-1] if _drive_time(metres, float(v)) <= span - 0.3 + 1e-9)
        t = np.arange(0, span, 0.05)
        times.append(begin + t)
        places.append(stops[k] + _travelled(t, metres, float(speed)))
        begin += span
    period = begin - t0
    time, place = np.concatenate(times), np.concatenate(places)
    place = np.unwrap(place, period=total)
    grid = t0 + np.arange(round(period / _STEP_S)) * _STEP_S
    s = np.interp(grid, np.append(time, begin), np.append(place, place[0] + total))
    # the round is handed over as of time 0
    return np.roll(s % total, round(t0 / _STEP_S) % len(grid))


def vehicles_in_traffic(
    network: Network,
    assets: Assets,
    rng: np.random.Generator,
    cars: int,
    cyclists: int,
    instance: int,
) -> list[Mover]:
    """Cars, vans and cyclists; their objects are numbered from `instance` on."""
    arms = _arms(network)
    turns = [int(rng.integers(1, len(around))) for around in arms]
    slot = {}
    for node, around in enumerate(arms):
        first = float(rng.integers(4)) * CYCLE_S / 4
        for k, (_, other) in enumerate(around):
            slot[other, node] = (first + k * CYCLE_S / len(around)) % CYCLE_S
    slots: list[tuple[int, int]] = []
    plans, slow = [], []
    paths = rounds(network, turns)
    unhurried = int(rng.integers(len(paths)))
    for number, path in enumerate(paths):
        # bicycles set the pace of the rounds that they are on
        fastest = float(rng.choice([6.0, 8.0, 9.5])) if number != unhurried else 6.0
        line, stops = _line(network, path, [LANE_M] * len(path), 12.5)
        stops = stops - STOP_M
        s = _schedule(network, path, stops, float(line[-1, 2]), slot, fastest)
        plans.append((line, s))
        places = [(number, k) for k in range(round(len(s) * _STEP_S / CYCLE_S))]
        slots += places
        slow += places if fastest < 7 else []
    order = [slots[k] for k in rng.permutation(len(slots))]
    riders = [p for p in order if p in set(slow)][:cyclists]
    drivers = [p for p in order if p not in set(riders)][:cars]
    movers = []
    for number, cycle in riders + drivers:
        line, s = plans[number]
        model, look, kind = _vehicle(assets, rng, (number, cycle) in set(riders))
        lane = 0.35 if kind == "bicycle" else 0.0
        builder = MeshBuilder(instance)
        builder.begin()
        model.add(builder, np.eye(4), look)
        instance += 1
        poses = _poses(network, line, s, 1.3, 0.012)
        if lane:
            poses[:, :3, 3] -= lane * poses[:, :3, 1]
        knots = np.roll(poses, round(cycle * CYCLE_S / _STEP_S), axis=0)
        movers.append(Mover(builder.mesh(), Trajectory(len(s) * _STEP_S, knots)))
    return movers


def _vehicle(
    assets: Assets, rng: np.random.Generator, rides: bool
) -> tuple[Model, dict[str, Surface], str]:
    if rides:
        model = vehicles.bicycle(assets.draw(rng, "bicycle"), True)
        return model, vehicles.bicycle_look(assets, rng), "bicycle"
    if rng.random() < 0.2:
        model = vehicles.van(assets.draw(rng, "van"))
        return model, vehicles.car_look(assets, rng, classes.VAN), "van"
    model = vehicles.car(assets.draw(rng, "car"))
    return model, vehicles.car_look(assets, rng, classes.CAR), "car"


def walkers(
    network: Network,
    assets: Assets,
    rng: np.random.Generator,
    count: int,
    instance: int,
    closed: set[tuple[int, int]],
) -> list[Mover]:
    """People who walk around blocks, in two files per pavement that do not meet.

    Args:
        closed: (edge, side) of pavements that nobody can walk on; side 1 is left of the edge.
    """
    arms = _arms(network)
    number = {(a, b): e for e, (a, b) in enumerate(network.edges.tolist())}
    # keeping to the block on the left: the next arm clockwise
    files = []
    for path in rounds(network, [len(around) - 1 for around in arms]):
        sides = [(number[p], 1) if p in number else (number[p[::-1]], -1) for p in path]
        if any(side in closed for side in sides):
            continue
        middle = np.array(
            [-(network.half_road[e] + network.half_street[e] + 0.3) / 2 for e, _ in sides]
        )
        for lateral, way in ((0.42, 1), (-0.42, -1)):
            line, _ = _line(network, path, (middle + lateral).tolist(), CLEAR_M)
            pace = float(rng.uniform(1.15, 1.5))
            total = float(line[-1, 2])
            steps = max(8, round(total / pace / 0.5))
            s = way * np.arange(steps) * total / steps
            files.append((_poses(network, line, s, 0.4 * way, KERB_M), steps * 0.5, total))
    movers: list[Mover] = []
    if not files:
        return movers
    lengths = np.array([total for _, _, total in files])
    used: list[list[float]] = [[] for _ in files]
    for _ in range(count):
        f = int(rng.choice(len(files), p=lengths / lengths.sum()))
        knots, period, total = files[f]
        share = float(rng.random())
        gaps = [abs((share - other + 0.5) % 1 - 0.5) * total for other in used[f]]
        if min(gaps, default=9.0) < 1.2:
            continue
        used[f].append(share)
        builder = MeshBuilder(instance)
        builder.begin()
        model = people.person(assets.draw(rng, "person"), "walk")
        model.add(builder, np.eye(4), people.person_look(assets, rng))
        instance += 1
        shift = round(share * len(knots))
        movers.append(Mover(builder.mesh(), Trajectory(period, np.roll(knots, shift, axis=0))))
    return movers
