"""The simulator's geometry against plane equations, cameras and itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from condense_ros import sim
from condense_ros.errors import GeometryError
from condense_ros.frame import IGNORE
from condense_ros.geometry import CameraModel, inverse, project_cloud, transform
from condense_ros.sim.materials import Surface, SurfaceTable
from condense_ros.sim.mesh import Mesh, leaves, quads, revolve
from condense_ros.sim.sensors.raycast import RayScene

SMALL = sim.WorldConfig(columns=3, rows=2, block_m=70.0)
#: every hit comes back, and where it is
IDEAL = {"range_noise_m": 0.0, "dropout": 0.0}
DISTORTED = {
    "name": "wide",
    "fx": 330.0,
    "fy": 332.0,
    "distortion": [-0.2, 0.04, 0.001, -0.0008],
    "xyz_m": [0.2, 0.4, 1.4],
    "rpy_deg": [0.0, 4.0, 35.0],
}


def scene_of(triangles: np.ndarray) -> RayScene:
    surfaces = SurfaceTable([Surface(0, "plain", (0.5, 0.5, 0.5))])
    zeros = np.zeros(len(triangles), np.int32)
    return RayScene(Mesh(triangles.astype(np.float32), zeros, zeros, surfaces))


@pytest.fixture(scope="module")
def town() -> sim.World:
    return sim.World(3, SMALL)


@pytest.fixture(scope="module")
def simulator(town: sim.World) -> sim.Simulator:
    rig = sim.Rig.from_dict({"cameras": [{"depth": True}, DISTORTED], "lidar": IDEAL})
    return sim.Simulator(town, rig)


@settings(max_examples=40, deadline=None)
@given(
    tilt=st.floats(-0.9, 0.9),
    turn=st.floats(-3.1, 3.1),
    distance=st.floats(1.0, 80.0),
)
def test_range_to_a_plane_is_exact(tilt: float, turn: float, distance: float) -> None:
    n = np.array([np.cos(tilt) * np.cos(turn), np.cos(tilt) * np.sin(turn), np.sin(tilt)])
    a = np.cross(n, [0.0, 0.0, 1.0])
    a /= np.linalg.norm(a)
    b = np.cross(n, a)
    corners = np.array([-a - b, a - b, a + b, -a + b]) * 500 + n * distance
    scene = scene_of(quads(corners))
    # the plane as Embree and the solver hold it: float32 corners
    p = scene.mesh.triangles.astype(np.float64)
    rays = np.random.default_rng(1).normal(size=(200, 3)) + 2 * n
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    hits = scene.cast(np.zeros(3), rays)
    for k in np.nonzero(hits.triangle >= 0)[0]:
        q = p[hits.triangle[k]]
        m = np.cross(q[1] - q[0], q[2] - q[0])
        assert hits.range_m[k] == pytest.approx((m @ q[0]) / (m @ rays[k]), abs=1e-6)
    towards = scene.cast(np.zeros(3), n[None])
    assert towards.range_m[0] == pytest.approx(distance, abs=2e-4)  # corners rounded at 500 m


def test_sphere_of_facets_is_met_between_its_inner_and_outer_radius(
    rng: np.random.Generator,
) -> None:
    polar = np.linspace(0.0005, np.pi - 0.0005, 180)
    shape = revolve(np.column_stack([2 * np.sin(polar), -2 * np.cos(polar)]), 360)
    scene = scene_of(shape)
    rays = rng.normal(size=(5000, 3))
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    met = scene.cast(rays * 10.0, -rays)
    # the sagitta of facets 1 and 1 degree wide: 2 (1 - cos 0.5 deg) twice
    assert (met.triangle >= 0).all()
    assert (met.range_m >= 8 - 1e-6).all()
    assert (met.range_m <= 8 + 4 * (1 - np.cos(np.radians(0.55)))).all()


def test_range_to_a_sphere_is_exact_where_its_facets_touch_it(rng: np.random.Generator) -> None:
    radius, polar = 2.0, np.linspace(0.0005, np.pi - 0.0005, 180)
    shape = revolve(np.column_stack([radius * np.sin(polar), -radius * np.cos(polar)]), 360)
    scene = scene_of(shape)
    corners = scene.mesh.triangles.astype(np.float64)
    # corners of facets lie on the sphere; a ten-thousandth of the way into the facet they still do
    pick = rng.integers(2000, len(corners) - 2000, 3000)
    target = corners[pick, 0] + 1e-4 * (corners[pick].mean(axis=1) - corners[pick, 0])
    outwards = target / np.linalg.norm(target, axis=1, keepdims=True)
    eye = target + outwards * 6.0 + rng.uniform(-3, 3, target.shape)
    way = target - eye
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    b, c = np.einsum("ij,ij->i", eye, way), np.einsum("ij,ij->i", eye, eye) - radius**2
    analytic = -b - np.sqrt(b * b - c)
    hits = scene.cast(eye, way)
    assert (hits.triangle >= 0).all()
    np.testing.assert_allclose(hits.range_m, analytic, atol=1e-6)


def test_ranges_equal_a_float64_search_of_all_triangles(rng: np.random.Generator) -> None:
    polar = np.linspace(0.05, np.pi - 0.05, 24)
    shape = revolve(np.column_stack([2 * np.sin(polar), -2 * np.cos(polar)]), 40)
    scene = scene_of(np.concatenate([shape, leaves(rng.uniform(-4, 4, (300, 3)), 0.5, rng)]))
    eye = rng.normal(size=(1500, 3))
    eye *= 9.0 / np.linalg.norm(eye, axis=1, keepdims=True)
    way = rng.uniform(-2, 2, (1500, 3)) - eye
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    a, b, c = np.swapaxes(scene.mesh.triangles.astype(np.float64), 0, 1)
    nearest = np.full(len(eye), np.inf)
    for k in range(len(eye)):  # Moller and Trumbore 1997
        p = np.cross(way[k], c - a)
        det = np.einsum("ij,ij->i", b - a, p)
        with np.errstate(all="ignore"):
            u = np.einsum("ij,ij->i", eye[k] - a, p) / det
            q = np.cross(eye[k] - a, b - a)
            v, t = (q @ way[k]) / det, np.einsum("ij,ij->i", c - a, q) / det
            inside = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0)
        nearest[k] = t[inside].min(initial=np.inf)
    hits = scene.cast(eye, way)
    same = np.isfinite(nearest) == (hits.triangle >= 0)
    # a ray through the very edge of a leaf may go either way
    assert same.mean() > 0.998
    gap = np.abs(hits.range_m - nearest)[same & np.isfinite(nearest)]
    assert np.isfinite(nearest).sum() > 800
    assert (gap < 1e-6).mean() > 0.998


def test_rays_that_leave_the_world_hit_nothing() -> None:
    scene = scene_of(
        quads(np.array([[0, -1, -1], [0, 1, -1], [0, 1, 1], [0, -1, 1.0]]) + [5, 0, 0])
    )
    hits = scene.cast(np.zeros(3), np.array([[1.0, 0, 0], [-1, 0, 0], [0, 0, 1]]))
    assert hits.triangle.tolist()[1:] == [-1, -1]
    assert hits.triangle[0] >= 0
    assert np.isinf(hits.range_m[1:]).all()
    assert scene.cast(np.zeros(3), np.array([[1.0, 0, 0]]), 4.0).triangle[0] == -1


def test_ideal_lidar_points_lie_on_their_beams(simulator: sim.Simulator, town: sim.World) -> None:
    spec = simulator.rig.lidar
    frame = simulator.frame(sim.drive(town, 1.0)[0], 5, images=False)
    cloud = frame.cloud
    assert cloud.ring is not None
    assert cloud.time_s is not None
    assert cloud.intensity is not None
    assert frame.labels is not None
    steps = np.round(cloud.time_s / (spec.period_s / spec.azimuth_steps)).astype(int)
    beams = spec.directions()[steps * spec.beams + cloud.ring]
    range_m = np.linalg.norm(cloud.xyz, axis=1, keepdims=True)
    np.testing.assert_allclose(cloud.xyz / range_m, beams, atol=2e-6)
    assert range_m.max() <= spec.max_range_m
    assert 0 <= cloud.intensity.min() <= cloud.intensity.max() <= 1
    assert cloud.time_s.max() < spec.period_s
    assert frame.labels.max() < len(sim.ontology)
    # a level beam 10 degrees down over flat road at the lidar's height would give its label
    down = (cloud.ring == 0) & (frame.labels == sim.ontology.index("road"))
    assert down.sum() > 100


def test_points_agree_with_rendered_depth_within_1_cm(
    simulator: sim.Simulator, town: sim.World
) -> None:
    checked, wrong = 0, 0
    for k, T in enumerate(sim.drive(town, 3.0, 1.0, seed=2)):
        frame, truth = simulator.frame(T, k, images=False), simulator.truth(T, k)["front"]
        spec = simulator.rig.cameras[0]
        camera, T_cam_lidar = (
            spec.model,
            inverse(spec.T_base_cam) @ simulator.rig.lidar.T_base_lidar,
        )
        uv, z, inside = camera.project(transform(T_cam_lidar, frame.cloud.xyz))
        uv, z = uv[inside], z[inside]
        u0, v0 = np.floor(uv).astype(int).T
        ok = (u0 >= 1) & (v0 >= 1) & (u0 < camera.width - 2) & (v0 < camera.height - 2)
        uv, z, u0, v0 = uv[ok], z[ok], u0[ok], v0[ok]
        # on a plane 1/z is linear in the image: where the 16 pixels around fit one, it gives the
        # depth at the point's own place between the pixels
        offsets = [(i, j) for i in (-1, 0, 1, 2) for j in (-1, 0, 1, 2)]
        depth = np.stack([truth.depth[v0 + i, u0 + j] for i, j in offsets]).astype(np.float64)
        basis = np.array([[1.0, i, j] for i, j in offsets])
        inverse_depth = 1 / np.maximum(depth, 1e-6)
        plane = np.linalg.pinv(basis) @ inverse_depth
        flat = np.abs(basis @ plane - inverse_depth).max(axis=0) * z < 1e-4
        fu, fv = (uv - np.floor(uv)).T
        between = plane[0] + plane[1] * fv + plane[2] * fu
        seen = flat & (np.abs(1 / between - z) < 0.3) & (z < 30)
        checked += int(seen.sum())
        wrong += int((np.abs(1 / between[seen] - z[seen]) > 0.01).sum())
    assert checked > 3000
    assert wrong / checked < 1e-3


@pytest.mark.parametrize("name", ["front", "wide"])
def test_class_of_point_is_class_of_its_pixel(
    simulator: sim.Simulator, town: sim.World, name: str
) -> None:
    spec = next(spec for spec in simulator.rig.cameras if spec.name == name)
    camera, T_cam_lidar = spec.model, inverse(spec.T_base_cam) @ simulator.rig.lidar.T_base_lidar
    checked, wrong = 0, 0
    for k, T in enumerate(sim.drive(town, 4.0, 1.0, seed=4)):
        frame, truth = simulator.frame(T, k, images=False), simulator.truth(T, k)[name]
        assert frame.labels is not None
        seen = project_cloud(frame.cloud.xyz, T_cam_lidar, camera, depth_test=False)
        u, v = np.round(seen.uv).astype(int).T
        ok = (u >= 1) & (v >= 1) & (u < camera.width - 1) & (v < camera.height - 1)
        u, v, index, z = u[ok], v[ok], seen.index[ok], seen.depth[ok]
        around = np.stack([truth.semantic[v + i, u + j] for i in (-1, 0, 1) for j in (-1, 0, 1)])
        depths = np.stack([truth.depth[v + i, u + j] for i in (-1, 0, 1) for j in (-1, 0, 1)])
        # pixels on a boundary of classes or of depth may show either side of it
        inner = (around == around[0]).all(axis=0) & (around[0] != IGNORE)
        inner &= np.ptp(depths, axis=0) < 0.05 * z + 0.05
        inner &= np.abs(depths[4] - z) < 0.02 * z + 0.05
        labels = frame.labels[index][inner]
        checked += len(labels)
        wrong += int((labels != around[4][inner]).sum())
    assert checked > 5000
    assert wrong / checked <= 1e-3


def test_delivered_depth_and_extrinsics_are_the_true_ones(
    simulator: sim.Simulator, town: sim.World
) -> None:
    T = sim.drive(town, 1.0)[4]
    frame, truth = simulator.frame(T, 9), simulator.truth(T, 9)
    for image, spec in zip(frame.images, simulator.rig.cameras, strict=True):
        T_world_cam = frame.T_world_lidar @ inverse(image.T_cam_lidar)
        np.testing.assert_allclose(T_world_cam, T @ spec.T_base_cam, atol=1e-9)
        if spec.depth:
            np.testing.assert_array_equal(image.depth, truth[image.name].depth)
        else:
            assert image.depth is None


def test_camera_model_and_its_rays_agree() -> None:
    for values in ({}, DISTORTED):
        camera = sim.Rig.from_dict({"cameras": [values]}).cameras[0].model
        assert isinstance(camera, CameraModel)
        grid = np.stack(np.meshgrid(np.arange(0, 640, 13.0), np.arange(0, 480, 11.0)), -1)
        uv = grid.reshape(-1, 2)
        back, _, inside = camera.project(camera.rays(uv) * 7.0)
        assert inside.all()
        np.testing.assert_allclose(back, uv, atol=1e-6)


def test_front_camera_looks_ahead() -> None:
    camera = sim.Rig().cameras[0]
    ahead = transform(inverse(camera.T_base_cam), np.array([[10.0, 0.0, 1.5], [10.0, 1.0, 2.5]]))
    uv, depth, inside = camera.model.project(ahead)
    assert inside.all()
    np.testing.assert_allclose(depth, 9.7)
    np.testing.assert_allclose(uv[0], (319.5, 239.5))
    assert uv[1, 0] < uv[0, 0]  # left of the robot is left in the image
    assert uv[1, 1] < uv[0, 1]  # up is up


def test_leaves_have_the_size_asked_for(rng: np.random.Generator) -> None:
    shape = leaves(np.zeros((50, 3)), 0.4, rng)
    assert shape.shape == (100, 3, 3)
    assert np.linalg.norm(shape, axis=2).max() <= 0.4 / 2 * np.sqrt(2) + 1e-9


def test_a_folding_lens_is_refused(town: sim.World) -> None:
    folds = {**DISTORTED, "distortion": [-0.6, 0.05, 0.0, 0.0]}
    with pytest.raises(GeometryError, match="one-to-one"):
        sim.Simulator(town, sim.Rig.from_dict({"cameras": [folds]}))
