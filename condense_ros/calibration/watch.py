"""`CalibrationWatch`: is the calibration still right? Asked of the data a robot records anyway."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from condense_ros.calibration.config import CalibrationConfig
from condense_ros.calibration.curves import edge_curves, motion_curves
from condense_ros.calibration.edges import align_edges, edge_frame
from condense_ros.calibration.estimate import TO_UNIT, CalibrationEstimate, cannot_tell, judge
from condense_ros.calibration.flow import AXES, view
from condense_ros.calibration.keyframes import KeyFrame, KeyFrames
from condense_ros.calibration.solve import PRIOR, Guess, covariance, solve
from condense_ros.calibration.trajectory import Trajectory
from condense_ros.datasets.base import Dataset
from condense_ros.errors import FrameError
from condense_ros.frame import CameraImage, Frame, PointCloud
from condense_ros.geometry import Array

#: fewer key frames, or corners in them, carry no interval
LEAST_KEYFRAMES = 8
LEAST_CORNERS = 300
#: fewer single frames are not asked
LEAST_SINGLES = 2
#: levels of diagnostic_msgs/DiagnosticStatus
OK, WARN = 0, 1


class CalibrationWatch:
    """Watches one camera's calibration against the LiDAR, without a target.

    `add` is cheap enough to follow a robot; `estimate` takes seconds and may run in another thread.

    Args:
        config: parameters.
        camera: name of the image to watch; the first of each frame when None.
    """

    def __init__(self, config: CalibrationConfig | None = None, camera: str | None = None) -> None:
        self.config, self.camera = config or CalibrationConfig(), camera
        self.frames = 0
        self.last: CalibrationEstimate | None = None
        self._keys = KeyFrames(self.config)
        self._given: Guess | None = None
        self._lock = threading.Lock()

    def add(self, frame: Frame) -> None:
        """Takes the next frame: deskewed cloud, image with its calibration, odometry pose.

        Frames without a pose count as single pictures only. A changed calibration, or a stamp
        before the last, starts the watch again.

        Raises:
            FrameError: the frame has no such image.
        """
        image = self._image(frame)
        with self._lock:
            last = self._keys.stamp_ns
            changed = self._given is not None and bool(
                (abs(self._given.T_cam_lidar - image.T_cam_lidar) > 1e-9).any()
            )
            if changed or (last is not None and frame.stamp_ns < last):
                self._keys, self.last = KeyFrames(self.config), None
            elif frame.stamp_ns == last:
                return
            self._given = Guess(image.T_cam_lidar)
            self._keys.add(frame, image)
            self.frames += 1

    def _image(self, frame: Frame) -> CameraImage:
        for image in frame.images:
            if self.camera is None or image.name == self.camera:
                self.camera = image.name
                return image
        names = ", ".join(image.name for image in frame.images) or "none"
        raise FrameError(
            f"frame {frame.index} of {frame.sequence!r} has no image {self.camera!r} (it has "
            f"{names})",
            "name a camera of the recording",
        )

    def estimate(self) -> CalibrationEstimate:
        """The calibration's error from all frames so far.

        Raises:
            FrameError: no frame was added yet.
        """
        with self._lock:
            given, keys = self._given, list(self._keys.done)
            singles = list(self._keys.singles)
            trajectory = self._keys.trajectory()
            figures = {"frames": float(self.frames), "aligned": float(self._keys.aligned)}
        if given is None:
            raise FrameError("the calibration watch has seen no frame", "add frames first")
        self.last = conclude(
            self.camera or "", given, keys, trajectory, singles, self.config, figures
        )
        return self.last

    def curves(self) -> tuple[dict[str, Array], str]:
        """How the misfit changes around the last estimate, for pictures.

        Returns:
            Per axis (N, 2): error in the axis' unit, misfit. Empty before the first estimate.
            What the misfit is.
        """
        with self._lock:
            given, last = self._given, self.last
            keys, singles = list(self._keys.done), list(self._keys.singles)
            trajectory = self._keys.trajectory()
        if given is None or last is None or not last.axes:
            return {}, ""
        best = Guess(last.T_cam_lidar_proposed, last.time_offset_s)
        if "corners" in last.figures and trajectory is not None:
            found, what = motion_curves(keys, trajectory, given, best, self.config), "misfit [px]"
        else:
            frames = [edge_frame(cloud, image, self.config.max_depth_m) for cloud, image in singles]
            found = edge_curves([frame for frame in frames if frame is not None], given, best)
            what = "outlines without edge"
        scaled = {name: rows * (TO_UNIT[AXES.index(name)], 1.0) for name, rows in found.items()}
        return scaled, what

    def diagnostics(self) -> tuple[int, str, dict[str, str]]:
        """(level, message, values) of the last estimate as diagnostic_msgs has them; instant."""
        last = self.last
        if last is None:
            return OK, "no estimate yet", {"frames": str(self.frames)}
        values = {
            name: f"{a.value:.4g} {a.unit} ({a.low:.4g} to {a.high:.4g}), {a.status}"
            for name, a in last.axes.items()
        }
        values |= {"camera": last.camera, "frames": str(self.frames)}
        message = f"calibration of {last.camera}: {last.verdict}, {last.reason}"
        if last.verdict == "off":
            message += "; record a drive and run `condense calib refine` on it"
        return WARN if last.verdict == "off" else OK, message, values


def conclude(
    camera: str,
    given: Guess,
    keys: list[KeyFrame],
    trajectory: Trajectory | None,
    singles: list[tuple[PointCloud, CameraImage]],
    config: CalibrationConfig,
    figures: dict[str, float] | None = None,
) -> CalibrationEstimate:
    """The estimate from what was collected.

    Motion decides where it shows all axes. Where it does not (standing, too few key frames, a
    drive straight ahead), outlines of single frames are added to what it says.
    """
    figures = dict(figures or {}) | {"key_frames": float(len(keys))}
    error, information, dof = np.zeros(7), np.zeros((7, 7)), 1
    if len(keys) >= LEAST_KEYFRAMES and trajectory is not None:
        solution = solve(keys, trajectory, given, config)
        if solution is not None and solution.residuals >= LEAST_CORNERS:
            C, dof = covariance(solution, config.blocks)
            error = solution.guess.since(given)
            information = np.asarray(np.linalg.inv(C), np.float64)
            figures |= {"corners": float(solution.residuals), "residual_px": solution.scale_px}
            estimate = judge(camera, given, error, C, dof, config, figures)
            if not any(axis.status == "unobservable" for axis in estimate.axes.values()):
                return estimate
    found = [edge_frame(cloud, image, config.max_depth_m) for cloud, image in singles]
    frames = [frame for frame in found if frame is not None]
    if len(frames) >= LEAST_SINGLES:
        outlined, by_edges, edge_dof = align_edges(frames, given)
        figures |= {
            "single_frames": float(len(frames)),
            "outlines": float(sum(len(frame.points) for frame in frames)),
        }
        # an image taken later shows the outlines where a camera moved along would: what edges
        # tell is the mounting plus offset x motion, as far as the motion is known
        seen = np.column_stack([np.eye(6), _mean_drift(given, singles, trajectory)])
        both = information + seen.T @ by_edges @ seen
        both += np.diag(1 / PRIOR**2) if not information.any() else 0.0
        pull = information @ error + seen.T @ by_edges @ outlined
        error = np.asarray(np.linalg.solve(both, pull), np.float64)
        dof = max(dof, edge_dof) if information.any() else edge_dof
        information = both
    if not information.any():
        return cannot_tell(
            camera,
            given.T_cam_lidar,
            f"{len(keys)} key frames with corners on surfaces and {len(frames)} single frames with "
            "outlines are too few; drive some tens of metres in a place with texture",
            figures,
        )
    C = np.asarray(np.linalg.inv(information), np.float64)
    return judge(camera, given, error, C, dof, config, figures)


def _mean_drift(
    given: Guess, singles: list[tuple[PointCloud, CameraImage]], trajectory: Trajectory | None
) -> Array:
    """(6,) motion of the camera per second of time offset, mean over the single frames."""
    if trajectory is None:
        return np.zeros(6)
    drifts = [view(given.T_cam_lidar, *trajectory.at(image.stamp_ns)).drift for _, image in singles]
    return np.asarray(np.mean(drifts, axis=0))


def estimate_from(
    dataset: Dataset,
    camera: str | None = None,
    config: CalibrationConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CalibrationEstimate:
    """The calibration of a recorded drive.

    Args:
        dataset: frames with images, in order of time; with poses, motion can be used.
        camera: name of the image to look at; the first when None.
        progress: called with (frames done, frames in all).

    Raises:
        FrameError: frames without that image.
    """
    return watch_dataset(dataset, camera, config, progress)[0]


def watch_dataset(
    dataset: Dataset,
    camera: str | None = None,
    config: CalibrationConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[CalibrationEstimate, CalibrationWatch]:
    """The same, with the watch that saw the frames."""
    watch = CalibrationWatch(config, camera)
    for index in range(len(dataset)):
        watch.add(dataset[index])
        if progress is not None:
            progress(index + 1, len(dataset))
    return watch.estimate(), watch
