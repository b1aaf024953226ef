"""Robust Gauss-Newton over all key frames, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from condense_ros.calibration.config import CalibrationConfig
from condense_ros.calibration.flow import residuals, view
from condense_ros.calibration.keyframes import KeyFrame
from condense_ros.calibration.surfaces import Planes, planes_at
from condense_ros.calibration.trajectory import Trajectory
from condense_ros.deskew import exp_se3, log_se3
from condense_ros.geometry import Array, inverse

#: how far a mounting may plausibly be off (standard deviations): rad, m, s. Keeps directions that
#: the data do not show from running away; far wider than anything that is called observable
PRIOR = np.array([0.05] * 3 + [0.5] * 3 + [0.15])
#: residuals this small (pixels) are never taken for outliers
LEAST_SCALE_PX = 0.2
#: fewer corners seen in both images say nothing of their own motion
LEAST_CORNERS = 20


@dataclass(frozen=True, eq=False)
class Guess:
    """Calibration as far as it is known: T_cam_lidar (4, 4) and the time offset in seconds."""

    T_cam_lidar: Array
    offset_s: float = 0.0

    def moved(self, step: Array) -> Guess:
        """Turned and shifted by a step (7,) in the order of `flow.AXES`: rad, m, s."""
        D = exp_se3(np.concatenate([np.zeros(3), step[:3]]))
        D[:3, 3] = step[3:6]
        return Guess(D @ self.T_cam_lidar, self.offset_s + float(step[6]))

    def since(self, start: Guess) -> Array:
        """(7,) difference to another guess, in the order of `flow.AXES`: rad, m, s."""
        E = self.T_cam_lidar @ inverse(start.T_cam_lidar)
        return np.concatenate([log_se3(E)[3:], E[:3, 3], [self.offset_s - start.offset_s]])


@dataclass(frozen=True, eq=False)
class Pair:
    """Residuals of a key image and one after it, whose motion may itself be a little wrong.

    Attributes:
        key: (number of the key frame, number of the image).
        error: (M, 2) pixels; jacobian: (M, 2, 7); by_motion: (M, 2, 6).
    """

    key: tuple[int, int]
    error: Array
    jacobian: Array
    by_motion: Array


@dataclass(frozen=True, eq=False)
class Solution:
    """Where Gauss-Newton ended.

    Attributes:
        guess: the calibration found.
        information: (7, 7) weighted normal matrix, motions marginalised, without the prior.
        scores: (B, 7) gradient of each key frame; their spread tells how sure the solution is.
        scale_px: robust standard deviation of the residuals.
        residuals: number of corners.
    """

    guess: Guess
    information: Array
    scores: Array
    scale_px: float
    residuals: int


def surfaces(
    keys: Sequence[KeyFrame], trajectory: Trajectory, guess: Guess, config: CalibrationConfig
) -> list[Planes]:
    """Planes at the corners of every key frame, looked up with the present guess."""
    out = []
    for key in keys:
        T_world_lidar, _ = trajectory.at(int(key.stamps_ns[0]), guess.offset_s)
        T = guess.T_cam_lidar @ inverse(T_world_lidar)
        focal = float(key.camera.K[0, 0])
        out.append(planes_at(key.rays[0], key.points, T, focal, config.max_depth_m))
    return out


def linearise(
    keys: Sequence[KeyFrame],
    planes: Sequence[Planes],
    trajectory: Trajectory,
    guess: Guess,
    config: CalibrationConfig,
) -> list[Pair]:
    """Residuals and derivatives of all pairs of images, at a guess."""
    out = []
    for number, (key, plane) in enumerate(zip(keys, planes, strict=True)):
        focal = float(key.camera.K[0, 0])
        first = key.rays[0, plane.rows]
        here = view(guess.T_cam_lidar, *trajectory.at(int(key.stamps_ns[0]), guess.offset_s))
        for image in _images(len(key.stamps_ns)):
            other = key.rays[image, plane.rows]
            with np.errstate(invalid="ignore"):
                moved = np.linalg.norm(other - first, axis=1) * focal > config.min_flow_px
            rows = np.nonzero(moved)[0]
            if len(rows) < LEAST_CORNERS:
                continue
            stamp = int(key.stamps_ns[image])
            there = view(guess.T_cam_lidar, *trajectory.at(stamp, guess.offset_s))
            e, J, M = residuals(
                here,
                there,
                first[rows],
                other[rows],
                plane.normal[rows],
                plane.offset[rows],
                focal,
            )
            good = np.isfinite(e).all(1) & np.isfinite(J).all((1, 2))
            if good.sum() >= LEAST_CORNERS:
                out.append(Pair((number, image), e[good], J[good], M[good]))
    return out


def _images(count: int) -> list[int]:
    """Images compared with the key image: the middle one and the last."""
    return sorted({(count - 1) // 2, count - 1} - {0})


def solve(
    keys: Sequence[KeyFrame],
    trajectory: Trajectory,
    start: Guess,
    config: CalibrationConfig,
    *,
    first_guess: Guess | None = None,
) -> Solution | None:
    """The calibration that explains where corners went; None where there are none.

    Iteratively reweighted least squares with the weights of Geman and McClure. The motion between
    two images is known from the LiDAR up to a small error, which is estimated with the calibration
    and eliminated pair by pair (Schur complement).

    Args:
        start: the calibration as given; the prior is centred here.
        first_guess: where to begin, if elsewhere.
    """
    guess = first_guess or start
    motion_prior = np.array(
        [np.radians(config.motion_rotation_deg)] * 3 + [config.motion_translation_m] * 3
    )
    motions: dict[tuple[int, int], Array] = {}
    planes: list[Planes] = []
    looked_up: Guess | None = None
    solution = None
    for iteration in range(config.iterations):
        if looked_up is None or (np.abs(guess.since(looked_up)) > 0.1 * STEP).any():
            planes, looked_up = surfaces(keys, trajectory, guess, config), guess
        pairs = linearise(keys, planes, trajectory, guess, config)
        if not pairs:
            return None
        errors = [p.error + p.by_motion @ motions.get(p.key, np.zeros(6)) for p in pairs]
        every = np.concatenate(errors)
        scale = 1.4826 * float(np.median(np.abs(every)))
        # far from the solution good corners lie far out: the threshold is lowered step by step
        cut = max((6.0 if iteration < 2 else 2.5) * scale, LEAST_SCALE_PX)
        variance = max(scale, 0.05) ** 2
        H, g = np.zeros((7, 7)), np.zeros(7)
        scores = np.zeros((len(keys), 7))
        backward = []
        for pair, error in zip(pairs, errors, strict=True):
            weight = 1 / (1 + (error**2).sum(1) / cut**2) ** 2 / variance
            J, M, e = pair.jacobian.reshape(-1, 7), pair.by_motion.reshape(-1, 6), error.ravel()
            w = np.repeat(weight, 2)[:, None]
            motion = motions.get(pair.key, np.zeros(6))
            Hm = (w * M).T @ M + np.diag(1 / motion_prior**2)
            cross = (w * J).T @ M
            gm = (w * M).T @ e + motion / motion_prior**2
            eliminated = cross @ np.linalg.inv(Hm)
            gradient = (w * J).T @ e - eliminated @ gm
            H += (w * J).T @ J - eliminated @ cross.T
            g += gradient
            scores[pair.key[0]] += gradient
            backward.append((pair.key, Hm, gm, cross))
        solution = Solution(guess, H, scores, scale, len(every))
        prior = np.diag(1 / PRIOR**2)
        step = np.asarray(-np.linalg.solve(H + prior, g + prior @ guess.since(start)), np.float64)
        if iteration + 1 == config.iterations or (
            iteration > 2 and (np.abs(step) < 0.005 * STEP).all()
        ):
            break
        for key, Hm, gm, cross in backward:
            shift: Array = np.linalg.solve(Hm, gm + cross.T @ step)
            motions[key] = np.asarray(motions.get(key, np.zeros(6)) - shift, np.float64)
        guess = guess.moved(step)
    return solution


#: what matters: rad, m, s. Surfaces are looked up again after a tenth of it, and steps of less
#: than 1/200 end the iterations
STEP = np.array([0.002] * 3 + [0.03] * 3 + [0.005])


def covariance(solution: Solution, blocks: int) -> tuple[Array, int]:
    """Covariance (7, 7) of a solution, and its degrees of freedom.

    The sandwich estimator with key frames gathered in blocks of neighbours (White, "Maximum
    likelihood estimation of misspecified models", 1982; Liang and Zeger 1986): corners of one frame
    and of frames nearby err together, which the normal matrix alone would not know.
    """
    prior = np.diag(1 / PRIOR**2)
    bread = np.linalg.inv(solution.information + prior)
    used = solution.scores[(solution.scores != 0).any(1)]
    groups = np.array_split(used, max(min(blocks, len(used)), 1))
    sums = np.array([group.sum(0) for group in groups])
    sums = sums - sums.mean(0)
    n = len(sums)
    meat = sums.T @ sums * (n / max(n - 1, 1))
    sandwich = bread @ (meat + prior) @ bread
    # never surer than the residuals by themselves allow
    widen = np.sqrt(np.maximum(1.0, np.diag(bread) / np.diag(sandwich)))
    return sandwich * np.outer(widen, widen), max(n - 1, 1)
