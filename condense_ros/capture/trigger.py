"""Which pairs are recorded: all, those after some motion, or those asked for."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from condense_ros.capture.config import CaptureConfig
from condense_ros.config import parameter
from condense_ros.errors import ConfigError
from condense_ros.geometry import Array, pose_error

MODES = ("always", "motion", "service")
POSES = ("tf", "odometry")
#: odometry poses remembered; at 200 Hz these are 20 s
_TRACK = 4096


@dataclass(frozen=True)
class TriggerConfig:
    """When a pair is recorded. Without `always`, messages outside the chosen pairs are not."""

    mode: str = parameter(
        "always", "always, motion, or service (one pair for each call of ~/trigger)"
    )
    distance_m: float = parameter(
        1.0, "motion: a pair after this way, metres; 0: not by distance", low=0.0, high=1e6
    )
    angle_deg: float = parameter(
        10.0, "motion: a pair after this turn, degrees; 0: not by angle", low=0.0, high=180.0
    )
    pose: str = parameter(
        "tf", "motion: tf (base_frame in world_frame) or odometry (of odometry_topic)"
    )

    def __post_init__(self) -> None:
        for name, value, valid in (("mode", self.mode, MODES), ("pose", self.pose, POSES)):
            if value not in valid:
                raise ConfigError(
                    f"TriggerConfig.{name} = {value!r} is unknown",
                    f"choose one of: {', '.join(valid)}",
                )
        if self.mode == "motion" and not self.distance_m and not self.angle_deg:
            raise ConfigError(
                "trigger mode motion has neither distance_m nor angle_deg",
                "give one of them above 0, or choose mode always",
            )


def check_trigger(config: CaptureConfig, trigger: TriggerConfig) -> None:
    """Checks that the pose a trigger goes by is captured.

    Raises:
        ConfigError: it is not.
    """
    if trigger.mode != "motion":
        return
    if trigger.pose == "tf" and not config.world_frame:
        raise ConfigError(
            "trigger.mode motion with trigger.pose tf needs world_frame",
            "set world_frame, or trigger.pose to odometry",
        )
    if trigger.pose == "odometry" and not config.odometry_topic:
        raise ConfigError(
            "trigger.mode motion with trigger.pose odometry needs odometry_topic",
            "set odometry_topic, or trigger.pose to tf",
        )


class OdometryTrack:
    """Recent poses of an odometry topic."""

    def __init__(self) -> None:
        self._stamps: list[int] = []
        self._poses: list[Array] = []

    def add(self, stamp_ns: int, T: Array) -> None:
        """Takes a pose; one before the newest (the clock went back) starts anew."""
        if self._stamps and stamp_ns < self._stamps[-1]:
            self.clear()
        self._stamps.append(stamp_ns)
        self._poses.append(T)
        if len(self._stamps) > 2 * _TRACK:
            del self._stamps[:_TRACK], self._poses[:_TRACK]

    def at(self, stamp_ns: int) -> Array | None:
        """The last pose at or before a stamp, or the first after it; None without any."""
        if not self._stamps:
            return None
        return self._poses[max(0, bisect_right(self._stamps, stamp_ns) - 1)]

    def clear(self) -> None:
        """Forgets all poses."""
        self._stamps.clear()
        self._poses.clear()


class Trigger:
    """Decides pair by pair."""

    def __init__(self, config: TriggerConfig) -> None:
        self.config = config
        self._asked = 0
        self._last: Array | None = None

    @property
    def always(self) -> bool:
        """Whether every pair is wanted."""
        return self.config.mode == "always"

    def ask(self) -> None:
        """The next pair is wanted whatever the motion; each call stands for one pair."""
        self._asked += 1

    def restart(self) -> None:
        """A new recording begins: its first pair is wanted, unless pairs come by service."""
        self._asked = 0
        self._last = None

    def wanted(self, T_world_base: Array | None) -> bool:
        """Whether the pair taken at a pose is recorded.

        Without a pose no motion is known; then every pair is, as too many are better than none.
        """
        if self.always:
            return True
        if self._asked:
            self._asked -= 1
        elif self.config.mode == "service" or not self._has_moved(T_world_base):
            return False
        if T_world_base is not None:
            self._last = T_world_base
        return True

    def _has_moved(self, T: Array | None) -> bool:
        if T is None or self._last is None:
            return True
        moved_m, turned_deg = pose_error(T, self._last)
        way, turn = self.config.distance_m, self.config.angle_deg
        return bool((way and moved_m >= way) or (turn and turned_deg >= turn))
