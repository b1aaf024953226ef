"""When a robot is where on its paths: speed under limits of acceleration and turning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import convolve1d

from condense_ros.geometry import Array
from condense_ros.sim.driving.route import Path

#: distance along a path is averaged over this time: acceleration becomes continuous
_SMOOTH_S = 0.6
#: largest change of the yaw rate by bends, rad/s^2
_YAW_RAD_S2 = 3.0
#: mean rate of a turn on the spot, as a share of the largest
_TURN_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class Timeline:
    """Where on which path the robot is.

    Attributes:
        leg: (K,) which path.
        s: (K,) metres along it.
        turned: (K,) 0 .. 1 how much of the turn on the spot at the end of a leg is done;
            of the next leg: -1 .. 0.
    """

    leg: npt.NDArray[np.int64]
    s: Array
    turned: Array

    def along(self, paths: list[Path]) -> tuple[Array, Array]:
        """Positions (K, 2) and continuous headings (K,)."""
        xy, yaw = np.zeros((len(self.s), 2)), np.zeros(len(self.s))
        before = None
        for k in np.unique(self.leg):
            rows = self.leg == k
            spline = paths[k].spline()
            xy[rows] = spline(self.s[rows])
            # headings of the whole leg, unwrapped, so that none jumps
            d = spline(paths[k].s, 1)
            heading = np.unwrap(np.arctan2(d[:, 1], d[:, 0]))
            if before is None:
                turn = 0.0
            else:
                turn = (heading[0] - before + np.pi) % (2 * np.pi) - np.pi
                # always the same way round, whatever the last digits say
                turn = abs(turn) if abs(abs(turn) - np.pi) < 0.05 else turn
                heading += before + turn - heading[0]
            exact = spline(self.s[rows], 1)
            fine = np.arctan2(exact[:, 1], exact[:, 0])
            coarse = np.interp(self.s[rows], paths[k].s, heading)
            yaw[rows] = coarse + (fine - coarse + np.pi) % (2 * np.pi) - np.pi
            turned = self.turned[rows]
            yaw[rows] += np.where(turned < 0, turned * turn, 0.0)
            if k + 1 < len(paths):
                d = paths[k + 1].spline()(0.0, 1)
                ahead = (np.arctan2(d[1], d[0]) - heading[-1] + np.pi) % (2 * np.pi) - np.pi
                ahead = abs(ahead) if abs(abs(ahead) - np.pi) < 0.05 else ahead
                yaw[rows] += np.where(turned > 0, turned * ahead, 0.0)
            before = float(heading[-1])
        return xy, yaw


def speeds(
    path: Path,
    cruise: Array,
    limits: tuple[float, float, float],
    ends: tuple[bool, bool],
    stops: Array,
) -> Array:
    """(P,) speed along a path under limits (acceleration, lateral acceleration, yaw rate).

    Args:
        cruise: (P,) speed where nothing else limits it.
        ends: whether the robot stands at the start, at the end.
        stops: metres along the path where it halts.
    """
    acceleration, lateral, yaw_rate = limits
    bend = np.maximum(np.abs(path.curvature), 1e-9)
    v = np.minimum(cruise, np.minimum(np.sqrt(lateral / bend), yaw_rate / bend))
    sharpness = np.abs(np.gradient(path.curvature, path.s))
    v = np.minimum(v, np.sqrt(_YAW_RAD_S2 / np.maximum(sharpness, 1e-9)))
    if ends[0]:
        v[0] = 0.0
    if ends[1]:
        v[-1] = 0.0
    v[np.searchsorted(path.s, stops).clip(1, len(v) - 2)] = 0.0
    ds = np.diff(path.s)
    square = (v**2).tolist()
    gain = (2 * acceleration * ds).tolist()
    for i in range(len(gain)):
        square[i + 1] = min(square[i + 1], square[i] + gain[i])
    for i in range(len(gain) - 1, -1, -1):
        square[i] = min(square[i], square[i + 1] + gain[i])
    return np.sqrt(np.array(square))


def timeline(
    paths: list[Path],
    count: int,
    rate_hz: float,
    speed: float,
    wave: tuple[float, float],
    limits: tuple[float, float, float],
    stops_per_km: float,
    rng: np.random.Generator,
) -> Timeline:
    """`count` samples of a drive along `paths`; after their end the robot stands.

    Args:
        speed: mean cruising speed, m/s; it swings by 15 %.
        wave: (rad/s at that speed, phase) of the swing.
        rng: where it halts, and for how long.
    """
    legs: list[tuple[float, float, Array, Array, Array]] = []
    now = 0.0
    needed = count / rate_hz + 2 * _SMOOTH_S
    for k, path in enumerate(paths):
        cruise = speed * (1 + 0.15 * np.sin(wave[0] / speed * path.s + wave[1]))
        number = rng.poisson(stops_per_km * path.length_m / 1000)
        stops = np.sort(rng.uniform(0.1, 0.9, number) * path.length_m)
        last = k == len(paths) - 1
        v = speeds(path, cruise, limits, (k > 0, not last), stops)
        mean = np.maximum((v[:-1] + v[1:]) / 2, 1e-6)
        t = np.concatenate([[now], now + np.cumsum(np.diff(path.s) / mean)])
        # a halt is one more row, at the same place and later
        halts = np.unique(np.searchsorted(path.s, stops).clip(1, len(v) - 2))
        pause = np.zeros(len(v))
        pause[halts] = rng.uniform(2, 8, len(halts))
        t = np.insert(t + np.cumsum(pause) - pause, halts + 1, (t + np.cumsum(pause))[halts])
        s, v = np.insert(path.s, halts + 1, path.s[halts]), np.insert(v, halts + 1, 0.0)
        legs.append((now, float(t[-1]), t, s, v))
        now = float(t[-1])
        # the robot turns round on the spot
        now += np.pi / (_TURN_SHARE * limits[2]) + 3 * _SMOOTH_S
        if now > needed:
            break
    clock = np.arange(count) / rate_hz
    leg, s, turned = np.zeros(count, np.int64), np.zeros(count), np.zeros(count)
    for k, (begun, ended, t, at, v) in enumerate(legs):
        following = legs[k + 1][0] if k + 1 < len(legs) else np.inf
        middle = (ended + following) / 2
        before = (legs[k - 1][1] + begun) / 2 if k else -np.inf
        rows = (clock >= before) & (clock < middle)
        leg[rows] = k
        s[rows] = _averaged(clock[rows], t, at, v, rate_hz)
        if np.isfinite(following):
            turned += np.where(rows & (clock > ended), _turn(clock, ended, following), 0.0)
        if k:
            turned += np.where(
                rows & (clock < begun), _turn(clock, legs[k - 1][1], begun) - 1.0, 0.0
            )
    return Timeline(leg, s, turned)


def _averaged(clock: Array, t: Array, s: Array, v: Array, rate_hz: float) -> Array:
    """s at times `clock`, averaged with a smooth window: bounds of speed and acceleration hold.

    Args:
        t, s, v: (P,) times, metres and speeds, between which acceleration is constant.
    """
    half = max(1, round(_SMOOTH_S / 2 * rate_hz))
    window = np.hanning(2 * half + 3)[1:-1]
    around = np.arange(-half, half + 1) / rate_hz
    padded = np.concatenate([clock[0] + around[:half], clock, clock[-1] + around[half + 1 :]])
    row = np.clip(np.searchsorted(t, padded, side="right") - 1, 0, len(t) - 2)
    since = np.minimum(padded, t[-1]) - t[row]
    gain = (v[row + 1] - v[row]) / np.maximum(t[row + 1] - t[row], 1e-9)
    # before its first leg the robot came along at its first speed
    gain = np.where(since < 0, 0.0, gain)
    raw = s[row] + v[row] * since + gain * since**2 / 2
    return np.asarray(convolve1d(raw, window / window.sum())[half : half + len(clock)])


def _turn(clock: Array, ended: float, following: float) -> Array:
    """Share of the turn on the spot that is done, with rate and acceleration zero at both ends."""
    x = np.clip((clock - ended - _SMOOTH_S) / (following - ended - 2 * _SMOOTH_S), 0, 1)
    return np.asarray(x**3 * (10 - 15 * x + 6 * x**2))
