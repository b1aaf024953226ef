"""Exports read back: KITTI folders through our own reader, WebDataset shards through tarfile."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bag_tools import record

from condense_ros.bags import BagWriter, RecordConfig
from condense_ros.datasets import open_dataset
from condense_ros.datasets.bag import BagDataset
from condense_ros.datasets.export_kitti import export_kitti
from condense_ros.datasets.export_webdataset import export_webdataset
from condense_ros.datasets.kitti import KittiSequence
from condense_ros.errors import ConfigError, DatasetError
from condense_ros.frame import CameraImage, Frame, PointCloud
from condense_ros.geometry import R_OPTICAL_BODY, CameraModel, rotation_rpy, se3


@pytest.fixture
def dataset(tmp_path):
    with BagWriter(tmp_path / "bag", RecordConfig(chunk_mib=0.005)) as writer:
        record(writer, 6)
    return BagDataset(tmp_path / "bag")


class Straight:
    """Frames of cameras without distortion, whose pixels must come back as they were."""

    name, period_s, classes, T_base_lidar, poses = "straight", 0.1, None, None, None

    def __init__(self, cameras: int = 1, count: int = 3) -> None:
        self.cameras, self.count = cameras, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Frame:
        if not 0 <= index < self.count:
            raise IndexError
        rng = np.random.default_rng(index)
        cloud = PointCloud(
            rng.normal(size=(40, 3)).astype(np.float32), rng.random(40).astype(np.float32)
        )
        camera = CameraModel([[60.0, 0, 31.5], [0, 61.0, 23.5], [0, 0, 1]], 64, 48)
        images = tuple(
            CameraImage(
                f"cam.{k}",
                10**9 + index,
                rng.integers(0, 256, (48, 64, 3), dtype=np.uint8),
                camera,
                se3(R_OPTICAL_BODY @ rotation_rpy(0, 0, k), [0.1, 0.2, k]),
            )
            for k in range(self.cameras)
        )
        pose = se3(rotation_rpy(0.01, 0.02, 0.3 * index), [index, 2.0, 0.5])
        return Frame(10**9 + index * 10**8, cloud, images, pose, sequence="straight", index=index)


def test_kitti_reads_back_exactly(tmp_path):
    data = Straight()
    export = export_kitti(data, tmp_path / "out")
    assert (export.frames, export.fresh, export.skipped) == (3, 3, {})
    back = KittiSequence(tmp_path / "out")
    assert len(back) == 3
    for k, frame in enumerate(back):
        before = data[k]
        np.testing.assert_array_equal(frame.cloud.xyz, before.cloud.xyz)
        np.testing.assert_array_equal(frame.cloud.intensity, before.cloud.intensity)
        np.testing.assert_array_equal(frame.images[0].pixels, before.images[0].pixels)
        np.testing.assert_allclose(frame.images[0].camera.K, before.images[0].camera.K)
        np.testing.assert_allclose(
            frame.images[0].T_cam_lidar, before.images[0].T_cam_lidar, atol=1e-9
        )
        np.testing.assert_allclose(frame.T_world_lidar, before.T_world_lidar, atol=1e-9)
    times = (tmp_path / "out" / "times.txt").read_text().split()
    assert [float(t) for t in times] == pytest.approx([0.0, 0.1, 0.2])


def test_kitti_of_several_cameras_and_of_none(tmp_path):
    export_kitti(Straight(2), tmp_path / "two")
    for k in range(2):
        back = KittiSequence(tmp_path / "two" / f"cam.{k}")
        np.testing.assert_array_equal(back[1].images[0].pixels, Straight(2)[1].images[k].pixels)
        np.testing.assert_array_equal(back[1].cloud.xyz, Straight(2)[1].cloud.xyz)
        np.testing.assert_allclose(back[2].T_world_lidar, Straight()[2].T_world_lidar, atol=1e-9)
    export_kitti(Straight(2), tmp_path / "one", cameras=("cam.1",))
    pixels = KittiSequence(tmp_path / "one")[0].images[0].pixels
    np.testing.assert_array_equal(pixels, Straight(2)[0].images[1].pixels)
    export_kitti(Straight(0), tmp_path / "none")
    back = KittiSequence(tmp_path / "none")
    assert back[0].images == ()
    np.testing.assert_allclose(back.poses[1], Straight()[1].T_world_lidar, atol=1e-9)
    with pytest.raises(ConfigError, match="no camera side"):
        export_kitti(Straight(2), tmp_path / "x", cameras=("side",))


def test_kitti_images_are_rectified(dataset, tmp_path):
    """A point projected with the exported K falls on the colour that the lens put there."""
    v, u = np.mgrid[0:48, 0:64]
    pixels = np.stack([4 * u, 5 * v, u + v], axis=2).astype(np.uint8)
    bent = CameraModel([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]], 64, 48, [-0.4, 0.1, 0, 0, 0])
    frame = replace(Straight()[0], images=(CameraImage("a", 1, pixels, bent, np.eye(4)),))

    class One(Straight):
        def __getitem__(self, index: int) -> Frame:
            return frame if index == 0 else [][index]

    export_kitti(One(count=1), tmp_path / "out")
    back = KittiSequence(tmp_path / "out")[0].images[0]
    assert not back.camera.D.any()
    rays = np.array([[0.2, 0.1, 1.0], [-0.4, 0.2, 1.0], [0.0, -0.35, 1.0]])
    seen, _, inside = bent.project(rays)
    at, _, _ = back.camera.project(rays)
    assert inside.all()
    assert np.abs(seen - at).max() > 1.5
    for (us, vs), (x, y) in zip(seen, at, strict=True):
        # half a pixel of rounding
        assert back.pixels[round(y), round(x), 0] == pytest.approx(4 * us, abs=3)
        assert back.pixels[round(y), round(x), 1] == pytest.approx(5 * vs, abs=4)


def test_a_bag_comes_back_from_kitti(dataset, tmp_path):
    export_kitti(dataset, tmp_path / "out")
    back = open_dataset(tmp_path / "out")
    assert isinstance(back, KittiSequence)
    assert len(back) == 6
    np.testing.assert_allclose(back.poses, dataset.poses, atol=1e-9)
    np.testing.assert_array_equal(back[3].cloud.xyz, dataset[3].cloud.xyz)


class Failing(Straight):
    """Breaks off at a frame, as Ctrl-C does, or finds one damaged."""

    def __init__(self, at: int, error: BaseException) -> None:
        super().__init__(count=6)
        self.at, self.error = at, error

    def __getitem__(self, index: int) -> Frame:
        if index == self.at:
            raise self.error
        return super().__getitem__(index)


@pytest.mark.parametrize("kind", ["kitti", "webdataset"])
def test_an_interrupted_export_goes_on(tmp_path, kind):
    def run(data, out):
        if kind == "kitti":
            return export_kitti(data, out)
        return export_webdataset(data, out, shard_frames=2)

    with pytest.raises(KeyboardInterrupt):
        run(Failing(3, KeyboardInterrupt()), tmp_path / "out")
    assert not list((tmp_path / "out").glob("**/*.partial"))
    export = run(Straight(count=6), tmp_path / "out")
    assert export.frames == 6
    assert export.fresh == (3 if kind == "kitti" else 4)
    run(Straight(count=6), tmp_path / "whole")
    assert _hashes(tmp_path / "out") == _hashes(tmp_path / "whole")
    assert run(Straight(count=6), tmp_path / "out").fresh == 0
    with pytest.raises(DatasetError, match="another export"):
        run(Straight(count=4), tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(DatasetError, match="no export"):
        run(Straight(), tmp_path / "mine")


def _hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_damaged_frames_are_left_out_and_named(tmp_path):
    damaged = Failing(2, DatasetError("chunk 7 is damaged", "restore it"))
    export = export_kitti(damaged, tmp_path / "kitti")
    assert list(export.skipped) == [2]
    back = KittiSequence(tmp_path / "kitti")
    assert len(back) == 5
    np.testing.assert_allclose(back[2].T_world_lidar, Straight(count=6)[3].T_world_lidar, atol=1e-9)
    export = export_webdataset(damaged, tmp_path / "web", shard_frames=4)
    assert export.frames == 5
    manifest = json.loads((tmp_path / "web" / "export.json").read_text())
    assert "chunk 7" in manifest["skipped"]["2"]
    again = export_webdataset(damaged, tmp_path / "web", shard_frames=4)
    assert list(again.skipped) == [2]


def test_kitti_refuses_a_change_of_calibration(tmp_path):
    class Changing(Straight):
        def __getitem__(self, index: int) -> Frame:
            frame = super().__getitem__(index)
            if index < 2:
                return frame
            moved = replace(frame.images[0], T_cam_lidar=np.eye(4))
            return replace(frame, images=(moved,))

    with pytest.raises(DatasetError, match=r"from frame 2 on cam\.0 has another calibration"):
        export_kitti(Changing(), tmp_path / "out")
    export_kitti(Changing(), tmp_path / "first", frames=(0, 2))
    assert len(KittiSequence(tmp_path / "first")) == 2
    with pytest.raises(ConfigError, match="no frames 2:9"):
        export_kitti(Changing(), tmp_path / "x", frames=(2, 9))


def test_shards_hold_the_samples(dataset, tmp_path):
    export_webdataset(dataset, tmp_path / "out", shard_frames=4)
    shards = sorted((tmp_path / "out").glob("*.tar"))
    assert [shard.name for shard in shards] == ["shard-000000.tar", "shard-000001.tar"]
    samples: dict[str, dict[str, bytes]] = {}
    for shard in shards:
        with tarfile.open(shard) as tar:
            for member in tar:
                # as the webdataset library groups members
                key, _, suffix = member.name.partition(".")
                samples.setdefault(key, {})[suffix] = tar.extractfile(member).read()
    assert list(samples) == [f"bag_{k:06d}" for k in range(6)]
    from PIL import Image

    for k, sample in enumerate(samples.values()):
        frame = dataset[k]
        facts = json.loads(sample["json"])
        np.testing.assert_array_equal(np.load(io.BytesIO(sample["xyz.npy"])), frame.cloud.xyz)
        pixels = np.asarray(Image.open(io.BytesIO(sample["front.png"])))
        np.testing.assert_array_equal(pixels, frame.images[0].pixels)
        assert facts["stamp_ns"] == frame.stamp_ns
        np.testing.assert_array_equal(facts["T_world_lidar"], frame.T_world_lidar)
        camera = facts["cameras"]["front"]
        np.testing.assert_array_equal(camera["K"], frame.images[0].camera.K)
        np.testing.assert_array_equal(camera["T_cam_lidar"], frame.images[0].T_cam_lidar)
    export_webdataset(dataset, tmp_path / "jpg", images="jpg", frames=(1, 3))
    with tarfile.open(tmp_path / "jpg" / "shard-000000.tar") as tar:
        assert [n for n in tar.getnames() if n.endswith("jpg")] == [
            "bag_000001.front.jpg",
            "bag_000002.front.jpg",
        ]
