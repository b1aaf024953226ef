"""nuScenes devkit folders: tables as streams, the chain of poses, labels, scenes, faults."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nuscenes_folder import CATEGORIES, CHALLENGE, Devkit, real_devkit, tiny_devkit

from condense_ros.datasets import DataOptions, Dataset, every_kth, open_dataset
from condense_ros.datasets.base import Fingerprinted, leave_out_damaged_images
from condense_ros.datasets.nuscenes_devkit import NuScenesDevkit
from condense_ros.datasets.nuscenes_tables import cache_folder, read_tables, stream_rows
from condense_ros.datasets.point_labels import PointLabels
from condense_ros.datasets.subsets import step_of
from condense_ros.errors import ConfigError, DatasetError
from condense_ros.geometry import project_cloud


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_folder()


@pytest.fixture
def tiny(tmp_path: Path, rng: np.random.Generator) -> Devkit:
    devkit = tiny_devkit(tmp_path / "nuscenes", rng)
    devkit.write()
    return devkit


def seen(frame, image) -> tuple[np.ndarray, np.ndarray]:
    projection = project_cloud(frame.cloud.xyz, image.T_cam_cloud, image.camera)
    return projection.index, projection.uv


def test_real_sample_is_projected_as_by_the_one_sample_reader(
    tmp_path: Path, data_dir: Path
) -> None:
    source = data_dir / "nuscenes_frame"
    devkit, content = real_devkit(source, tmp_path / "devkit")
    found = open_dataset(devkit.write())
    assert isinstance(found, NuScenesDevkit)
    single = tmp_path / "single"
    single.mkdir()
    for path in source.glob("n015*"):
        (single / path.name).symlink_to(path)
    (single / "sample.json").write_text(json.dumps(content))
    frame, expected, original = found[0], open_dataset(single)[0], open_dataset(source)[0]

    np.testing.assert_array_equal(frame.cloud.xyz, expected.cloud.xyz)
    np.testing.assert_array_equal(frame.cloud.intensity, expected.cloud.intensity)
    np.testing.assert_array_equal(frame.cloud.ring, expected.cloud.ring)
    assert frame.stamp_ns == original.stamp_ns
    np.testing.assert_allclose(frame.T_world_lidar, expected.T_world_lidar, atol=1e-9)
    assert len(frame.images) == 6
    pairs = 0
    for image in frame.images:
        (other,) = [one for one in expected.images if one.name == image.name]
        (first,) = [one for one in original.images if one.name == image.name]
        assert image.stamp_ns == first.stamp_ns
        np.testing.assert_array_equal(image.pixels, first.pixels)
        index, uv = seen(frame, image)
        others, other_uv = seen(expected, other)
        np.testing.assert_array_equal(index, others)
        np.testing.assert_array_equal(np.rint(uv), np.rint(other_uv))
        np.testing.assert_allclose(uv, other_uv, atol=1e-6)
        # against the untouched file, whose matrices are rounded to float32
        firsts, first_uv = seen(original, first)
        both, mine, theirs = np.intersect1d(index, firsts, return_indices=True)
        assert len(both) >= max(len(index), len(firsts)) - 1
        assert np.abs(uv[mine] - first_uv[theirs]).max() < 0.02
        pairs += len(index)
    assert pairs > 10_000
    # the vehicle moves at this sample: without its motion points land elsewhere
    image = frame.images[0]
    still = project_cloud(frame.cloud.xyz, image.T_cam_lidar, image.camera)
    assert not np.array_equal(still.index, seen(frame, image)[0])

    raw = np.arange(len(frame.cloud)) % len(CATEGORIES)
    expected_labels = np.array([c - 1 if c else 255 for c in CHALLENGE], np.uint8)[raw]
    np.testing.assert_array_equal(frame.labels, expected_labels)


def test_a_camera_whose_picture_is_damaged_may_be_left_out(tmp_path: Path, data_dir: Path) -> None:
    devkit, content = real_devkit(data_dir / "nuscenes_frame", tmp_path / "devkit")
    data = open_dataset(devkit.write())
    name = Path(content["data_list"][0]["images"]["CAM_BACK"]["img_path"]).name
    (devkit.root / "samples" / "CAM_BACK" / name).unlink()
    with pytest.raises(DatasetError, match="CAM_BACK"):
        data[0]
    reported = []
    with leave_out_damaged_images(lambda camera, _: reported.append(camera)):
        images = data[0].images
    assert reported == ["CAM_BACK"]
    assert len(images) == 5
    assert "CAM_BACK" not in {image.name for image in images}


def test_frames_of_a_small_folder(tiny: Devkit) -> None:
    data = open_dataset(tiny.root)
    assert isinstance(data, NuScenesDevkit)
    assert isinstance(data, Dataset)
    assert isinstance(data, Fingerprinted)
    assert (len(data), data.name, data.period_s) == (6, "v1.0-mini", 0.5)
    assert data.classes is not None
    assert data.classes.names[3] == "car"
    frame = data[3]
    assert (frame.sequence, frame.index) == ("scene-0002", 1)
    assert frame.stamp_ns == 101_500_000_000
    (image,) = frame.images
    assert (image.name, image.stamp_ns, int(image.pixels[0, 0, 0])) == (
        "CAM_FRONT",
        101_512_000_000,
        11,
    )
    # x right, y forward on disk
    raw = np.fromfile(tiny.root / "samples/LIDAR_TOP/1_1.pcd.bin", "<f4").reshape(-1, 5)
    np.testing.assert_array_equal(frame.cloud.xyz, np.stack([raw[:, 1], -raw[:, 0], raw[:, 2]], 1))
    np.testing.assert_array_equal(frame.cloud.ring, np.arange(30))
    # the lidar is turned by a quarter on a vehicle that is not turned; it stands at (10, 5)
    np.testing.assert_allclose(frame.T_world_lidar[:3, 3], (10.9, 5, 1.8))
    # by hand: 0.5 m further when the picture is taken
    p_base = raw[0, :3] + (0.9, 0, 1.8)
    p_cam = p_base - (0.5 + 1.7, 0, 1.5)
    expected = np.array([-p_cam[1], -p_cam[2], p_cam[0]])
    got = image.T_cam_cloud @ (*frame.cloud.xyz[0].tolist(), 1.0)
    np.testing.assert_allclose(got[:3], expected, atol=1e-5)
    assert data.poses is not None
    assert data.poses.shape == (6, 4, 4)
    assert data[-1].sequence == "scene-0003"
    with pytest.raises(IndexError):
        data[6]


def test_official_classes_by_id() -> None:
    labels = PointLabels.load("nuscenes").numbered(dict(enumerate(CATEGORIES)))
    got = labels.map(np.arange(32, dtype=np.uint16), "all")
    assert got.tolist() == [c - 1 if c else 255 for c in CHALLENGE]
    # whatever order a folder numbers them in
    turned = PointLabels.load("nuscenes").numbered(dict(enumerate(reversed(CATEGORIES))))
    got = turned.map(np.arange(32, dtype=np.uint16), "all")
    assert got.tolist() == [c - 1 if c else 255 for c in reversed(CHALLENGE)]


def test_official_splits() -> None:
    scenes = PointLabels.load("nuscenes").scenes
    assert {name: len(numbers) for name, numbers in scenes.items()} == {
        "mini_train": 8,
        "mini_val": 2,
        "val": 150,
    }
    assert all(len(set(numbers)) == len(numbers) for numbers in scenes.values())
    assert set(scenes["mini_val"]) <= set(scenes["val"])


def test_scenes_are_chosen_by_split_name_file_and_share(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    root = tiny_devkit(tmp_path / "nuscenes", rng, scenes=20, samples=1).write()

    def names(query: str) -> list[str]:
        data = open_dataset(f"{root}?images=no&{query}")
        assert isinstance(data, NuScenesDevkit)
        assert [data[i].sequence for i in range(len(data))] == list(data.scenes)
        return [name[-4:] for name in data.scenes]

    assert names("split=val") == ["0003", *(f"{n:04d}" for n in range(12, 19))]
    assert len(names("split=train")) == 12
    # scenes are counted from 1, and every k-th is taken
    assert names("fraction=0.2") == ["0005", "0010", "0015", "0020"]
    assert names("split=val&fraction=0.25") == ["0014", "0018"]
    assert names("drives=scene-0019,scene-0002") == ["0002", "0019"]
    (root / "mine.txt").write_text("scene-0007\nscene-0001\n")
    assert names("split=mine.txt") == ["0001", "0007"]
    whole = open_dataset(root, DataOptions(images=False))
    assert every_kth(whole, 0.2) == [4, 9, 14, 19]
    (root / "condense.yaml").write_text("split: val\nimages: false\n")
    assert len(open_dataset(root)) == 8
    assert len(open_dataset(f"{root}?split=train")) == 12
    with pytest.raises(ConfigError, match="every 100th of 12"):
        open_dataset(f"{root}?split=train&fraction=0.01")
    with pytest.raises(ConfigError, match="no split 'dev'"):
        names("split=dev")
    with pytest.raises(ConfigError, match="no scene"):
        names("split=mini_val")
    with pytest.raises(DatasetError, match="scene-9999"):
        names("drives=scene-9999")
    (root / "mine.txt").write_text("scene-0007 scene-0099\n")
    with pytest.raises(DatasetError, match="scene-0099"):
        names("split=mine.txt")


def test_poses_are_given_on_one_map_only(tmp_path: Path, rng: np.random.Generator) -> None:
    devkit = tiny_devkit(tmp_path / "nuscenes", rng)
    devkit.tables["log"][1]["location"] = "boston-seaport"
    root = devkit.write()
    data = open_dataset(root)
    assert data.poses is None
    assert data[0].T_world_lidar is None
    assert any("maps" in note for note in data[0].notes)
    # images are still seen through the vehicle's motion
    assert data[0].images[0].ego_motion is not None
    assert open_dataset(f"{root}?drives=scene-0001,scene-0003").poses is not None
    assert open_dataset(f"{root}?drives=scene-0002").poses is not None


def test_without_labels_and_with_radar_and_sweeps_left_out(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    devkit = tiny_devkit(tmp_path / "nuscenes", rng)
    del devkit.tables["lidarseg"]
    for row in devkit.tables["category"]:
        del row["index"]
    data = open_dataset(devkit.write())
    assert data.classes is None
    assert data[0].labels is None
    assert len(data) == 6


def test_versions_are_chosen(tmp_path: Path, rng: np.random.Generator, tiny: Devkit) -> None:
    tiny_devkit(tiny.root, rng, scenes=1, version="v1.0-trainval").write()
    with pytest.raises(DatasetError, match=r"v1\.0-mini, v1\.0-trainval"):
        open_dataset(tiny.root)
    assert len(open_dataset(f"{tiny.root}?version=v1.0-trainval")) == 2
    assert len(open_dataset(tiny.root / "v1.0-mini")) == 6
    with pytest.raises(DatasetError, match=r"v1\.0-test"):
        open_dataset(f"{tiny.root}?version=v1.0-test")


def test_tables_are_read_once(
    tiny: Devkit, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fingerprint = open_dataset(tiny.root).fingerprint()  # type: ignore[attr-defined]
    (index,) = cache.glob("v1.0-mini-*.npz")
    with monkeypatch.context() as patch:
        patch.setattr("condense_ros.datasets.nuscenes_tables.read_tables", None)
        again = open_dataset(tiny.root)
    assert again[5].sequence == "scene-0003"
    assert again.fingerprint() == fingerprint  # type: ignore[attr-defined]
    # a damaged index is told about and made anew
    index.write_bytes(index.read_bytes()[:100])
    with caplog.at_level(logging.WARNING):
        assert open_dataset(tiny.root).fingerprint() == fingerprint  # type: ignore[attr-defined]
    assert "damaged" in caplog.text
    # other tables, another index
    tiny.tables["ego_pose"][0]["translation"][0] += 1.0
    tiny.write()
    assert open_dataset(tiny.root).fingerprint() != fingerprint  # type: ignore[attr-defined]
    assert len(list(cache.glob("*.npz"))) == 2
    # nowhere to keep it: it works all the same, and says so
    monkeypatch.setenv("XDG_CACHE_HOME", str(tiny.root / "v1.0-mini" / "scene.json"))
    with caplog.at_level(logging.WARNING):
        assert len(open_dataset(tiny.root)) == 6
    assert "not kept" in caplog.text


def test_intensity_offset_and_no_images(tiny: Devkit) -> None:
    plain = open_dataset(tiny.root)[0]
    other = open_dataset(f"{tiny.root}?intensity_offset=1&images=no")[0]
    np.testing.assert_array_equal(other.cloud.intensity, plain.cloud.intensity + np.float32(1))
    assert other.images == ()


def damage(tiny: Devkit, what: str) -> None:
    folder = tiny.root / tiny.version
    if what == "table":
        (folder / "ego_pose.json").unlink()
    elif what == "torn":
        text = (folder / "sample_data.json").read_text()
        (folder / "sample_data.json").write_text(text[: len(text) // 2])
    elif what == "pose":
        del tiny.tables["ego_pose"][0]
        tiny.write()
    elif what == "sensor":
        tiny.tables["sample_data"][0]["calibrated_sensor_token"] = "gone"
        tiny.write()
    elif what == "lidar":
        tiny.tables["sample_data"][0]["is_key_frame"] = False
        tiny.write()
    elif what == "index":
        for row in tiny.tables["category"]:
            del row["index"]
        tiny.write()
    elif what == "category":
        tiny.tables["category"][17]["name"] = "vehicle.submarine"
        tiny.write()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("table", "ego_pose.json is missing"),
        ("torn", "sample_data.json is no table"),
        ("pose", "lacks poses"),
        ("sensor", "gone"),
        ("lidar", "sample0 has no LIDAR_TOP"),
        ("index", "no `index`"),
        ("category", "vehicle.submarine"),
    ],
)
def test_damaged_tables_are_named(tiny: Devkit, what: str, words: str) -> None:
    damage(tiny, what)
    with pytest.raises(DatasetError, match=words.replace(".", r"\.")):
        open_dataset(tiny.root)


def test_damaged_files_are_named(tiny: Devkit) -> None:
    data = open_dataset(tiny.root)
    cloud = tiny.root / "samples/LIDAR_TOP/0_0.pcd.bin"
    whole = cloud.read_bytes()
    cloud.write_bytes(whole[:-3])
    with pytest.raises(DatasetError, match=r"0_0\.pcd\.bin has 597 bytes"):
        data[0]
    cloud.write_bytes(whole[:-20])
    with pytest.raises(DatasetError, match="30 labels for 29 points"):
        data[0]
    cloud.unlink()
    with pytest.raises(DatasetError, match="cannot be read"):
        data[0]
    labels = tiny.root / tiny.tables["lidarseg"][1]["filename"]
    labels.write_bytes(bytes([77]) + labels.read_bytes()[1:])
    with pytest.raises(DatasetError, match=r"77 \(1 points\)"):
        data[1]
    labels.unlink()
    with pytest.raises(DatasetError, match="cannot be read"):
        data[1]
    (tiny.root / "samples/CAM_FRONT/1_0.png").unlink()
    with pytest.raises(DatasetError, match="1_0"):
        data[2]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@given(
    rows=st.lists(st.dictionaries(st.text(max_size=4), json_values, max_size=4), max_size=6),
    chunk=st.integers(1, 40),
    indent=st.sampled_from([None, 0, 2]),
    plain=st.booleans(),
)
def test_streamed_rows_are_those_of_json(tmp_path_factory, rows, chunk, indent, plain) -> None:
    path = tmp_path_factory.getbasetemp() / "table.json"
    text = json.dumps(rows, indent=indent, ensure_ascii=not plain)
    path.write_text(text.encode("utf-8", "surrogatepass").decode("utf-8", "replace"))
    assert list(stream_rows(path, chunk)) == json.loads(path.read_text())


@given(cut=st.integers(0, 60), chunk=st.integers(1, 40))
def test_truncated_tables_never_end_quietly(tmp_path_factory, cut: int, chunk: int) -> None:
    text = json.dumps([{"token": "a", "n": [1, 2]}, {"token": "}b", "n": []}], indent=0)
    path = tmp_path_factory.getbasetemp() / "cut.json"
    path.write_text(text[: min(cut, len(text) - 1)])
    with pytest.raises(DatasetError, match="no table"):
        list(stream_rows(path, chunk))


@pytest.mark.parametrize("text", ["{}", '"a"', "[1]", "[{}, 3]", "", "[", "[{]"])
def test_tables_that_are_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(text)
    with pytest.raises(DatasetError, match="no table"):
        list(stream_rows(path))


def test_shared_poses_reach_every_file(tmp_path: Path, rng: np.random.Generator) -> None:
    devkit = tiny_devkit(tmp_path / "nuscenes", rng, scenes=1, samples=1)
    lidar, camera = devkit.tables["sample_data"][:2]
    camera["ego_pose_token"] = lidar["ego_pose_token"]
    frames = read_tables(devkit.write() / devkit.version)
    np.testing.assert_array_equal(frames.ego[0, 0], frames.ego[0, 1])


@given(fraction=st.floats(1e-4, 1.0), count=st.integers(0, 500))
def test_every_kth_frame_is_a_share_of_a_plain_data_set(fraction: float, count: int) -> None:
    rows = every_kth(range(count), fraction)
    step = step_of(fraction)
    assert rows == list(range(0, count, step))
    assert len(rows) == -(-count // step)


def test_published_shares() -> None:
    assert [step_of(f) for f in (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)] == [100, 20, 10, 4, 2, 1]
    for wrong in (0.0, -0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="fraction"):
            step_of(wrong)
