"""`CalibrationEstimate`: what is known of a calibration, axis by axis, and what follows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from condense_ros.calibration.config import CalibrationConfig
from condense_ros.calibration.flow import AXES
from condense_ros.calibration.solve import Guess
from condense_ros.geometry import Array

#: figures are shown in degrees, metres and seconds
UNITS = ("deg",) * 3 + ("m",) * 3 + ("s",)
TO_UNIT = np.array([180 / np.pi] * 3 + [1.0] * 4)


@dataclass(frozen=True)
class AxisEstimate:
    """The error of one axis of a calibration.

    Attributes:
        value: what the true calibration has more than the given one.
        low, high: its 95 % interval.
        unit: deg, m or s.
        status: "good", "off" (the whole interval lies beyond the tolerance) or "unobservable"
            (the interval is wider than the limit: these data cannot show this axis).
    """

    value: float
    low: float
    high: float
    unit: str
    status: str


@dataclass(frozen=True, eq=False)
class CalibrationEstimate:
    """The error of a camera's calibration against the LiDAR.

    The true mounting is [Exp(rotation) | translation] T_cam_lidar_given, rotation and translation
    about and along the axes of the optical frame (x right, y down, z forward); an image was really
    taken `time_offset` after its stamp, by the LiDAR's clock.

    Attributes:
        camera: its name.
        axes: `flow.AXES` -> AxisEstimate. Empty where nothing could be estimated.
        verdict: "good", "off", or "cannot tell" with `reason`.
        T_cam_lidar_given, T_cam_lidar_proposed: (4, 4). The proposal changes observable axes only.
        time_offset_s: proposed, 0 where it is unobservable.
        figures: counts and sizes behind the estimate.
    """

    camera: str
    axes: dict[str, AxisEstimate]
    verdict: str
    reason: str
    T_cam_lidar_given: Array
    T_cam_lidar_proposed: Array
    time_offset_s: float
    figures: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "camera": self.camera,
            "verdict": self.verdict,
            "reason": self.reason,
            "axes": {name: vars(axis) for name, axis in self.axes.items()},
            "T_cam_lidar_given": self.T_cam_lidar_given.tolist(),
            "T_cam_lidar_proposed": self.T_cam_lidar_proposed.tolist(),
            "time_offset_s": self.time_offset_s,
            "figures": self.figures,
        }


def cannot_tell(
    camera: str, given: Array, reason: str, figures: dict[str, float] | None = None
) -> CalibrationEstimate:
    """The estimate where the data show nothing at all."""
    return CalibrationEstimate(camera, {}, "cannot tell", reason, given, given, 0.0, figures or {})


def judge(
    camera: str,
    given: Guess,
    error: Array,
    covariance: Array,
    dof: int,
    config: CalibrationConfig,
    figures: dict[str, float],
) -> CalibrationEstimate:
    """Intervals, status per axis and verdict.

    Args:
        error: (7,) rad, m, s in the order of `flow.AXES`.
        covariance: (7, 7) of it.
        dof: degrees of freedom of the covariance (Student's t).
    """
    c = config
    floor = np.array(
        [np.radians(c.model_rotation_deg)] * 3 + [c.model_translation_m] * 3 + [c.model_time_s]
    )
    half = float(student.ppf(0.975, dof)) * np.sqrt(np.diag(covariance) + floor**2) * TO_UNIT
    value = error * TO_UNIT
    limit = [c.limit_rotation_deg] * 3 + [c.limit_translation_m] * 3 + [c.limit_time_s]
    tolerance = (
        [c.tolerance_rotation_deg] * 3 + [c.tolerance_translation_m] * 3 + [c.tolerance_time_s]
    )
    axes = {}
    for k, name in enumerate(AXES):
        certain = abs(value[k]) - half[k] > tolerance[k]
        status = "unobservable" if half[k] > limit[k] else "off" if certain else "good"
        axes[name] = AxisEstimate(
            float(value[k]),
            float(value[k] - half[k]),
            float(value[k] + half[k]),
            UNITS[k],
            status,
        )
    off = [name for name, axis in axes.items() if axis.status == "off"]
    hidden = [name for name, axis in axes.items() if axis.status == "unobservable"]
    proposal = conditional(error, covariance, np.array([n in hidden for n in AXES]))
    proposed = given.moved(proposal)
    if off:
        verdict, reason = "off", f"certainly off: {', '.join(off)}"
    elif any(name.startswith("rotation") for name in hidden):
        verdict, reason = "cannot tell", f"unobservable in these data: {', '.join(hidden)}"
    else:
        verdict = "good"
        reason = "no axis is certainly off"
        if hidden:
            reason += f"; unobservable in these data: {', '.join(hidden)}"
    return CalibrationEstimate(
        camera,
        axes,
        verdict,
        reason,
        given.T_cam_lidar,
        proposed.T_cam_lidar,
        proposed.offset_s,
        figures,
    )


def conditional(error: Array, covariance: Array, hidden: npt.NDArray[np.bool_]) -> Array:
    """The error (7,) if its hidden axes are exactly zero, as the given calibration says."""
    out = error.copy()
    if hidden.any():
        shown = ~hidden
        gain = covariance[np.ix_(shown, hidden)] @ np.linalg.pinv(
            covariance[np.ix_(hidden, hidden)]
        )
        out[shown] = error[shown] - gain @ error[hidden]
        out[hidden] = 0.0
    return out
