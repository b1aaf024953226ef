"""Pictures: written whole, of what was given, and refused where arrays do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condense_ros import draw
from condense_ros.draw.curves import smooth
from condense_ros.draw.overlay import by_direction
from condense_ros.errors import CondenseError, ConfigError, FrameError
from condense_ros.frame import IGNORE, CameraImage, Frame, PointCloud
from condense_ros.geometry import R_OPTICAL_BODY, CameraModel, inverse, rotation_rpy, se3
from condense_ros.ontology import Ontology

CLASSES = Ontology(("road", "house"), np.array([[128, 64, 128], [255, 0, 0]]))


def camera_at(name: str, yaw_degrees: float) -> CameraImage:
    T_lidar_body = se3(rotation_rpy(0, 0, np.radians(yaw_degrees)), np.zeros(3))
    camera = CameraModel(np.array([[80.0, 0, 79.5], [0, 80, 59.5], [0, 0, 1]]), 160, 120)
    return CameraImage(
        name,
        0,
        np.full((120, 160, 3), 90, np.uint8),
        camera,
        se3(R_OPTICAL_BODY, np.zeros(3)) @ inverse(T_lidar_body),
    )


@pytest.fixture
def frame(rng: np.random.Generator) -> Frame:
    xyz = rng.normal(size=(3000, 3)) * (15, 15, 2)
    xyz[:5] = np.nan
    labels = rng.integers(0, 2, 3000).astype(np.uint8)
    labels[10:500] = IGNORE
    images = tuple(camera_at(f"cam{yaw}", yaw) for yaw in (180, -60, 0, 60))
    return Frame(0, PointCloud(xyz), images, labels=labels)


def reds(path: Path) -> int:
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return int(((pixels[..., 0] > 240) & (pixels[..., 1:] < 60).all(axis=-1)).sum())


def test_overlay_by_depth_and_by_class(frame: Frame, tmp_path: Path) -> None:
    depth = draw.draw_overlay(frame, "cam0", tmp_path / "sub" / "depth")
    assert depth == tmp_path / "sub" / "depth.png"
    assert reds(depth) == 0
    classes = draw.draw_overlay(
        frame, "cam0", tmp_path / "classes.png", labels=frame.labels, ontology=CLASSES
    )
    assert reds(classes) > 500
    everything = draw.draw_overlay(frame, None, tmp_path / "all.png")
    assert Image.open(everything).size[0] > Image.open(depth).size[0]


def test_overlay_of_a_fisheye_that_sees_behind_itself(frame: Frame, tmp_path: Path) -> None:
    K = np.array([[40.0, 0, 119.5], [0, 40, 119.5], [0, 0, 1]])
    camera = CameraModel(K, 240, 240, model="fisheye")
    pixels = np.full((240, 240, 3), 90, np.uint8)
    image = CameraImage("round", 0, pixels, camera, frame.images[2].T_cam_lidar)
    path = draw.draw_overlay(Frame(0, frame.cloud, (image,)), None, tmp_path / "round.png")
    coloured = np.asarray(Image.open(path).convert("RGB")).astype(int)
    # the point of view is all around: colours in the ring of directions behind the camera
    assert (np.ptp(coloured, axis=-1) > 60).sum() > 2000


def test_cameras_are_laid_out_as_a_driver_sees_them(frame: Frame) -> None:
    names = [image.name for image in by_direction(list(frame.images))]
    assert names == ["cam60", "cam0", "cam-60", "cam180"]


def test_bird_view_by_class_height_and_colour(frame: Frame, tmp_path: Path) -> None:
    path = draw.draw_bird_view(
        frame.cloud, tmp_path / "a.png", labels=frame.labels, ontology=CLASSES, title="Town"
    )
    assert reds(path) > 300
    assert reds(draw.draw_bird_view(frame.cloud, tmp_path / "b.png")) == 0
    red = np.tile(np.array([255, 0, 0], np.uint8), (3000, 1))
    assert reds(draw.draw_bird_view(frame.cloud, tmp_path / "c.png", colours=red, range_m=5)) > 300


def test_curves_and_places(tmp_path: Path) -> None:
    curves = {"a": np.arange(30.0)[::-1], "b": np.c_[np.arange(9), np.ones(9)]}
    for separate in (False, True):
        path = draw.draw_curves(curves, tmp_path / f"{separate}.svg", separate=separate)
        assert path.read_text().startswith("<?xml")
    here = se3(rotation_rpy(0, 0, 1), (1, 2, 0))
    queries = [draw.PlaceQuery(here, here), draw.PlaceQuery(here, None, "unknown")]
    path = draw.draw_places(here[None], tmp_path / "p.png", queries=queries, points=np.ones((4, 3)))
    assert Image.open(path).size[0] > 800


def test_smoothing_keeps_lines_and_means() -> None:
    np.testing.assert_allclose(smooth([1.0, 1, 1, 1, 1], 3), 1)
    np.testing.assert_allclose(smooth([0.0, 3, 6, 3, 0], 3), [1.5, 3, 4, 3, 1.5])
    np.testing.assert_allclose(smooth([4.0, 2], 1), [4, 2])


def test_pca_colours_separate_what_differs(rng: np.random.Generator) -> None:
    kinds = np.repeat(np.arange(4), 100)
    features = rng.normal(size=(4, 16))[kinds] + rng.normal(scale=0.01, size=(400, 16))
    colours = draw.pca_colours(features).astype(int)
    means = np.array([colours[kinds == k].mean(axis=0) for k in range(4)])
    apart = np.linalg.norm(means[:, None] - means[None], axis=2)[~np.eye(4, dtype=bool)]
    within = max(colours[kinds == k].std(axis=0).max() for k in range(4))
    assert apart.min() > 60
    assert within < 12
    np.testing.assert_array_equal(draw.pca_colours(features), draw.pca_colours(features))


def test_pca_colours_of_thin_constant_and_broken_features() -> None:
    assert draw.pca_colours(np.ones((5, 4))).tolist() == [[128] * 3] * 5
    one = draw.pca_colours(np.arange(10.0)[:, None])
    assert one.shape == (10, 3)
    assert (one[:, 1:] == 128).all()
    holes = np.ones((2, 3, 8))
    holes[0, 0] = np.nan
    assert draw.pca_colours(holes)[0, 0].tolist() == [0, 0, 0]


def test_pca_colours_of_others_features(rng: np.random.Generator) -> None:
    base = rng.normal(size=(300, 6)) * (5, 3, 2, 1, 1, 1)
    everything = draw.pca_colours(base)
    np.testing.assert_array_equal(draw.pca_colours(base, fit=base), everything)
    np.testing.assert_array_equal(draw.pca_colours(base[:7], fit=base), everything[:7])
    assert not np.array_equal(draw.pca_colours(base[:7]), everything[:7])
    with pytest.raises(FrameError):
        draw.pca_colours(base, fit=np.ones((4, 3)))
    with pytest.raises(FrameError):
        draw.pca_colours(base, fit=np.full((4, 6), np.nan))


def test_cloud_grid_marks_what_is_said_to_be_marked(frame: Frame, tmp_path: Path) -> None:
    cloud = frame.cloud.select(frame.cloud.finite())
    intensity = np.linspace(0, 9, len(cloud))
    cloud = PointCloud(cloud.xyz, intensity)
    plain = draw.CloudPanel(cloud)
    marked = draw.CloudPanel(cloud, np.ones(len(cloud), bool), cloud.xyz + 1)
    path = draw.draw_cloud_grid(
        {"a": [plain, None], "b": [plain, plain]}, ("1", "2"), tmp_path / "a"
    )
    few = warm(path)
    path = draw.draw_cloud_grid(
        {"a": [plain, None], "b": [plain, marked]}, ("1", "2"), tmp_path / "b", marked_as="fog"
    )
    assert warm(path) > few + 1000
    for columns in ({}, {"a": [plain]}, {"a": [None, None]}):
        with pytest.raises(ConfigError):
            draw.draw_cloud_grid(columns, ("1", "2"), tmp_path / "c")


def warm(path: Path) -> int:
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return int((pixels[..., 0] - pixels[..., 2] > 60).sum())


def test_bars(tmp_path: Path) -> None:
    groups = {"fog": (50.0, 40.0, 30.0), "beam_missing": (50.0, 45.0, 20.0)}
    levels = ("light", "moderate", "heavy")
    path = draw.draw_bars(
        groups, levels, tmp_path / "b.svg", y_label="mIoU", title="T", reference=("clean", 52.0)
    )
    assert path.read_text().startswith("<?xml")
    for wrong in ({}, {"fog": (1.0,)}):
        with pytest.raises(ConfigError):
            draw.draw_bars(wrong, levels, tmp_path / "c.svg")


def test_rig_with_and_without_maps(frame: Frame, tmp_path: Path) -> None:
    red = np.tile(np.array([255, 0, 0], np.uint8), (3000, 1))
    plain = draw.draw_rig(frame, draw.RigPicture(red), tmp_path / "a.png", title="T")
    assert reds(plain) > 1000
    assert reds(draw.draw_rig(frame, draw.RigPicture(red * 0), tmp_path / "d.png")) == 0
    values = np.linspace(-1, 1, 3000).astype(np.float32)
    values[20] = np.nan
    picture = draw.RigPicture(
        values,
        {"cam0": np.zeros((12, 16), np.float32)},
        {"cam0": np.array([80.0, 60])},
        np.array([3.0, 1, 0]),
        scale="cosine",
    )
    with_maps = draw.draw_rig(frame, picture, tmp_path / "b.png")
    assert Image.open(with_maps).size[1] > Image.open(plain).size[1]
    one = draw.draw_rig(frame, picture, tmp_path / "c.png", cameras=("cam0",))
    assert Image.open(one).size[0] < Image.open(with_maps).size[0]
    nothing = draw.RigPicture(red, known=np.zeros(3000, bool))
    for wrong in (draw.RigPicture(red[:4]), draw.RigPicture(red, {"none": red}), nothing):
        with pytest.raises(FrameError):
            draw.draw_rig(frame, wrong, tmp_path / "e.png")


def test_scatter_by_class(rng: np.random.Generator, tmp_path: Path) -> None:
    places = rng.normal(size=(200, 2))
    labels = np.repeat(np.array([0, 1, IGNORE, 1], np.uint8), 50)
    path = draw.draw_scatter(places, tmp_path / "a.png", labels=labels, ontology=CLASSES)
    assert reds(path) > 500
    assert reds(draw.draw_scatter(places, tmp_path / "b.png", title="T")) == 0
    for wrong in ({"labels": labels}, {"labels": labels[:3], "ontology": CLASSES}):
        with pytest.raises(FrameError):
            draw.draw_scatter(places, tmp_path / "c.png", **wrong)
    with pytest.raises(FrameError):
        draw.draw_scatter(places[:0], tmp_path / "c.png")


def test_feature_picture(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = np.zeros((60, 80, 3), np.uint8)
    path = draw.draw_features(pixels, rng.normal(size=(15, 20, 32)), tmp_path / "f.png")
    assert path.stat().st_size > 3000


def test_what_does_not_fit_is_refused(frame: Frame, tmp_path: Path) -> None:
    out, cloud = tmp_path / "x.png", frame.cloud
    black = np.zeros((3, 3), np.uint8)
    with pytest.raises(FrameError, match="cam180, cam-60, cam0, cam60"):
        draw.draw_overlay(frame, "front", out)
    calls = [
        lambda: draw.draw_overlay(frame, "cam0", out, colours=black),
        lambda: draw.draw_overlay(frame, "cam0", out, labels=frame.labels),
        lambda: draw.draw_bird_view(cloud, out, labels=frame.labels),
        lambda: draw.draw_bird_view(cloud, out, colours=black),
        lambda: draw.draw_bird_view(PointCloud(np.full((4, 3), np.nan)), out),
        lambda: draw.draw_features(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4)), out),
        lambda: draw.pca_colours(np.full((3, 4), np.nan)),
    ]
    for call in calls:
        with pytest.raises(CondenseError):
            call()
    for call in (
        lambda: draw.draw_curves({}, out),
        lambda: draw.draw_curves({"a": []}, out),
        lambda: draw.draw_places(np.zeros((0, 4, 4)), out),
        lambda: draw.draw_places(np.zeros((3, 3)), out),
    ):
        with pytest.raises(ConfigError):
            call()
    assert not list(tmp_path.iterdir())
