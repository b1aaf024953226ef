"""Sensors against their data sheets and noise models: beams, patterns, depth, glass, light."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tiny_world import BOX, FLOOR, SURFACES, WALL, WALL_X, TinyWorld

from condense_ros import sim
from condense_ros.errors import ConfigError, GeometryError
from condense_ros.geometry import inverse, se3, transform
from condense_ros.resources import config_file
from condense_ros.sim.materials import TEXTURES, Surface, SurfaceTable
from condense_ros.sim.mesh import MeshBuilder, boxes, quads
from condense_ros.sim.scenery import EPOCH_NS, Light
from condense_ros.sim.sensors.beams import MODELS
from condense_ros.sim.sensors.lamps import Lamps
from condense_ros.sim.sensors.lidar import behind_body
from condense_ros.sim.sensors.rgbd import axial_noise_m
from condense_ros.sim.sensors.rig import LidarSpec, Rig

IDEAL = {"range_noise_m": 0.0, "range_noise_share": 0.0, "dropout": 0.0, "intensity_noise": 0.0}
CAMERA = {"name": "cam", "width": 320, "height": 240, "fx": 200.0, "fy": 200.0}
CAMERA |= {"cx": 159.5, "cy": 119.5, "xyz_m": [0.0, 0.0, 1.5]}
QUIET = {**CAMERA, "noise": 0.0, "exposure_jitter": 0.0}


def lidar(model: str, **values: object) -> LidarSpec:
    return Rig.from_dict({"cameras": [], "lidar": {"model": model, **values}}).lidar


def simulator(world: TinyWorld, cameras: list | None = None, **values: object) -> sim.Simulator:  # type: ignore[type-arg]
    rig = {"cameras": cameras or [], "lidar": {**IDEAL, **values}}
    return sim.Simulator(world, Rig.from_dict(rig))


def panel(x: float, surface: Surface):  # type: ignore[no-untyped-def]
    """Fills a world with a pane across the x axis, 8 m wide and 6 m high."""

    def fill(builder: MeshBuilder) -> None:
        builder.add(quads(np.array([[x, -4, -1], [x, 4, -1], [x, 4, 5], [x, -4, 5.0]])), surface)

    return fill


@pytest.mark.parametrize(
    ("model", "beams", "lowest", "highest"),
    [
        ("vlp16", 16, -15.0, 15.0),
        ("vlp32c", 32, -25.0, 15.0),
        ("hdl32e", 32, -30.67, 10.67),
        ("hdl64e", 64, -24.33, 2.0),
        ("pandar64", 64, -25.0, 15.0),
        ("os1_64", 64, -22.5, 22.5),
        ("os1_128", 128, -22.5, 22.5),
    ],
)
def test_vertical_layouts_are_those_of_data_sheets(
    model: str, beams: int, lowest: float, highest: float
) -> None:
    spec = lidar(model)
    shots = spec.shots()
    assert spec.beams == beams
    assert len(shots.direction) == beams * spec.azimuth_steps
    np.testing.assert_allclose(np.linalg.norm(shots.direction, axis=1), 1.0)
    elevation = np.degrees(np.arcsin(shots.direction[:beams, 2]))
    assert (np.diff(elevation) > 0).all()
    assert elevation[0] == pytest.approx(lowest, abs=0.01)
    assert elevation[-1] == pytest.approx(highest, abs=0.01)
    assert (shots.ring[:beams] == np.arange(beams)).all()
    assert shots.time_s[-1] == pytest.approx(spec.period_s * (1 - 1 / spec.azimuth_steps))


def test_layouts_that_are_not_even() -> None:
    vlp32c = np.diff(lidar("vlp32c").elevations_deg)
    assert vlp32c.min() == pytest.approx(0.333, abs=0.002)
    assert vlp32c.max() > 9
    hdl64 = np.array(lidar("hdl64e").elevations_deg)
    assert np.diff(hdl64)[:30] == pytest.approx(0.5, abs=1e-3)
    assert np.diff(hdl64)[33:] == pytest.approx(1 / 3, abs=1e-3)
    # the lasers of an Ouster look in four directions side by side
    first = lidar("os1_64").shots().direction[:64]
    azimuth = np.degrees(np.arctan2(first[:, 1], -first[:, 0]))
    assert len(np.unique(np.round(azimuth, 2))) == 4


def test_values_beside_a_model_go_before_its_own() -> None:
    assert lidar("vlp16", azimuth_steps=900).azimuth_steps == 900
    assert lidar("vlp16").azimuth_steps == MODELS["vlp16"]["azimuth_steps"]
    for values, words in (
        ({"model": "vlp99"}, "vlp99"),
        ({"pattern": "spiral"}, "spiral"),
        ({"beams": 4, "elevations_deg": [0.0, 1.0]}, "elevations_deg"),
        ({"beams": 2, "elevations_deg": [1.0, 0.0]}, "lowest first"),
        ({"pattern": "rosette", "field_deg": [10.0]}, "field_deg"),
        ({"pattern": "depth_camera", "camera": "none"}, "gives no depth"),
    ):
        with pytest.raises(ConfigError, match=words):
            Rig.from_dict({"cameras": [], "lidar": values})


def test_a_rosette_fills_its_cone_from_sweep_to_sweep_and_never_repeats() -> None:
    spec = lidar("livox_mid40")
    sweeps = [spec.shots(EPOCH_NS + k * 10**8) for k in range(10)]
    again = spec.shots(EPOCH_NS)
    assert again.direction.tobytes() == sweeps[0].direction.tobytes()
    angle = [np.degrees(np.arccos(s.direction[:, 0])) for s in sweeps]
    assert max(a.max() for a in angle) == pytest.approx(19.2, abs=0.1)
    assert (np.diff(sweeps[0].time_s) > 0).all()

    def cells(shots: list) -> int:  # type: ignore[type-arg]
        d = np.concatenate([s.direction for s in shots])
        return len(np.unique(np.round(np.degrees(d[:, 1:]) * 4).astype(int), axis=0))

    assert cells(sweeps) > 1.5 * cells(sweeps[:1])
    # neighbouring points of a sweep are near: a beam sweeps, it does not jump
    step = np.linalg.norm(np.diff(sweeps[0].direction, axis=0), axis=1)
    assert np.degrees(step.max()) < 1.0
    assert set(lidar("livox_avia").shots().ring.tolist()) == set(range(6))


def test_a_raster_goes_to_and_fro_over_its_field() -> None:
    spec = lidar("mems_120")
    shots = spec.shots()
    azimuth = np.degrees(np.arctan2(shots.direction[:, 1], shots.direction[:, 0]))
    rows = azimuth.reshape(spec.beams, spec.azimuth_steps)
    assert (np.diff(rows[0]) < 0).all()
    assert (np.diff(rows[1]) > 0).all()
    assert np.abs(azimuth).max() == pytest.approx(60.0, abs=0.2)
    assert np.abs(np.degrees(np.arcsin(shots.direction[:, 2]))).max() < 12.5
    assert (np.diff(shots.time_s) > 0).all()


def test_range_noise_grows_with_range() -> None:
    world = TinyWorld()
    noise = {"range_noise_m": 0.01, "range_noise_share": 0.002}
    s = simulator(world, beams=64, azimuth_steps=2000, max_range_m=60.0, **noise)
    sweep = s.sweep(np.eye(4), EPOCH_NS)
    true = np.linalg.norm(sweep.xyz_world - [0, 0, 1.73], axis=1)
    error = np.linalg.norm(sweep.cloud.xyz, axis=1) - true
    for low, high in ((3, 6), (12, 15), (40, 50)):
        rows = (true > low) & (true < high)
        expected = 0.01 + 0.002 * true[rows].mean()
        assert error[rows].std() == pytest.approx(expected, rel=0.12)
        assert abs(error[rows].mean()) < 4 * expected / np.sqrt(rows.sum())


def test_pulses_pass_glass_as_often_as_it_lets_them() -> None:
    pane = Surface(BOX, "plain", (0.3, 0.3, 0.3), reflectance=0.4, glass=0.7)
    world = TinyWorld(fill=panel(6.0, pane))
    real = simulator(world, beams=64, azimuth_steps=2000, dropout=1.0).sweep(np.eye(4), 5)
    # rays of the middle: their wall lies behind the pane
    middle = straight_ahead(real)
    behind = (real.labels == WALL)[middle].mean()
    assert behind == pytest.approx(0.7, abs=0.03)
    np.testing.assert_allclose(real.xyz_world[real.labels == WALL, 0], WALL_X, atol=1e-6)
    ideal = simulator(world).sweep(np.eye(4), 5)
    assert (ideal.labels[straight_ahead(ideal)] == BOX).all()


def straight_ahead(sweep: sim.SimulatedSweep) -> np.ndarray:
    x, y, z = sweep.cloud.xyz.T
    return np.asarray((x > 0) & (np.abs(y) < 0.5 * x) & (z > -0.1 * x) & (z < 0.2 * x))


def test_foil_shines_and_wet_ground_sends_less_back() -> None:
    foil = Surface(BOX, "plain", (0.5, 0.5, 0.5), reflectance=0.3, retro=0.8)
    sweep = simulator(TinyWorld(fill=panel(8.0, foil))).sweep(np.eye(4), 5)
    assert sweep.cloud.intensity is not None
    assert sweep.cloud.intensity[sweep.labels == BOX].min() > 0.9
    assert sweep.cloud.intensity[sweep.labels == WALL].max() < 0.65
    counts = []
    for wet in (0.0, 1.0):
        world = TinyWorld(light=Light(wet=wet))
        counts.append(simulator(world, dropout=1.0, beams=64).sweep(np.eye(4), 5))
    floor, wall = (
        [int(((s.labels == label) & (s.hits.range_m > 20)).sum()) for s in counts]
        for label in (FLOOR, WALL)
    )
    assert floor[1] < 0.6 * floor[0]
    assert wall[1] == pytest.approx(wall[0], rel=0.01)


RGBD = {"depth": True, "depth_noise": 1.0, "depth_max_m": 20.0}


@pytest.mark.parametrize("distance", [1.0, 2.0, 3.5])
def test_depth_noise_is_that_of_its_model(distance: float) -> None:
    wall = SURFACES["wall"]
    world = TinyWorld(fill=panel(distance, wall))
    s = simulator(world, [{**CAMERA, **RGBD}])
    depth = s.frame(np.eye(4), 3).images[0].depth
    assert depth is not None
    error = depth[60:150, 100:220] - distance
    # Nguyen et al. 2012, equation 2
    expected = 0.0012 + 0.0019 * (distance - 0.4) ** 2
    assert error.std() == pytest.approx(expected, rel=0.03)
    assert abs(error.mean()) < 0.05 * expected
    assert axial_noise_m(np.array([2.0]), np.array([1.4]))[0] > 1.5 * axial_noise_m(
        np.array([2.0]), np.array([0.2])
    )


def test_depth_has_holes_where_such_sensors_have_them() -> None:
    dark = Surface(BOX, "plain", (0.05, 0.05, 0.05), reflectance=0.01)

    def fill(builder: MeshBuilder) -> None:
        builder.add(boxes([2.0, -0.3, 0.5], [2.2, 0.3, 2.0]), SURFACES["box"])
        builder.add(boxes([3.0, 0.8, 0.8], [3.2, 1.6, 2.0]), dark)

    world = TinyWorld(fill=fill)
    holes = {**RGBD, "depth_noise": 0.0, "depth_holes": 1.0, "depth_min_m": 0.5, "depth_max_m": 8.0}
    s = simulator(world, [{**CAMERA, **holes}])
    found = s.frame_truth(np.eye(4), 3)
    delivered, truth = found.frame.images[0].depth, found.images["cam"]
    assert delivered is not None
    missing = delivered == 0
    box = (truth.semantic == BOX) & (truth.depth < 2.5)
    black = (truth.semantic == BOX) & (truth.depth > 2.5)
    assert missing[truth.depth > 8.0].all()
    assert missing[black].mean() > 0.8
    assert missing[box].mean() < 0.25
    # the projector stands to the right: what lies left of the box behind it is in its shadow
    columns = np.nonzero(box.any(axis=0))[0]
    rows = np.nonzero(box.any(axis=1))[0]
    middle = slice(rows[5], rows[-5])
    shadow = missing[middle, columns[0] - 4 : columns[0] - 1]
    assert shadow.mean() > 0.95
    at_edge = missing[middle, [columns[0], columns[-1]]].mean()
    assert 0.5 < at_edge < 0.95
    assert np.array_equal(delivered[~missing], truth.depth[~missing])


def test_the_cloud_of_a_depth_camera_is_its_depth_image() -> None:
    rig = Rig.named("indoor_rgbd")
    s = sim.Simulator(TinyWorld(fill=panel(3.0, SURFACES["box"])), rig)
    frame = s.frame(np.eye(4), 3)
    depth_image = frame.images[1]
    assert depth_image.depth is not None
    assert frame.images[0].depth is None
    # the colour camera stands beside it: 25 mm apart
    apart = depth_image.T_cam_lidar @ inverse(frame.images[0].T_cam_lidar)
    assert np.linalg.norm(apart[:3, 3]) == pytest.approx(0.025)
    np.testing.assert_allclose(depth_image.T_cam_lidar[:3, 3], 0, atol=1e-12)
    uv, z, inside = depth_image.camera.project(transform(depth_image.T_cam_lidar, frame.cloud.xyz))
    assert inside.all()
    np.testing.assert_allclose(uv, np.round(uv), atol=2e-3)
    c, r = np.round(uv).astype(int).T
    np.testing.assert_allclose(depth_image.depth[r, c], z, rtol=1e-5)
    assert len(frame.cloud) > 0.7 * 640 * 480 / 4
    grey = depth_image.pixels.astype(int)
    assert np.ptp(grey, axis=2).max() < 60  # one brightness and the noise of three channels
    alone = s.frame(np.eye(4), 3, images=False)
    assert alone.images == ()
    assert alone.cloud.xyz.tobytes() == frame.cloud.xyz.tobytes()


def test_lamps_light_what_they_see() -> None:
    def table(builder: MeshBuilder) -> None:
        builder.add(boxes([4.0, -1.0, 1.0], [6.0, 1.0, 1.05]), SURFACES["floor"])

    light = Light(
        sun_rgb=(0, 0, 0), ambient_rgb=(0.05, 0.05, 0.05), lamps=((5.0, 0.0, 2.6),), haze_m=1e6
    )
    camera = {**QUIET, "rpy_deg": [0.0, 15.0, 0.0]}
    dark = simulator(TinyWorld(light=light, fill=table), [camera])
    free = simulator(TinyWorld(light=light), [camera])
    spec = free.rig.cameras[0]
    ray = spec.model.rays() @ spec.T_base_cam[:3, :3].T
    floor = (ray * (1.5 / -np.minimum(ray[:, 2:], -1e-3)))[:, :2].reshape(240, 320, 2)
    truth = dark.truth(np.eye(4))["cam"]
    under = (np.abs(floor - [5.0, 0.0]) < [0.8, 0.8]).all(axis=2) & (truth.semantic == FLOOR)
    under &= truth.depth > 4.0
    assert under.sum() > 20
    shown, bare = (
        (s.frame(np.eye(4), 3).images[0].pixels.mean(axis=2) / 255) ** 2.2 for s in (dark, free)
    )
    aside = (np.abs(floor - [9.0, 0.0]) < 0.5).all(axis=2)
    assert bare[under].mean() > 2 * bare[aside].mean()
    assert shown[under].mean() < 0.75 * shown[aside].mean()
    # Lambert's law and the square of the distance, brought to zero at the reach of 10 m
    # 2 mm above the floor, as everything that is lit: on it, the floor itself is in the way
    xyz = np.float32([[5, 0, 0.002], [5, 3, 0.002], [5, 12, 0.002]])
    up = np.float32([[0, 0, 1]] * 3)
    got = Lamps(light.lamps, light.lamp_rgb).light(free.stage, xyz, up, 0.0)
    up_m = 2.598
    for row, d in zip(got[:2], (up_m, np.hypot(up_m, 3.0)), strict=True):
        expected = up_m / d / (d * d + 0.05) * (1 - d * d / 100) ** 2
        np.testing.assert_allclose(row, expected * np.array(light.lamp_rgb), rtol=1e-4)
    assert (got[2] == 0).all()


def test_lenses_fisheye_vignetting_blur_and_infrared() -> None:
    world = TinyWorld(fill=panel(4.0, SURFACES["box"]))
    fish = {
        **QUIET,
        "lens": "fisheye",
        "fx": 90.0,
        "fy": 90.0,
        "distortion": [-0.03, 0.004, 0, 0.0],
    }
    s = simulator(world, [fish])
    image, truth = s.frame(np.eye(4), 3).images[0], s.truth(np.eye(4))["cam"]
    assert image.camera.model == "fisheye"
    # a wall straight ahead is seen up to the sides: rays that a pinhole has none of
    assert truth.semantic[119, 159] == BOX
    assert (truth.semantic[119, [46, 273]] == WALL).all()  # 75 degrees off the axis
    sweep = s.sweep(np.eye(4), 3)
    uv, _, inside = image.camera.project(transform(image.T_cam_lidar, sweep.cloud.xyz))
    c, r = np.round(uv[inside]).astype(int).T
    assert (truth.semantic[r, c] == sweep.labels[inside]).mean() > 0.95
    plain = simulator(world, [QUIET]).frame(np.eye(4), 3).images[0].pixels.astype(float)
    dim = simulator(world, [{**QUIET, "vignetting": 1.0}]).frame(np.eye(4), 3).images[0].pixels
    share = (dim / np.maximum(plain, 1)) ** 2.2
    ray = sim.CameraSpec(**{**QUIET, "xyz_m": (0.0, 0, 1.5)}).model.rays()  # type: ignore[arg-type]
    cosine = (1 / np.linalg.norm(ray, axis=1)).reshape(240, 320)
    flat = (plain.max(axis=2) < 250) & (plain.min(axis=2) > 30)
    assert np.abs(share[flat].mean(axis=1) / cosine[flat] ** 4 - 1).mean() < 0.05
    grey = simulator(world, [{**QUIET, "infrared": True}]).frame(np.eye(4), 3).images[0].pixels
    assert np.ptp(grey, axis=2).max() == 0

    class Turning:
        def at(self, t_s):  # type: ignore[no-untyped-def]
            T = np.repeat(np.eye(4)[None], len(t_s), axis=0)
            a = 2.0 * np.asarray(t_s)
            T[:, 0, 0] = T[:, 1, 1] = np.cos(a)
            T[:, 1, 0], T[:, 0, 1] = np.sin(a), -np.sin(a)
            return T

    sharp = simulator(world, [QUIET]).frame(Turning(), EPOCH_NS).images[0].pixels
    blurred = simulator(world, [{**QUIET, "blur_s": 0.03, "blur_samples": 8}])
    soft = blurred.frame(Turning(), EPOCH_NS).images[0].pixels
    across = [np.abs(np.diff(p[110].astype(float), axis=0)).max() for p in (sharp, soft)]
    assert across[1] < 0.6 * across[0]


def test_textures_differ_and_stay_colours(rng: np.random.Generator) -> None:
    table = SurfaceTable([Surface(0, name, (0.2, 0.3, 0.1), (0.8, 0.7, 0.9)) for name in TEXTURES])
    n = 4000
    xyz = rng.uniform(-5, 5, (n, 3)).astype(np.float32)
    normal = np.tile(np.float32([0, -1, 0]), (n, 1))
    means = []
    for row in range(len(TEXTURES)):
        rows = np.full(n, row, np.int32)
        colour = table.albedo(rows, xyz, normal, np.full(n, 5, np.float32))
        assert np.isfinite(colour).all()
        assert 0.01 <= colour.min() <= colour.max() <= 0.97
        means.append(colour.std())
    assert len(TEXTURES) == 15
    assert min(means[1:]) > 0.02
    joined = SurfaceTable.join([table, table])
    assert len(joined) == 30
    rows = np.arange(30, dtype=np.int32)
    some = joined.albedo(rows, xyz[:1].repeat(30, 0), normal[:30], np.full(30, 5, np.float32))
    np.testing.assert_array_equal(some[:15], some[15:])


RIGS = sorted(path.stem for path in config_file("rigs/town_default.yaml").parent.glob("*.yaml"))


@pytest.mark.parametrize("name", RIGS)
def test_shipped_rigs_load_survive_yaml_and_see(name: str, tmp_path: Path) -> None:
    rig = Rig.named(name)
    path = tmp_path / "rig.yaml"
    path.write_text(rig.to_yaml())
    assert Rig.from_yaml(path) == rig
    assert 1 <= len(rig.cameras) <= 8
    small = tuple(
        dataclasses.replace(
            c,
            width=c.width // 8,
            height=c.height // 8,
            fx=c.fx / 8,
            fy=c.fy / 8,
            cx=(c.cx + 0.5) / 8 - 0.5,
            cy=(c.cy + 0.5) / 8 - 0.5,
        )
        for c in rig.cameras
    )
    world = TinyWorld(fill=panel(4.0, SURFACES["box"]))
    frame = sim.Simulator(world, dataclasses.replace(rig, cameras=small)).frame(
        se3(np.eye(3), [0.1, 0.2, 0.0]), EPOCH_NS
    )
    assert [image.name for image in frame.images] == [c.name for c in rig.cameras]
    assert len(frame.cloud) > 500
    with pytest.raises(ConfigError, match="no rig"):
        Rig.named("nothing")


def test_a_pinhole_that_folds_is_refused_and_a_fisheye_is_dark_outside_its_circle() -> None:
    folds = {**QUIET, "distortion": [-0.6, 0.05, 0.0, 0.0]}
    with pytest.raises(GeometryError, match="one-to-one"):
        simulator(TinyWorld(), [folds])
    circle = {**QUIET, "lens": "fisheye", "fx": 60.0, "fy": 60.0, "distortion": [-0.1, 0, 0, 0.0]}
    s = simulator(TinyWorld(), [circle])
    frame, truth = s.frame(np.eye(4), 3), s.truth(np.eye(4))["cam"]
    assert frame.images[0].pixels[:5, :5].max() < 40
    assert (truth.semantic[:5, :5] == 255).all()


def test_the_robot_hides_what_lies_behind_its_own_roof() -> None:
    """A roof 0.4 m below the sensor and 1 m long each way: tan(21.8 degrees) = 0.4 / 1."""
    body = (-1.0, -0.5, 0.0, 1.0, 0.5, 1.6)
    spec = LidarSpec(xyz_m=(0.0, 0.0, 2.0), body=body)

    def pulse(down_deg: float, left_deg: float) -> list[float]:
        down, left = np.radians(down_deg), np.radians(left_deg)
        level = [np.cos(down) * np.cos(left), np.cos(down) * np.sin(left)]
        return [*level, -np.sin(down)]

    pulses = [pulse(22.5, 0), pulse(21.0, 0), pulse(22.5, 90), pulse(39.5, 90), pulse(-30, 0)]
    hidden = behind_body(spec, np.array(pulses))
    # to the side the roof ends at 0.5 m: tan(38.7 degrees) = 0.4 / 0.5
    assert hidden.tolist() == [True, False, False, True, False]
    turned = behind_body(dataclasses.replace(spec, rpy_deg=(0.0, 0.0, 90.0)), np.array(pulses))
    assert turned.tolist() == [False, False, True, True, False]
    assert not behind_body(LidarSpec(), np.array(pulses)).any()
    with pytest.raises(ConfigError, match="body"):
        LidarSpec(body=(1.0, 2.0))
