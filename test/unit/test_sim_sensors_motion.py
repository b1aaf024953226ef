"""Moving robots and moving things, against planes and places known in closed form."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_world import MOVER, WALL, WALL_X, Driving, TinyWorld, box_mover, straight

from condense_ros import sim
from condense_ros.frame import IGNORE
from condense_ros.geometry import Array, inverse, se3, transform
from condense_ros.sim.scenery import EPOCH_NS, Light, world_time_s
from condense_ros.sim.sensors.rig import Rig

IDEAL = {"range_noise_m": 0.0, "range_noise_share": 0.0, "dropout": 0.0, "azimuth_steps": 720}
CAMERA = {"name": "cam", "width": 320, "height": 240, "fx": 200.0, "fy": 200.0}
CAMERA |= {"cx": 159.5, "cy": 119.5, "xyz_m": [0.0, 0.0, 1.5]}
START_NS = EPOCH_NS + 2 * 10**9


def simulator(
    world: TinyWorld, cameras: list[dict] | None = None, **lidar: object
) -> sim.Simulator:  # type: ignore[type-arg]
    rig = Rig.from_dict({"cameras": cameras or [], "lidar": {**IDEAL, **lidar}})
    return sim.Simulator(world, rig)


def points_in_world(frame: sim.SimulatedSweep, motion: Driving, rig: Rig) -> Array:
    """Each point carried to the world from where the sensor was at the point's own time."""
    assert frame.cloud.time_s is not None
    T = motion.at(2.0 + frame.cloud.time_s.astype(np.float64)) @ rig.lidar.T_base_lidar
    return np.einsum("nij,nj->ni", T[:, :3, :3], frame.cloud.xyz) + T[:, :3, 3]


@pytest.mark.parametrize("lidar", [{}, {"model": "os1_32"}, {"model": "livox_mid40"}])
def test_points_of_a_moving_sensor_lie_on_the_walls_when_undistorted(lidar: dict) -> None:  # type: ignore[type-arg]
    motion, world = Driving(), TinyWorld()
    s = simulator(world, motion_distortion=True, **lidar)
    sweep = s.sweep(motion, START_NS)
    world_xyz = points_in_world(sweep, motion, s.rig)
    on_wall, on_floor = sweep.labels == WALL, sweep.labels == 0
    assert on_wall.sum() > 500
    np.testing.assert_allclose(world_xyz[on_wall, 0], WALL_X, atol=2e-5)
    np.testing.assert_allclose(world_xyz[on_floor, 2], 0.0, atol=2e-5)
    np.testing.assert_allclose(world_xyz, sweep.xyz_world, atol=3e-5)
    # and the truth itself to float64 precision
    np.testing.assert_allclose(sweep.xyz_world[on_wall, 0], WALL_X, atol=1e-6)


def test_motion_distortion_is_as_large_as_the_motion() -> None:
    motion, world = Driving(speed=10.0, turn=1e-9), TinyWorld()
    raw = simulator(world, motion_distortion=True)
    still = simulator(world)
    distorted, compensated = raw.sweep(motion, START_NS), still.sweep(motion, START_NS)
    T = motion.at(np.array([2.0]))[0] @ raw.rig.lidar.T_base_lidar

    def wall_error(sweep: sim.SimulatedSweep) -> Array:
        wall = sweep.labels == WALL
        return np.asarray(transform(T, sweep.cloud.xyz[wall])[:, 0] - WALL_X)

    assert np.abs(wall_error(compensated)).max() < 1e-5
    # a point taken t later is t * speed nearer than where the wall lies in the frame at the stamp
    wall = distorted.labels == WALL
    assert distorted.cloud.time_s is not None
    expected = -10.0 * distorted.cloud.time_s[wall].astype(np.float64)
    np.testing.assert_allclose(wall_error(distorted), expected, atol=2e-5)


def test_a_pose_is_a_robot_at_rest() -> None:
    world = TinyWorld(
        (box_mover(straight(np.array([6.0, 0, 0]), np.array([0, 2.0, 0])), 7, (2, 1, 2)),)
    )
    T = se3(np.eye(3), [0.5, 0.2, 0.0])
    s = simulator(world, [CAMERA], motion_distortion=True)

    class Rest:
        def at(self, t_s: Array) -> Array:
            return np.repeat(T[None], len(t_s), axis=0)

    a, b = s.frame(T, START_NS), s.frame(Rest(), START_NS)
    assert a.cloud.xyz.tobytes() == b.cloud.xyz.tobytes()
    assert a.images[0].pixels.tobytes() == b.images[0].pixels.tobytes()


def test_moving_box_is_met_where_it_is_at_each_points_own_time() -> None:
    velocity = np.array([-3.0, 4.0, 0.0])
    way = straight(np.array([14.0, -8.0, 0.0]), velocity)
    world = TinyWorld((box_mover(way, 7, (1.0, 8.0, 2.0)),))
    s = simulator(world, azimuth_steps=1440)
    for start_s in (2.0, 2.35):
        sweep = s.sweep(np.eye(4), EPOCH_NS + round(start_s * 1e9))
        hit = sweep.instance == 7
        assert hit.sum() > 300
        assert (sweep.labels[hit] == MOVER).all()
        assert sweep.cloud.time_s is not None
        time = world_time_s(EPOCH_NS + round(start_s * 1e9)) + sweep.time_s[hit]
        centre = np.array([14.0, -8.0, 0.0]) + time[:, None] * velocity
        local = sweep.xyz_world[hit] - centre
        # every hit is on one of the faces that can be seen
        face = np.stack(
            [local[:, 0] + 0.5, local[:, 1] - 4.0, local[:, 1] + 4.0, local[:, 2] - 2.0]
        )
        np.testing.assert_allclose(np.abs(face).min(axis=0), 0.0, atol=1e-6)
        assert np.abs(local[:, 0]).max() <= 0.5 + 1e-6


def test_rolling_shutter_slants_what_moves_and_what_the_robot_passes() -> None:
    speed, shutter = 5.0, 0.05
    way = straight(np.array([8.0, -10.0, 0.0]), np.array([0.0, speed, 0.0]))
    world = TinyWorld((box_mover(way, 7, (1.0, 1.0, 3.0)),))
    s = simulator(world, [{**CAMERA, "rolling_shutter_s": shutter}])
    truth = s.truth(np.eye(4), START_NS)["cam"]
    rows = np.arange(240)
    seen = truth.instance == 7
    checked = 0
    for r in rows[60:200:7]:
        if not seen[r].any():
            continue
        time = 2.0 + (r + 0.5) / 240 * shutter
        left = -10.0 + speed * time + 0.5  # y of its left edge, x of its front is 7.5
        column = 159.5 - 200.0 * left / 7.5
        # the first pixel whose centre lies on the box
        assert -1e-3 < np.nonzero(seen[r])[0].min() - column < 1.001
        checked += 1
    assert checked > 10
    # a robot that turns to the left sees a standing edge go to the right, row by row
    turning, shutter = Driving(speed=1e-6, turn=0.5), 0.4
    post = box_mover(straight(np.array([8.0, 12.0, 0]), np.zeros(3)), 9, (1.0, 1.0, 3.0))
    s = simulator(TinyWorld((post,)), [{**CAMERA, "rolling_shutter_s": shutter}])
    seen = s.truth(turning, START_NS)["cam"].instance == 9
    corners = np.array([[7.5, 11.5], [7.5, 12.5], [8.5, 11.5], [8.5, 12.5]])
    for r in (102, 115, 128, 137):
        yaw = 0.5 * (2.0 + (r + 0.5) / 240 * shutter)
        columns = 159.5 - 200.0 * np.tan(np.arctan2(corners[:, 1], corners[:, 0]) - yaw)
        found = np.nonzero(seen[r])[0]
        assert -1e-3 < found.min() - columns.min() < 1.001
        assert -1e-3 < columns.max() - found.max() < 1.001


def test_delay_moves_the_picture_and_says_so() -> None:
    motion, world = Driving(), TinyWorld()
    s = simulator(world, [{**CAMERA, "delay_s": 0.04, "depth": True}])
    image = s.frame(motion, START_NS).images[0]
    assert image.stamp_ns == START_NS + 40_000_000
    T_world_lidar = motion.at(np.array([2.0, 2.04])) @ s.rig.lidar.T_base_lidar
    assert image.ego_motion is not None
    np.testing.assert_allclose(T_world_lidar[1] @ image.ego_motion, T_world_lidar[0], atol=1e-9)
    # a wall point in the cloud at the stamp lands on the depth that the image has there
    sweep = s.sweep(motion, START_NS)
    xyz = transform(image.T_cam_cloud, sweep.cloud.xyz[sweep.labels == WALL])
    uv, depth, inside = image.camera.project(xyz)
    c, r = np.round(uv[inside]).astype(int).T
    assert image.depth is not None
    gap = np.abs(image.depth[r, c] - depth[inside])
    assert np.median(gap) < 0.05


def test_class_of_visible_points_with_movers_motion_and_rolling_shutter() -> None:
    def fill(builder) -> None:  # type: ignore[no-untyped-def]
        from tiny_world import SURFACES

        from condense_ros.sim.mesh import boxes

        low = np.array([[5.0, -3, 0], [7.0, 2.0, 0], [4.0, 5.0, 0]])
        builder.add(boxes(low, low + [0.4, 0.4, 2.2]), SURFACES["box"])

    movers = (
        box_mover(straight(np.array([6.0, -12.0, 0]), np.array([0, 6.0, 0])), 7, (1, 1.5, 1.8)),
        box_mover(straight(np.array([9.0, 15.0, 0]), np.array([0, -7.0, 0])), 8, (1.5, 3, 1.6)),
    )
    world = TinyWorld(movers, fill=fill)
    camera = {
        **CAMERA,
        "rolling_shutter_s": 0.04,
        "delay_s": 0.02,
        "distortion": [-0.1, 0.02, 0.0, 0.0],
    }
    s = simulator(world, [camera], motion_distortion=True, beams=48)
    motion, right, seen_count, free_count, on_movers = Driving(1.0, 0.1), 0, 0, 0, 0
    for k in range(4):
        stamp = START_NS + k * 200_000_000
        found = s.frame_truth(motion, stamp)
        truth, seen, sweep = found.images["cam"], found.visible["cam"], found.sweep
        uv = project_at_own_row(s, motion, stamp, sweep, movers)
        column, row = np.round(uv[seen]).astype(int).T
        labels = truth.semantic[row, column]
        right += int((labels == sweep.labels[seen]).sum())
        seen_count += int(seen.sum())
        on_movers += int(np.isin(sweep.instance[seen], (7, 8)).sum())
        # of points whose pixel lies wholly on their object none is called hidden
        inside = (np.abs(uv - [159.5, 119.5]) < [157, 117]).all(axis=1)
        c, r = np.round(uv[inside]).astype(int).T
        around = np.stack([truth.instance[r + i, c + j] for i in (-1, 0, 1) for j in (-1, 0, 1)])
        own = (around == sweep.instance[inside]).all(axis=0)
        free_count += int(own.sum())
        assert seen[inside][own].mean() > 0.995
    assert seen_count > 3000
    assert on_movers > 200
    assert free_count > 3000
    assert right / seen_count >= 0.999


def project_at_own_row(  # type: ignore[no-untyped-def]
    s: sim.Simulator, motion: Driving, stamp: int, sweep: sim.SimulatedSweep, movers
) -> Array:
    """Pixels of what gave the points, at the time of the row they land in (by bisection)."""
    spec = s.rig.cameras[0]
    time = sweep.time_s + world_time_s(stamp)
    velocity = np.zeros((len(time), 3))
    velocity[sweep.instance == 7] = [0, 6.0, 0]
    velocity[sweep.instance == 8] = [0, -7.0, 0]
    low, high = np.full(len(time), -2.0), np.full(len(time), 242.0)
    uv = np.zeros((len(time), 2))
    for _ in range(20):
        middle = (low + high) / 2
        row_s = spec.delay_s + (np.round(middle).clip(0, 239) + 0.5) / 240 * 0.04
        now = world_time_s(stamp) + row_s
        xyz = sweep.xyz_world + velocity * (now - time)[:, None]
        T = inverse(motion.at(now) @ spec.T_base_cam)
        cam = np.einsum("nij,nj->ni", T[:, :3, :3], xyz) + T[:, :3, 3]
        uv, _, _ = spec.model.project(cam)
        uv = np.nan_to_num(uv, nan=-1e6)
        uv[cam[:, 2] < 0.01] = -1e6
        below = uv[:, 1] > middle
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return uv


def test_moving_things_throw_shadows() -> None:
    light = Light(sun=(0.0, 0.0, 1.0), clouds=0.0)
    way = straight(np.array([5.0, 0.0, 3.0]), np.array([0.0, 1.0, 0.0]))
    camera = {**CAMERA, "noise": 0.0, "exposure_jitter": 0.0, "rpy_deg": [0.0, 20.0, 0.0]}
    s = simulator(TinyWorld((box_mover(way, 7, (2.0, 2.0, 0.2)),), light), [camera])
    bare = simulator(TinyWorld((), light), [camera])
    stamp = EPOCH_NS
    floor = (s.truth(np.eye(4), stamp)["cam"].semantic == 0) & (
        bare.truth(np.eye(4), stamp)["cam"].semantic == 0
    )
    spec = s.rig.cameras[0]
    with_box, without = (
        x.frame(np.eye(4), stamp).images[0].pixels.astype(float).mean(axis=2) for x in (s, bare)
    )
    ground = spec.model.rays() @ spec.T_base_cam[:3, :3].T
    where = (ground[:, :2] * (1.5 / -np.minimum(ground[:, 2:], -1e-3))).reshape(240, 320, 2)
    under = floor & (np.abs(where - [5.0, 0.0]).max(axis=2) < 0.9)
    beside = floor & (np.abs(where - [5.0, 0.0]).max(axis=2) > 1.1) & (where[..., 0] < 11)
    assert under.sum() > 200
    assert beside.sum() > 2000
    ratio = with_box / without
    bright = np.median(ratio[beside])  # the exposure follows the mean
    assert np.abs(ratio[beside] / bright - 1).max() < 0.06
    assert (ratio[under] / bright).max() < 0.75


def test_sky_stays_sky_and_nothing_is_seen_behind_the_robot() -> None:
    s = simulator(TinyWorld(), [{**CAMERA, "rpy_deg": [0.0, -60.0, 0.0]}])
    truth = s.truth(np.eye(4))["cam"]
    sky = truth.semantic == IGNORE
    assert sky.mean() > 0.9
    assert (truth.depth[sky] == 0).all()
    assert (truth.instance[sky] == -1).all()


_CHILD = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from test_sim_sensors_motion import bytes_of_frames
print(hashlib.sha256(bytes_of_frames([int(k) for k in sys.argv[2:]])).hexdigest())
"""


def bytes_of_frames(numbers: list[int], session: int = 0) -> bytes:
    way = straight(np.array([7.0, -6.0, 0]), np.array([0, 5.0, 0]))
    world = TinyWorld((box_mover(way, 7, (1, 2, 1.8)),), session=session)
    lidar = {"range_noise_m": 0.02, "dropout": 1.0, "azimuth_steps": 180}
    small = {"width": 160, "height": 120, "rolling_shutter_s": 0.02, "blur_s": 0.004}
    cameras = [{**CAMERA, **small, "blur_samples": 2}]
    s = simulator(world, cameras, motion_distortion=True, **lidar)
    out = b""
    for k in numbers:
        frame = s.frame(Driving(), START_NS + k * 10**8)
        assert frame.cloud.intensity is not None
        out += frame.cloud.xyz.tobytes() + frame.cloud.intensity.tobytes()
        out += frame.images[0].pixels.tobytes()
    return out


def test_same_seed_same_bytes_in_any_process_and_order() -> None:
    here = bytes_of_frames([0, 1, 2])
    third = len(bytes_of_frames([2]))
    assert here[-third:] == bytes_of_frames([2])
    folder = str(Path(__file__).parent)
    command = [sys.executable, "-c", _CHILD, folder, "0", "1", "2"]
    path = f"{Path(__file__).parents[1]}:{Path(__file__).parents[2]}"
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == hashlib.sha256(here).hexdigest()
    assert bytes_of_frames([2], session=1) != bytes_of_frames([2])
