"""The calibration watch behind a live capture: on a thread of its own, the newest pair wins."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from condense_ros import wire
from condense_ros.capture import CaptureConfig, SeenPair
from condense_ros.config import parameter
from condense_ros.deskew import deskew
from condense_ros.errors import CondenseError, ConfigError
from condense_ros.frame import CameraImage, Frame
from condense_ros.geometry import inverse
from condense_ros.wire.status import OK

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CalibrationWatchConfig:
    """Whether a live capture watches the calibration of a camera against the LiDAR."""

    every_s: float = parameter(
        0.0,
        "estimate the calibration's error this often, seconds; an estimate takes seconds of one "
        "core. 0: no watch",
        low=0.0,
        high=86400.0,
    )
    camera: str = parameter("", "name of the camera to watch; empty: the first")
    deskew: bool = parameter(
        False, "clouds carry the time of every point, and the driver has not compensated motion"
    )


class CalibrationObserver:
    """Takes the pairs of a `Capture` and estimates their calibration now and then.

    Pairs that come while one is being looked at are passed over, so capture never waits.

    Args:
        config: `every_s` above 0.
        capture: topics of the capture.

    Raises:
        ConfigError: there is no cloud, or no pose, to watch the calibration with.
    """

    def __init__(self, config: CalibrationWatchConfig, capture: CaptureConfig) -> None:
        if not capture.points_topic or not capture.world_frame:
            raise ConfigError(
                "the calibration watch needs points_topic and world_frame",
                "set both, or calibration.every_s to 0",
            )
        # here, as it brings scipy, which a capture without a watch does not wait for
        from condense_ros.calibration import CalibrationWatch

        self._config = config
        self._watch = CalibrationWatch(camera=config.camera or None)
        self._next: SeenPair | None = None
        self._wake = threading.Condition()
        self._closing = False
        self._estimated_s = time.monotonic()
        #: why the last pair that could not be used could not
        self.problem = ""
        #: pairs that were looked at, and passed over
        self.looked_at = self.skipped = 0
        self._thread = threading.Thread(target=self._run, name="calibration", daemon=True)
        self._thread.start()

    def pair(self, pair: SeenPair) -> None:
        """Takes a pair."""
        with self._wake:
            self.skipped += self._next is not None
            self._next = pair
            self._wake.notify()

    def diagnose(self) -> list[str]:
        """A warning where the calibration is off, or cannot be watched."""
        level, message, _ = self._watch.diagnostics()
        found = [message] if level != OK else []
        return found + ([f"calibration watch: {self.problem}"] if self.problem else [])

    def status(self) -> wire.Diagnostic:
        """The last estimate, axis by axis."""
        level, message, values = self._watch.diagnostics()
        shown = {**values, "looked_at": self.looked_at, "skipped": self.skipped}
        return wire.Diagnostic("capture_node: calibration", level, message, shown)

    def close(self) -> None:
        """Ends the thread; an estimate that has begun is not waited for longer than 2 s."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(2.0)

    def _run(self) -> None:
        while True:
            with self._wake:
                while self._next is None and not self._closing:
                    self._wake.wait()
                if self._closing:
                    return
                pair, self._next = self._next, None
            assert pair is not None
            try:
                self._watch.add(self._frame(pair))
                self.problem = ""
                if time.monotonic() - self._estimated_s >= self._config.every_s:
                    found = self._watch.estimate()
                    self._estimated_s = time.monotonic()
                    _log.info(
                        "calibration of %s: %s, %s", found.camera, found.verdict, found.reason
                    )
            except CondenseError as error:
                self.problem = str(error)
            except Exception as error:  # the watch must not end with one bad pair
                _log.exception("the calibration watch failed on a pair; it goes on")
                self.problem = f"{type(error).__name__}: {error}"
            self.looked_at += 1

    def _frame(self, pair: SeenPair) -> Frame:
        """The watched image and the cloud of a pair.

        Raises:
            ConfigError: no such camera.
            CondenseError: messages that cannot be decoded, or a sweep whose motion is not known.
        """
        name = self._config.camera or next(iter(pair.views))
        if name not in pair.views:
            raise ConfigError(
                f"calibration.camera = {name!r} is not among the cameras of the capture",
                f"choose one of: {', '.join(pair.views)}",
            )
        stamp_ns, motion = pair.record.stamp_ns, pair.motion
        cloud = wire.decode_cloud(pair.messages["points"].raw).cloud()
        if self._config.deskew:
            cloud = deskew(cloud, stamp_ns, motion.stamps_ns, motion.T_world_points)
        message = pair.messages[f"image/{name}"]
        decode = wire.decode_image
        if message.type_name == wire.COMPRESSED_IMAGE:
            decode = wire.decode_compressed_image
        picture = decode(message.raw)
        camera, T_cam_points = pair.views[name]
        T_world = motion.at(stamp_ns)
        T_then = motion.at(message.stamp_ns)
        ego = None
        if T_world is not None and T_then is not None and message.stamp_ns != stamp_ns:
            ego = inverse(T_then) @ T_world
        image = CameraImage(name, message.stamp_ns, picture.pixels, camera, T_cam_points, ego)
        return Frame(stamp_ns, cloud, (image,), T_world, sequence="live", index=self._watch.frames)
