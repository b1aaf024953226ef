"""Eight ways in which weather, motion and sensors spoil a sweep, each at three severities.

They are those of Robo3D (Kong et al., ICCV 2023), with its parameters for nuScenes-C, made anew
from the physics and the definitions: one module per family, one pure function per corruption.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import numpy as np

from condense_ros.errors import ConfigError
from condense_training.evaluate.corruptions.beams import beam_missing, cross_sensor
from condense_training.evaluate.corruptions.crosstalk import crosstalk
from condense_training.evaluate.corruptions.echo import incomplete_echo
from condense_training.evaluate.corruptions.fog import fog
from condense_training.evaluate.corruptions.motion import motion_blur
from condense_training.evaluate.corruptions.snow import snow
from condense_training.evaluate.corruptions.sweep import SEVERITIES, Sensor, Sweep
from condense_training.evaluate.corruptions.wet_ground import wet_ground

__all__ = ["CORRUPTIONS", "SEVERITIES", "Corruption", "Sensor", "Sweep", "corrupt"]

#: (sweep, sensor, severity 0..2, random generator) -> corrupted sweep; a pure function
Corruption = Callable[[Sweep, Sensor, int, np.random.Generator], Sweep]

#: in the order of the published tables
CORRUPTIONS: Mapping[str, Corruption] = {
    "fog": fog,
    "wet_ground": wet_ground,
    "snow": snow,
    "motion_blur": motion_blur,
    "beam_missing": beam_missing,
    "crosstalk": crosstalk,
    "incomplete_echo": incomplete_echo,
    "cross_sensor": cross_sensor,
}


def _generator(seed: int, frame: str, corruption: str) -> np.random.Generator:
    name = hashlib.sha256(f"{frame}\0{corruption}".encode()).digest()
    return np.random.default_rng([seed, *np.frombuffer(name[:16], np.uint32).tolist()])


def corrupt(
    sweep: Sweep, sensor: Sensor, corruption: str, severity: int, *, seed: int = 0, frame: str = ""
) -> Sweep:
    """One corruption of one frame; the same arguments give the same sweep.

    All severities of a frame start from the same random numbers, so what is lost at a light one is
    lost at a heavy one too, and their difference is not the luck of a draw.

    Args:
        sweep: finite points (`Sweep.of_frame` makes one).
        frame: name of the frame, unique within the data.

    Raises:
        ConfigError: no such corruption or severity.
        FrameError: the cloud lacks what the corruption needs (intensity, rings).
    """
    if corruption not in CORRUPTIONS:
        raise ConfigError(
            f"unknown corruption {corruption!r}", f"use one of: {', '.join(CORRUPTIONS)}"
        )
    if severity not in range(len(SEVERITIES)):
        raise ConfigError(f"severity {severity} does not exist", f"use 0 to {len(SEVERITIES) - 1}")
    return CORRUPTIONS[corruption](sweep, sensor, severity, _generator(seed, frame, corruption))
