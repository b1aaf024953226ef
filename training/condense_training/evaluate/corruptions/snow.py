"""Snowfall: flakes shade what lies behind them, and near ones answer instead of it.

Hahner et al., "LiDAR Snowfall Simulation for Robust 3D Object Detection", CVPR 2022, with the
snowfall of Robo3D. Flakes are discs in the plane of a beam. Neighbouring beams do not overlap, so
each beam draws its own, which saves keeping millions of them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from condense_ros.geometry import Array
from condense_training.evaluate.corruptions.fog import receiver_overlap
from condense_training.evaluate.corruptions.ground_return import ground_return
from condense_training.evaluate.corruptions.sweep import Sensor, Sweep, has_class

_LIGHT_M_PER_S = 299_792_458.0
_PULSE_S = 10e-9
_DIVERGENCE_RAD = 3e-3
#: snowfall (mm of water per hour) and terminal velocity (m/s) by severity
_SNOWFALL_MM_PER_H = (0.5, 1.0, 2.5)
_VELOCITY_M_PER_S = (2.0, 1.6, 1.6)
_DENSITY_G_PER_CM3, _DIAMETER_M = 0.1, 0.003
_REFLECTIVITY = 0.9
_NOISE_FLOOR = 0.7
#: flakes beyond are left out
_FARTHEST_M = 80.0
#: diameters beyond this many means are left out (a flake in 160,000)
_LARGEST = 12.0
#: echoes weaker than a quarter of the least significant bit cannot become a point
_WEAKEST = 0.25 / 255


def flakes(severity: int) -> tuple[float, float]:
    """(flakes per square metre of a plane, mean diameter of the exponential law in metres).

    Snowfall and velocity give the share of air that is snow and the equivalent rain rate, which
    gives the diameters by Gunn and Marshall (1958).
    """
    fall, velocity = _SNOWFALL_MM_PER_H[severity], _VELOCITY_M_PER_S[severity]
    occupied = fall / (3.6e6 * _DENSITY_G_PER_CM3 * velocity)
    rain = (fall / (487 * _DENSITY_G_PER_CM3 * _DIAMETER_M * velocity)) ** 1.5
    mean = 0.01 / (25.5 * rain**-0.48)
    # a ball is cut at a height uniform over its diameter: its disc has 2/3 of the great circle
    return occupied / (np.pi / 3 * mean**2), mean


def _flakes_in_beams(
    ranges: Array, severity: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], Array, Array]:
    """Flakes in front of targets, sorted by beam and distance: (beam, distance in metres, share of
    the beam's width that the flake covers)."""
    density, mean = flakes(severity)
    reach = np.minimum(ranges, _FARTHEST_M)
    # centres fall anywhere into the beam widened by the largest flake; most then miss it
    wide = _LARGEST * mean
    area = _DIVERGENCE_RAD * reach**2 / 2 + wide * reach
    beam = np.repeat(np.arange(len(ranges)), rng.poisson(density * area))
    within = rng.random(len(beam)) * area[beam]
    distance = (np.sqrt(wide**2 + 2 * _DIVERGENCE_RAD * within) - wide) / _DIVERGENCE_RAD
    width = _DIVERGENCE_RAD * distance
    offset = (rng.random(len(beam)) - 0.5) * (width + wide)
    height = rng.uniform(-1.0, 1.0, len(beam))
    radius = rng.exponential(mean, len(beam)) / 2 * np.sqrt(1 - height**2)
    left = np.maximum(offset - radius, -width / 2)
    right = np.minimum(offset + radius, width / 2)
    hit = (right > left) & (distance > radius)
    beam, distance = beam[hit], distance[hit]
    covers = np.minimum((right - left)[hit] / width[hit], 1.0)
    order = np.lexsort((distance, beam))
    return beam[order], distance[order], covers[order]


def _light_left(beam: npt.NDArray[np.int64], covers: Array, beams: int) -> tuple[Array, Array]:
    """(share of the beam that reaches each flake, share that reaches each target).

    Flakes lie independently in the beam, so each sees the share that nearer ones have left.
    """
    loss = np.log1p(-np.minimum(covers, 1 - 1e-9))
    total = np.cumsum(loss)
    first = np.searchsorted(beam, np.arange(beams))
    start = np.concatenate([[0.0], total])[first]
    end = np.concatenate([[0.0], total])[np.searchsorted(beam, np.arange(beams), side="right")]
    return np.exp(total - loss - start[beam]), np.exp(end - start)


def _strongest(
    beam: npt.NDArray[np.int64], distance: Array, echo: Array, ranges: Array, target: Array
) -> tuple[Array, Array]:
    """(distance, strength) of the strongest echo of each beam, its target's included.

    Echoes are sin^2 pulses that add up where they overlap; the sum is looked at where one of them
    has its peak.
    """
    beams = len(ranges)
    slot = np.arange(len(beam)) - np.searchsorted(beam, beam)
    slots = int(slot.max(initial=-1)) + 2
    places, echoes = np.full((beams, slots), np.inf), np.zeros((beams, slots))
    places[:, 0], echoes[:, 0] = ranges, target
    places[beam, slot + 1], echoes[beam, slot + 1] = distance, echo
    half = _LIGHT_M_PER_S * _PULSE_S / 2
    sums = np.zeros_like(echoes)
    for other in range(slots):
        with np.errstate(invalid="ignore"):  # inf - inf where a slot is empty
            apart = np.abs(places - places[:, other : other + 1])
            near = apart < half
            height = np.where(near, np.cos(np.pi * np.where(near, apart, 0) / (2 * half)) ** 2, 0)
        sums += height * echoes[:, other : other + 1]
    sums[~np.isfinite(places)] = 0.0
    best = sums.argmax(axis=1)
    rows = np.arange(beams)
    return places[rows, best], sums[rows, best]


def snow(sweep: Sweep, sensor: Sensor, severity: int, rng: np.random.Generator) -> Sweep:
    """Dims every return by what flakes cover of its beam; a flake that answers stronger takes its
    place, and a dimmed return below the sensor's noise is lost.

    Where a sweep shows too little ground to know the noise, only returns of no strength are lost.

    Raises:
        FrameError: no intensity.
    """
    share, ranges = sweep.brightness(sensor), sweep.ranges
    beam, distance, covers = _flakes_in_beams(ranges, severity, rng)
    lit, left = _light_left(beam, covers, len(sweep))
    overlap = receiver_overlap(distance)
    echo = _REFLECTIVITY * covers * lit * overlap / np.maximum(distance, 1e-3) ** 2
    strong = echo >= _WEAKEST
    place, strength = _strongest(beam[strong], distance[strong], echo[strong], ranges, share * left)
    flake = place < ranges
    # a flake in the same pulse as its target can only lend it light it has taken away
    strength = np.where(flake, np.minimum(strength, 1.0), np.minimum(strength, share))
    strength = np.round(255 * strength) / 255
    ground = has_class(sweep.labels, sensor.ground)
    known = ground_return(sweep.cloud.xyz, share, ground)
    floor = np.zeros(len(sweep)) if known is None else known.floor_anywhere(ranges)
    dimmed = ~flake & (strength < share)
    lost = dimmed & (strength <= _NOISE_FLOOR * floor)
    xyz = sweep.cloud.xyz[flake] * (place / np.maximum(ranges, 1e-6))[flake][:, None]
    return sweep.with_brightness(strength, sensor).scatter(flake, xyz).keep(~lost)
