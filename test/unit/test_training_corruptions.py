"""Corruptions of sweeps: what physics and definitions say of each, on made and on real clouds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from condense_ros.datasets import open_dataset
from condense_ros.errors import ConfigError, FrameError
from condense_ros.frame import IGNORE, PointCloud
from condense_ros.ontology import Ontology
from condense_training.evaluate.corruptions import CORRUPTIONS, Sensor, Sweep, corrupt
from condense_training.evaluate.corruptions.fog import soft_response
from condense_training.evaluate.corruptions.ground_return import ground_return
from condense_training.evaluate.corruptions.snow import _light_left, _strongest, flakes
from condense_training.evaluate.corruptions.sweep import class_values
from condense_training.evaluate.corruptions.wet_ground import (
    fresnel_reflectance,
    reflectivity_under_water,
)

ROAD, CAR, WALL = 0, 1, 2
BEAMS, COLUMNS, HEIGHT_M = 32, 240, 1.8
SENSOR = Sensor(255.0, BEAMS, frozenset({ROAD}), frozenset({CAR}))


def street(seed: int = 0) -> Sweep:
    """A 32-beam sensor 1.8 m above a road, between cars at 8 m and walls at 20 m."""
    rng = np.random.default_rng(seed)
    ring = np.tile(np.arange(BEAMS), COLUMNS)
    azimuth = np.repeat(np.arange(COLUMNS) * 2 * np.pi / COLUMNS, BEAMS)
    elevation = np.radians(np.linspace(-28, 8, BEAMS))[ring]
    wall = np.where(azimuth % 1.0 < 0.25, 8.0, 20.0) / np.cos(elevation)
    road = np.where(elevation < 0, HEIGHT_M / np.maximum(-np.sin(elevation), 1e-9), np.inf)
    ranges = np.minimum(wall, road) * rng.normal(1, 0.002, len(ring))
    labels = np.where(road < wall, ROAD, np.where(azimuth % 1.0 < 0.25, CAR, WALL)).astype(np.uint8)
    cosine = np.where(labels == ROAD, np.maximum(-np.sin(elevation), 0.02), 1.0)
    intensity = np.round(255 * np.clip(rng.lognormal(np.log(0.2), 0.4, len(ring)), 0, 1) * cosine)
    direction = np.stack(
        [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ],
        axis=1,
    )
    return Sweep.of(PointCloud(ranges[:, None] * direction, intensity, ring), labels)


@pytest.fixture(scope="module")
def clean() -> Sweep:
    return street()


def spoiled(sweep: Sweep, name: str, frames: int = 8) -> list[list[Sweep]]:
    """Every severity of a corruption, as several frames draw it."""
    return [
        [corrupt(sweep, SENSOR, name, severity, frame=str(f)) for f in range(frames)]
        for severity in range(3)
    ]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_fields_fit_and_sources_are_true(clean: Sweep, name: str) -> None:
    for severity in range(3):
        out = corrupt(clean, SENSOR, name, severity, frame="a")
        assert len(out.labels) == len(out.source) == len(out.noise) == len(out)
        assert len(np.unique(out.source)) == len(out)
        assert out.cloud.ring is not None
        np.testing.assert_array_equal(out.cloud.ring, clean.cloud.ring[out.source])
        np.testing.assert_array_equal(
            out.labels, np.where(out.noise, IGNORE, clean.labels[out.source])
        )
        assert np.isfinite(out.cloud.xyz).all()
        assert out.cloud.intensity.min() >= 0
        assert out.cloud.intensity.max() <= 255


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_same_frame_same_corruption(clean: Sweep, name: str) -> None:
    before = clean.cloud.xyz.copy(), clean.cloud.intensity.copy(), clean.labels.copy()
    one, again, other = (corrupt(clean, SENSOR, name, 1, frame=f) for f in ("a", "a", "b"))
    np.testing.assert_array_equal(one.cloud.xyz, again.cloud.xyz)
    np.testing.assert_array_equal(one.cloud.intensity, again.cloud.intensity)
    np.testing.assert_array_equal(one.source, again.source)
    for kept, now in zip(
        before, (clean.cloud.xyz, clean.cloud.intensity, clean.labels), strict=True
    ):
        np.testing.assert_array_equal(kept, now)
    if name not in ("wet_ground", "cross_sensor"):  # which draw nothing
        differs = len(other) != len(one) or not np.array_equal(other.cloud.xyz, one.cloud.xyz)
        assert differs or not np.array_equal(other.cloud.intensity, one.cloud.intensity)


def test_fog_dims_and_never_moves_away(clean: Sweep) -> None:
    for sweeps in spoiled(clean, "fog"):
        for out in sweeps:
            solid = ~out.noise
            np.testing.assert_array_equal(out.cloud.xyz[solid], clean.cloud.xyz[solid])
            assert (out.cloud.intensity[solid] <= clean.cloud.intensity[solid]).all()
            assert (out.ranges <= clean.ranges * (1 + 1e-6)).all()
            # a fog point stays on its ray
            cross = np.cross(out.cloud.xyz[out.noise], clean.cloud.xyz[out.noise])
            assert np.abs(cross).max(initial=0) < 1e-3
    share = [np.mean([out.noise.mean() for out in sweeps]) for sweeps in spoiled(clean, "fog")]
    assert 0.0 <= share[0] < share[1] < share[2]
    assert share[2] > 0.1


def test_fog_against_an_independent_integral() -> None:
    # Robo3D's own tables hold 3.8156e-9 at 4.60 m and 4.6446e-9 at 4.70 m for these two
    for attenuation, strength, distance in ((0.06, 3.8156e-9, 4.60), (0.0, 4.6446e-9, 4.70)):
        places, integral = soft_response(attenuation)
        for target in (10.0, 30.0, 150.0):
            assert integral[round(10 * target)] == pytest.approx(strength, rel=1e-3)
            assert places[round(10 * target)] == pytest.approx(distance, abs=0.051)
    from scipy.integrate import quad

    def answer(t: float, measured: float) -> float:
        r = measured - 299_792_458.0 * t / 2
        seen = min(max((r - 0.9) / 0.1, 0.0), 1.0)
        pulse = np.sin(np.pi * t / 40e-9) ** 2
        return pulse * np.exp(-2 * 0.03 * r) / r**2 * seen if seen else 0.0

    for target in (1.5, 3.0):  # before the peak, fog is strongest right at the target
        # the receiver's view begins and ends with a kink, which adaptive quadrature has to be told
        kinks = [(target - r) * 2 / 299_792_458.0 for r in (1.0, 0.9)]
        ends = [0.0, *kinks]
        parts = [quad(answer, a, b, args=(target,))[0] for a, b in zip(ends, kinks, strict=False)]
        expected = sum(parts)
        places, integral = soft_response(0.03)
        assert integral[round(10 * target)] == pytest.approx(expected, rel=3e-3)
        assert places[round(10 * target)] == pytest.approx(target)


@given(st.floats(0.02, 1.0), st.floats(0.0, 1.0))
def test_water_keeps_energy(cosine: float, reflectivity: float) -> None:
    cos = np.array([cosine])
    sine = np.sqrt(1 - cos**2) / 1.33 * 1.0003
    below = np.sqrt(1 - sine**2)
    # amplitudes of what enters, by the other pair of Fresnel's equations
    s = 2 * 1.0003 * cos / (1.0003 * cos + 1.33 * below)
    p = 2 * 1.0003 * cos / (1.33 * cos + 1.0003 * below)
    into = 1.33 * below / (1.0003 * cos)
    for mirrored, amplitude in zip(fresnel_reflectance(cos), (s, p), strict=True):
        np.testing.assert_allclose(mirrored + into * amplitude**2, 1.0, rtol=1e-9)
    seen = reflectivity_under_water(np.array([reflectivity]), cos)
    assert 0 <= seen[0] <= reflectivity + 1e-12


def test_water_straight_below_and_flat() -> None:
    straight = fresnel_reflectance(np.array([1.0]))
    np.testing.assert_allclose(straight, ((1.33 - 1.0003) / (1.33 + 1.0003)) ** 2)
    assert (np.array(fresnel_reflectance(np.array([1e-6]))) > 0.999).all()


def test_wet_ground_touches_the_ground_alone(clean: Sweep) -> None:
    lost, mean = [], []
    for severity in range(3):
        out = corrupt(clean, SENSOR, "wet_ground", severity)
        ground = clean.labels[out.source] == ROAD
        same = clean.cloud.intensity[out.source]
        np.testing.assert_array_equal(out.cloud.intensity[~ground], same[~ground])
        assert (~ground).sum() == (clean.labels != ROAD).sum()
        assert (out.cloud.intensity[ground] <= same[ground] + 1e-4).all()
        np.testing.assert_array_equal(out.cloud.xyz, clean.cloud.xyz[out.source])
        lost.append(len(clean) - len(out))
        mean.append((out.cloud.intensity[ground] / np.maximum(same[ground], 1)).mean())
    assert lost[0] <= lost[1] <= lost[2]
    assert lost[2] > 0
    assert mean[0] > mean[1] > mean[2]


def test_wet_ground_takes_most_from_flat_angles(clean: Sweep) -> None:
    out = corrupt(clean, SENSOR, "wet_ground", 2)
    ground = (out.labels == ROAD) & (clean.cloud.intensity[out.source] > 0)
    share = out.cloud.intensity[ground] / clean.cloud.intensity[out.source][ground]
    ranges = out.ranges[ground]
    near, far = share[ranges < 5].mean(), share[ranges > 15].mean()
    assert far < near - 0.1


def test_little_ground_says_nothing_of_the_sensor(clean: Sweep) -> None:
    few = clean.keep((clean.labels != ROAD) | (np.arange(len(clean)) % 40 == 0))
    assert ground_return(few.cloud.xyz, few.brightness(SENSOR), few.labels == ROAD) is None
    assert corrupt(few, SENSOR, "wet_ground", 2) is few
    assert len(corrupt(few, SENSOR, "snow", 2)) > 0


def test_ground_return_finds_the_lines_it_was_made_with() -> None:
    rng = np.random.default_rng(3)
    xy = rng.uniform(-30, 30, (20_000, 2))
    xyz = np.c_[xy, np.full(len(xy), -2.0)]
    distance = np.linalg.norm(xyz, axis=1)
    normal = (0.4 + 0.01 * distance) * rng.uniform(0.5, 1.5, len(xy))
    found = ground_return(xyz, normal * 2.0 / distance, np.ones(len(xy), bool))
    assert found is not None
    assert found.height_m == pytest.approx(2.0)
    np.testing.assert_allclose(found.power(np.array([10.0, 20])) / 15, [0.5, 0.6], rtol=0.02)
    np.testing.assert_allclose(found.floor(np.array([10.0, 20])), [0.26, 0.312], rtol=0.05)
    np.testing.assert_allclose(found.floor_anywhere(np.array([20.0])), [0.0312], rtol=0.05)


def test_snow_has_the_published_density() -> None:
    # occupancy and mean diameter of Gunn and Marshall for 0.5 mm/h at 2 m/s, and 2.5 at 1.6
    for severity, occupied, rain in ((0, 6.944e-7, 2.23838), (2, 4.3403e-6, 34.9748)):
        density, mean = flakes(severity)
        assert mean == pytest.approx(0.01 / (25.5 * rain**-0.48), rel=1e-4)
        drawn = np.random.default_rng(0).exponential(mean, 400_000) / 2
        height = np.random.default_rng(1).uniform(-1, 1, 400_000)
        area = (np.pi * drawn**2 * (1 - height**2)).mean()
        assert density * area == pytest.approx(occupied, rel=0.02)


def test_snow_dims_hides_and_never_moves_away(clean: Sweep) -> None:
    dimmed, noise = [], []
    for sweeps in spoiled(clean, "snow"):
        for out in sweeps:
            solid = ~out.noise
            source = clean.cloud.xyz[out.source]
            np.testing.assert_array_equal(out.cloud.xyz[solid], source[solid])
            assert (out.ranges <= clean.ranges[out.source] * (1 + 1e-6)).all()
            before = clean.cloud.intensity[out.source]
            assert (out.cloud.intensity[solid] <= before[solid] + 0.501).all()
        light = [out.cloud.intensity[~out.noise].sum() for out in sweeps]
        base = [clean.cloud.intensity[out.source][~out.noise].sum() for out in sweeps]
        dimmed.append(1 - sum(light) / sum(base))
        noise.append(np.mean([out.noise.mean() for out in sweeps]))
        assert all(out.ranges[out.noise].max(initial=0) < 8 for out in sweeps)
    assert 0 < dimmed[0] < dimmed[1] < dimmed[2] < 0.2
    assert 0 < noise[0] < noise[2] < 0.1


def test_flakes_share_the_light_of_a_beam() -> None:
    beam, covers = np.array([0, 0, 2]), np.array([0.5, 0.5, 0.25])
    lit, left = _light_left(beam, covers, 4)
    np.testing.assert_allclose(lit, [1.0, 0.5, 1.0])
    np.testing.assert_allclose(left, [0.25, 1.0, 0.75, 1.0])


def test_echoes_add_up_where_pulses_overlap() -> None:
    ranges, target = np.array([20.0, 20.0, 5.0]), np.array([0.3, 0.3, 0.3])
    # beam 0: a weaker flake; beam 1: a stronger one; beam 2: one within the target's pulse (1.5 m)
    beam, distance = np.array([0, 1, 2]), np.array([2.0, 2.0, 4.5])
    place, strength = _strongest(beam, distance, np.array([0.2, 0.4, 0.1]), ranges, target)
    np.testing.assert_allclose(place, [20.0, 2.0, 5.0])
    half = 299_792_458.0 * 10e-9 / 2
    joined = 0.3 + 0.1 * np.cos(np.pi * 0.5 / (2 * half)) ** 2
    np.testing.assert_allclose(strength, [0.3, 0.4, joined])


def test_motion_blur_shakes_every_point_and_keeps_all(clean: Sweep) -> None:
    sizes = []
    for severity, deviation in enumerate((0.20, 0.25, 0.30)):
        moved = []
        for frame in range(40):
            out = corrupt(clean, SENSOR, "motion_blur", severity, frame=str(frame))
            assert len(out) == len(clean)
            np.testing.assert_array_equal(out.cloud.intensity, clean.cloud.intensity)
            shift = (out.cloud.xyz - clean.cloud.xyz).astype(np.float64)
            moved.append(shift.mean(axis=0))
            jitter = (shift - shift.mean(axis=0)).std(axis=0)
            np.testing.assert_allclose(jitter, deviation * np.array([0.1, 0.1, 0.05]), rtol=0.05)
        sizes.append(np.std(moved))
        assert sizes[-1] == pytest.approx(deviation, rel=0.25)
    assert sizes[0] < sizes[1] < sizes[2]


def test_beam_missing_takes_whole_rings(clean: Sweep) -> None:
    broken = []
    for severity, count in enumerate((8, 16, 24)):
        out = corrupt(clean, SENSOR, "beam_missing", severity, frame="a")
        left = np.unique(out.cloud.ring)
        assert len(left) == BEAMS - count
        assert {0, 1, 29, 30, 31} <= set(left.tolist())
        for ring in left:
            assert (out.cloud.ring == ring).sum() == (clean.cloud.ring == ring).sum()
        broken.append(set(range(BEAMS)) - set(left.tolist()))
    assert broken[0] < broken[1] < broken[2]  # what a light one breaks, a heavy one breaks too


def test_cross_sensor_is_a_coarser_sensor(clean: Sweep) -> None:
    for severity, beams in enumerate((24, 16, 8)):
        out = corrupt(clean, SENSOR, "cross_sensor", severity)
        rings, counts = np.unique(out.cloud.ring, return_counts=True)
        assert len(rings) == beams
        assert (counts == COLUMNS // 2).all()
    assert np.unique(corrupt(clean, SENSOR, "cross_sensor", 1).cloud.ring).tolist() == list(
        range(0, 32, 2)
    )


def test_crosstalk_displaces_a_share(clean: Sweep) -> None:
    hit = []
    for severity, share in enumerate((0.03, 0.04, 0.05)):
        out = corrupt(clean, SENSOR, "crosstalk", severity, frame="a")
        assert len(out) == len(clean)
        assert out.noise.sum() == int(share * len(clean))
        np.testing.assert_array_equal(out.cloud.xyz[~out.noise], clean.cloud.xyz[~out.noise])
        shift = (out.cloud.xyz - clean.cloud.xyz)[out.noise]
        np.testing.assert_allclose(shift.std(axis=0), 3.0, rtol=0.15)
        hit.append(set(np.nonzero(out.noise)[0].tolist()))
    assert hit[0] < hit[1] < hit[2]


def test_incomplete_echo_thins_vehicles_alone(clean: Sweep) -> None:
    cars = int((clean.labels == CAR).sum())
    assert cars > 200
    for severity, share in enumerate((0.75, 0.85, 0.95)):
        out = corrupt(clean, SENSOR, "incomplete_echo", severity, frame="a")
        assert (out.labels == CAR).sum() == cars - int(share * cars)
        assert (out.labels != CAR).sum() == (clean.labels != CAR).sum()
    few = clean.keep((clean.labels != CAR) | (np.cumsum(clean.labels == CAR) <= 10))
    assert len(corrupt(few, SENSOR, "incomplete_echo", 2)) == len(few)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 60), st.sampled_from(sorted(CORRUPTIONS)), st.integers(0, 2))
def test_clouds_of_any_size(points: int, name: str, severity: int) -> None:
    rng = np.random.default_rng(points)
    xyz = rng.normal(0, 4, (points, 3))
    xyz[: points // 5] = 0.0  # returns of no distance
    xyz[points // 5 : points // 4] = np.nan
    cloud = PointCloud(xyz, rng.integers(0, 256, points), rng.integers(0, 32, points))
    sweep = Sweep.of(cloud, rng.integers(0, 3, points).astype(np.uint8))
    out = corrupt(sweep, SENSOR, name, severity, frame="x")
    assert np.isfinite(out.cloud.xyz).all()
    assert len(out) <= len(sweep) == int(cloud.finite().sum())


def test_what_does_not_fit_is_refused(clean: Sweep) -> None:
    bare = Sweep.of(PointCloud(clean.cloud.xyz), clean.labels)
    for name in ("fog", "wet_ground", "snow"):
        with pytest.raises(FrameError, match="no intensity"):
            corrupt(bare, SENSOR, name, 0)
    for name in ("beam_missing", "cross_sensor"):
        with pytest.raises(FrameError, match="no ring"):
            corrupt(bare, SENSOR, name, 0)
    with pytest.raises(FrameError, match="intensity_scale"):
        corrupt(clean, Sensor(1.0), "fog", 0)
    with pytest.raises(FrameError, match="beams"):
        corrupt(clean, Sensor(255.0, 16), "beam_missing", 0)
    with pytest.raises(ConfigError, match="rain"):
        corrupt(clean, SENSOR, "rain", 0)
    with pytest.raises(ConfigError, match="severity"):
        corrupt(clean, SENSOR, "fog", 3)


def test_classes_are_found_by_name() -> None:
    names = ("Road", "other-ground", "car", "construction_vehicle")
    ontology = Ontology(names, np.zeros((4, 3), np.uint8))
    assert class_values(ontology, ("road", "other_ground")) == {0, 1}
    assert class_values(ontology, ("construction-vehicle", "bus")) == {3}


def test_real_intensities(data_dir: Path) -> None:
    frame = open_dataset(data_dir / "nuscenes_frame")[0]
    labels = np.full(len(frame.cloud), WALL, np.uint8)
    labels[np.abs(frame.cloud.xyz[:, 2] + 1.84) < 0.25] = ROAD
    sweep = Sweep.of(frame.cloud, labels)
    for name in ("fog", "wet_ground", "snow"):
        heavy = corrupt(sweep, SENSOR, name, 2, frame="a")
        solid = ~heavy.noise
        before = sweep.cloud.intensity[heavy.source]
        assert heavy.cloud.intensity[solid].mean() < before[solid].mean()
        np.testing.assert_array_equal(heavy.cloud.xyz[solid], sweep.cloud.xyz[heavy.source][solid])
        assert 0.5 < solid.sum() / len(sweep) < 1
