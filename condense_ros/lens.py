"""Lens distortion on the normalised image plane and its exact inverse.

A distortion is trusted only where it is one-to-one. Where its polynomial folds back, points from
far outside the field of view would land in the image and pixels would have several directions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
from numpy.polynomial import polynomial

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: squared radius beyond which nothing is looked for: 89.99 degrees off the axis
_FAR = 1e8


def invert_increasing(
    function: Callable[[Array], Array],
    slope: Callable[[Array], Array],
    target: Array,
    limit: float,
) -> Array:
    """x in [0, limit] with function(x) = target; NaN where there is none.

    Newton's method inside a shrinking bracket, halving where a step would leave it: converges for
    every function that increases on [0, limit], also next to a fold, where the slope vanishes.

    Args:
        function, slope: function(0) = 0, increasing on [0, limit], and its derivative.
        target: (N,) >= 0.
        limit: inf for functions that grow without bound.
    """
    target = np.asarray(target, dtype=np.float64)
    solution = np.full(target.shape, np.nan)
    if np.isfinite(limit):
        reachable = target <= function(np.array([limit]))[0]
    else:
        reachable = np.isfinite(target)
        limit = 1.0
        largest = target[reachable].max(initial=0.0)
        while function(np.array([limit]))[0] < largest:
            limit *= 2.0
    rows = np.nonzero(reachable)[0]
    wanted = target[rows]
    x = np.minimum(wanted, limit)
    low, high = np.zeros_like(x), np.full_like(x, limit)
    for _ in range(100):
        value = function(x) - wanted
        low, high = np.where(value <= 0, x, low), np.where(value >= 0, x, high)
        with np.errstate(all="ignore"):
            better = x - value / slope(x)
        inside = (better >= low) & (better <= high)  # False for NaN
        better = np.where(inside, better, 0.5 * (low + high))
        moving = np.abs(better - x) > 4e-16 * (1.0 + x)
        solution[rows] = better
        if not moving.any():
            break
        rows, wanted = rows[moving], wanted[moving]
        x, low, high = better[moving], low[moving], high[moving]
    return solution


def _first_crossing(coefficients: npt.ArrayLike, after: float = 0.0) -> float:
    """Smallest s > `after` at which a polynomial (lowest power first) changes sign; inf if none."""
    c = np.asarray(coefficients, dtype=np.float64)
    # powers that do nothing up to the radius that counts would only upset the root finder
    matters = np.abs(c) * _FAR ** np.arange(c.size) > 1e-6
    trimmed = c[: int(np.nonzero(matters)[0].max(initial=0)) + 1]
    roots = polynomial.polyroots(trimmed)
    real = np.sort(roots.real[np.abs(roots.imag) <= 1e-7 * np.abs(roots)])
    for s in real[(real > after * (1 + 1e-9)) & (real < _FAR)].tolist():
        below, above = polynomial.polyval(np.array([s * (1 - 1e-6), s * (1 + 1e-6)]), trimmed)
        if below * above <= 0:
            return float(s)
    return float("inf")


@dataclass(frozen=True, eq=False)
class BrownConrady:
    """Radial (polynomial or rational) and tangential distortion of a pinhole camera.

    With s = x^2 + y^2 and R = (1 + k1 s + k2 s^2 + k3 s^3) / (1 + k4 s + k5 s^2 + k6 s^3):
    x' = x R + 2 p1 x y + p2 (s + 2 x^2), y' = y R + p1 (s + 2 y^2) + 2 p2 x y (OpenCV,
    "Camera Calibration and 3D Reconstruction").

    Attributes:
        D: (0,), (4,), (5,) or (8,) k1 k2 p1 p2 k3 k4 k5 k6.
    """

    D: Array

    @cached_property
    def _coefficients(self) -> tuple[Array, Array, float, float]:
        """Numerator and denominator of R in powers of s, p1, p2."""
        k1, k2, p1, p2, k3, k4, k5, k6 = np.pad(self.D, (0, 8 - self.D.size)).tolist()
        return np.array([1.0, k1, k2, k3]), np.array([1.0, k4, k5, k6]), p1, p2

    @cached_property
    def _fold(self) -> float:
        """Radius at which the radial part stops rising; inf where it never does."""
        above, below, _, _ = self._coefficients
        # numerator of d(r R)/dr in powers of s = r^2
        rise = polynomial.polysub(
            polynomial.polymul(polynomial.polyder(above), below),
            polynomial.polymul(above, polynomial.polyder(below)),
        )
        slope = polynomial.polyadd(
            polynomial.polymul(above, below), polynomial.polymul([0.0, 2.0], rise)
        )
        return float(np.sqrt(min(_first_crossing(slope), _first_crossing(below))))

    @cached_property
    def _edge(self) -> tuple[Array, Array, float]:
        """Where tangential terms end the one-to-one domain: the Jacobian's first zero by azimuth.

        Returns:
            azimuth: (A,) radians, increasing over a turn.
            radius: (A,) of the first zero outwards from the axis; the farthest radius for none.
            reach: largest radius in the image of any point inside.
        """
        azimuth = np.linspace(-np.pi, np.pi, 181)
        radii = np.concatenate([np.linspace(0, 8, 801), np.geomspace(8, np.sqrt(_FAR), 160)[1:]])
        r, a = np.meshgrid(radii, azimuth)
        turned = self._turned(r * np.cos(a), r * np.sin(a))
        first = turned.argmax(axis=1)
        ends = turned.any(axis=1)
        low, high = radii[np.maximum(first - 1, 0)], radii[first]
        for _ in range(40):
            middle = 0.5 * (low + high)
            out = self._turned(middle * np.cos(azimuth), middle * np.sin(azimuth))
            low, high = np.where(out, low, middle), np.where(out, middle, high)
        with np.errstate(all="ignore"):
            images = np.hypot(*self.apply(r * np.cos(a), r * np.sin(a)))
        images[r >= np.where(ends, high, np.inf)[:, None]] = 0.0
        reach = float(images.max()) * (1 + 1e-2) if ends.all() else float("inf")
        return azimuth, np.where(ends, low, radii[-1]), reach

    def _turned(self, x: Array, y: Array) -> Mask:
        """Whether the image is mirrored (or undefined) there."""
        with np.errstate(all="ignore"):
            a, b, d = self.jacobian(x, y)
            return np.asarray(~(a * d - b * b > 0))

    def apply(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Distorted coordinates (x', y')."""
        above, below, p1, p2 = self._coefficients
        s = x * x + y * y
        radial = polynomial.polyval(s, above)
        if self.D.size == 8:
            radial = radial / polynomial.polyval(s, below)
        return (
            x * radial + 2 * p1 * x * y + p2 * (s + 2 * x * x),
            y * radial + p1 * (s + 2 * y * y) + 2 * p2 * x * y,
        )

    def jacobian(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """dx'/dx, dx'/dy = dy'/dx, dy'/dy."""
        above, below, p1, p2 = self._coefficients
        s = x * x + y * y
        n, m = polynomial.polyval(s, above), polynomial.polyval(s, below)
        dn = polynomial.polyval(s, polynomial.polyder(above))
        dm = polynomial.polyval(s, polynomial.polyder(below))
        radial, rise = n / m, 2 * (dn * m - n * dm) / (m * m)
        cross = x * y * rise + 2 * (p1 * x + p2 * y)
        return (
            radial + x * x * rise + 2 * p1 * y + 6 * p2 * x,
            cross,
            radial + y * y * rise + 6 * p1 * y + 2 * p2 * x,
        )

    def covers(self, x: Array, y: Array) -> Mask:
        """Whether undistorted points lie in the one-to-one domain around the optical axis."""
        _, _, p1, p2 = self._coefficients
        s = x * x + y * y
        if p1 == p2 == 0:
            return np.asarray(s < self._fold**2)
        azimuth, radius, _ = self._edge
        inside = np.asarray(s < radius.min() ** 2)
        rows = np.nonzero(~inside & np.isfinite(s))[0]
        if rows.size and radius.max() > radius.min():
            r = np.sqrt(s[rows])
            inside[rows] = r < np.interp(np.arctan2(y[rows], x[rows]), azimuth, radius)
        return inside

    def remove(self, xd: Array, yd: Array) -> tuple[Array, Array]:
        """Undistorted coordinates; NaN where no point of the domain is imaged."""
        above, below, p1, p2 = self._coefficients

        def radius(r: Array) -> Array:
            s = r * r
            return np.asarray(r * polynomial.polyval(s, above) / polynomial.polyval(s, below))

        def slope(r: Array) -> Array:
            return self.jacobian(r, np.zeros_like(r))[0] - 6 * p2 * r

        rd = np.hypot(xd, yd)
        with np.errstate(all="ignore"):
            r = invert_increasing(radius, slope, rd, self._fold)
            scale = np.where(rd > 0, r / rd, 1.0)
        x, y = xd * scale, yd * scale
        if p1 == p2 == 0:
            return x, y
        x, y = self._newton(x, y, xd, yd)
        # where the radial solution was no good start: from the axis outwards, step by step
        rows = np.nonzero(np.isnan(x) & (rd < self._edge[2]))[0]
        xs, ys = np.zeros(rows.size), np.zeros(rows.size)
        for share in 1 - np.geomspace(1, 1e-3, 24):
            xs, ys = self._newton(xs, ys, share * xd[rows], share * yd[rows])
        x[rows], y[rows] = self._newton(xs, ys, xd[rows], yd[rows])
        return x, y

    def _newton(self, x: Array, y: Array, xd: Array, yd: Array) -> tuple[Array, Array]:
        """Newton's method in two variables from (x, y), halving steps that do not help; NaN where
        it ends elsewhere than at a solution."""
        x, y = x.copy(), y.copy()
        rows: npt.NDArray[np.int64] = np.nonzero(np.isfinite(x))[0]
        with np.errstate(all="ignore"):
            for _ in range(60):
                ex, ey = self._error(x[rows], y[rows], xd[rows], yd[rows])
                left = np.hypot(ex, ey) > 1e-14
                rows, ex, ey = rows[left], ex[left], ey[left]
                if not rows.size:
                    break
                a, b, d = self.jacobian(x[rows], y[rows])
                det = a * d - b * b
                dx, dy = (d * ex - b * ey) / det, (a * ey - b * ex) / det
                share = np.ones_like(dx)
                for _ in range(12):
                    nx, ny = x[rows] - share * dx, y[rows] - share * dy
                    error = np.hypot(*self._error(nx, ny, xd[rows], yd[rows]))
                    better = (error < np.hypot(ex, ey)) & self.covers(nx, ny)
                    if better.all():
                        break
                    share = np.where(better, share, share / 2)
                rows = rows[better]  # the others are as near as they get
                x[rows], y[rows] = nx[better], ny[better]
            found = (np.hypot(*self._error(x, y, xd, yd)) < 1e-9) & self.covers(x, y)
        return np.where(found, x, np.nan), np.where(found, y, np.nan)

    def _error(self, x: Array, y: Array, xd: Array, yd: Array) -> tuple[Array, Array]:
        fx, fy = self.apply(x, y)
        return fx - xd, fy - yd


@lru_cache(maxsize=64)
def brown_conrady(D: tuple[float, ...]) -> BrownConrady:
    """The distortion of these coefficients, shared: its edge is found once for all messages."""
    return BrownConrady(np.array(D))


@dataclass(frozen=True, eq=False)
class Equidistant:
    """Fisheye lens: the image radius is a polynomial of the angle to the optical axis.

    theta' = theta (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8), x' = theta' x / r
    (Kannala and Brandt, TPAMI 2006; OpenCV `fisheye`; `equidistant` of CameraInfo).

    Attributes:
        D: (0,) or (4,) k1 k2 k3 k4.
    """

    D: Array

    @cached_property
    def _even(self) -> Array:
        """Coefficients of theta' / theta in powers of theta^2."""
        return np.concatenate([[1.0], self.D])

    @cached_property
    def _rise(self) -> Array:
        """Coefficients of d theta' / d theta in powers of theta^2."""
        return self._even * (2 * np.arange(self._even.size) + 1)

    @cached_property
    def max_angle(self) -> float:
        """Angle in radians up to which the lens is one-to-one, at most pi."""
        return min(float(np.sqrt(_first_crossing(self._rise))), float(np.pi))

    def apply(self, theta: Array) -> Array:
        """Image radius theta' of angles to the optical axis in radians."""
        return np.asarray(theta * polynomial.polyval(theta * theta, self._even))

    def remove(self, radius: Array) -> Array:
        """Angles to the optical axis of image radii; NaN beyond the fold."""

        def slope(theta: Array) -> Array:
            return np.asarray(polynomial.polyval(theta * theta, self._rise))

        return invert_increasing(self.apply, slope, radius, self.max_angle)
