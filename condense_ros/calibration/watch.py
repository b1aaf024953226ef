"""`CalibrationWatch`: is the calibration still right? Asked of the data a robot records anyway."""

from __future__ import annotations

import threading
from collections.abc import Callable

from condense_ros.calibration.config import CalibrationConfig
from condense_ros.calibration.estimate import CalibrationEstimate, cannot_tell, judge
from condense_ros.calibration.keyframes import KeyFrame, KeyFrames
from condense_ros.calibration.solve import Guess, covariance, solve
from condense_ros.calibration.trajectory import Trajectory
from condense_ros.datasets.base import Dataset
from condense_ros.errors import FrameError
from condense_ros.frame import CameraImage, Frame

#: fewer key frames, or corners in them, carry no interval
LEAST_KEYFRAMES = 8
LEAST_CORNERS = 300
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

        A changed calibration, or a stamp before the last, starts the watch again.

        Raises:
            FrameError: the frame has no such image, or no `T_world_lidar`.
        """
        image = self._image(frame)
        if frame.T_world_lidar is None:
            raise FrameError(
                f"frame {frame.index} of {frame.sequence!r} has no pose",
                "record odometry with the pairs: a calibration shows in how things move",
            )
        with self._lock:
            stamps = self._keys.stamps_ns
            changed = self._given is not None and bool(
                (abs(self._given.T_cam_lidar - image.T_cam_lidar) > 1e-9).any()
            )
            if changed or (stamps and frame.stamp_ns < stamps[-1]):
                self._keys, self.last = KeyFrames(self.config), None
            elif stamps and frame.stamp_ns == stamps[-1]:
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
            trajectory = self._keys.trajectory()
            figures = {"frames": float(self.frames), "aligned": float(self._keys.aligned)}
        if given is None:
            raise FrameError("the calibration watch has seen no frame", "add frames first")
        self.last = _estimate(self.camera or "", given, keys, trajectory, figures, self.config)
        return self.last

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


def _estimate(
    camera: str,
    given: Guess,
    keys: list[KeyFrame],
    trajectory: Trajectory | None,
    figures: dict[str, float],
    config: CalibrationConfig,
) -> CalibrationEstimate:
    figures["key_frames"] = float(len(keys))
    solution = None
    if len(keys) >= LEAST_KEYFRAMES and trajectory is not None:
        solution = solve(keys, trajectory, given, config)
    if solution is not None:
        figures |= {"corners": float(solution.residuals), "residual_px": solution.scale_px}
    if solution is None or solution.residuals < LEAST_CORNERS:
        return cannot_tell(
            camera,
            given.T_cam_lidar,
            f"{len(keys)} key frames with {solution.residuals if solution else 0} corners on "
            "surfaces are too few; drive some tens of metres in a place with texture",
            figures,
        )
    C, dof = covariance(solution, config.blocks)
    return judge(camera, given, solution.guess.since(given), C, dof, config, figures)


def estimate_from(
    dataset: Dataset,
    camera: str | None = None,
    config: CalibrationConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CalibrationEstimate:
    """The calibration of a recorded drive.

    Args:
        dataset: frames with images and poses, in order of time.
        camera: name of the image to look at; the first when None.
        progress: called with (frames done, frames in all).

    Raises:
        FrameError: frames without that image, or without poses.
    """
    watch = CalibrationWatch(config, camera)
    for index in range(len(dataset)):
        watch.add(dataset[index])
        if progress is not None:
            progress(index + 1, len(dataset))
    return watch.estimate()
