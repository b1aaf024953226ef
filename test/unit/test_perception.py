"""Perceiver, labelled files, map building, mailbox."""

from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from condense_ros import sim
from condense_ros.datasets import read_cloud
from condense_ros.errors import (
    CheckpointError,
    ConfigError,
    DatasetError,
    FrameError,
    MapError,
    PerceptionError,
)
from condense_ros.frame import IGNORE, Frame, PointCloud
from condense_ros.geometry import Array, se3
from condense_ros.models import (
    BackboneConfig,
    Checkpoint,
    HeadInfo,
    InputSpec,
    LinearHead,
    build_backbone,
    save_checkpoint,
)
from condense_ros.nodes.perception_parameters import PerceptionParameters
from condense_ros.nodes.perception_pipeline import Located, Pipeline
from condense_ros.ontology import Ontology
from condense_ros.perception import Observer, Perceiver, PerceptionConfig, build_map, segment
from condense_ros.perception.latency import LatencyLog
from condense_ros.perception.mailbox import Mailbox
from condense_ros.places import PlaceMap
from condense_ros.places.relocalise import FOUND
from condense_ros.wire import Header, StampedTransform, encode_tf

ONTOLOGY = Ontology(("ground", "wall", "tree"), np.array([[9, 9, 9], [200, 0, 0], [0, 200, 0]]))
TINY = {"widths": (4, 4, 4, 4, 4, 4, 4, 4, 6), "blocks": (1,) * 8}


def checkpoint(features: tuple[str, ...] = ("one", "height"), heads: int = 1) -> Checkpoint:
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(InputSpec(0.5, 40.0, features=features), **TINY))  # type: ignore[arg-type]
    info = HeadInfo(ONTOLOGY, "random weights", backbone.out_channels)
    return Checkpoint.of(backbone, {f"head{i}": LinearHead(info) for i in range(heads)})


def cloud(rng: np.random.Generator, count: int = 500, **fields: np.ndarray) -> PointCloud:
    return PointCloud(rng.uniform(-30, 30, (count, 3)).astype(np.float32), **fields)  # type: ignore[arg-type]


def test_bfloat16_is_a_switch(rng: np.random.Generator) -> None:
    seen = cloud(rng)
    exact = Perceiver(checkpoint()).perceive(seen)
    low = Perceiver(checkpoint(), PerceptionConfig(precision="bfloat16")).perceive(seen)
    assert low.features.dtype == np.float32
    difference = np.linalg.norm(low.features - exact.features) / np.linalg.norm(exact.features)
    assert 0 < difference < 0.05
    assert (low.label == exact.label).mean() > 0.9
    Perceiver(checkpoint(), PerceptionConfig(precision="auto")).perceive(seen)
    with pytest.raises(ConfigError, match="float32, bfloat16 or auto"):
        Perceiver(checkpoint(), PerceptionConfig(precision="half"))


def test_labels_follow_the_order_of_the_points(rng: np.random.Generator) -> None:
    perceiver = Perceiver(checkpoint())
    points = cloud(rng)
    points.xyz[3] = np.nan
    points.xyz[7] = 1000.0
    whole = perceiver.perceive(points)
    assert whole.label.dtype == np.uint8
    assert whole.confidence.dtype == np.float32
    assert whole.label[3] == whole.label[7] == IGNORE
    assert whole.confidence[3] == whole.confidence[7] == 0
    assert (whole.label == IGNORE).sum() == 2 + whole.left_out["out_of_range"] - 1
    assert whole.left_out["non_finite"] == 1
    order = rng.permutation(len(points))
    shuffled = perceiver.perceive(points.select(order))
    assert np.array_equal(shuffled.label, whole.label[order])
    assert shuffled.confidence == pytest.approx(whole.confidence[order], abs=1e-5)


def test_labels_are_the_networks(rng: np.random.Generator) -> None:
    made = checkpoint()
    perceiver = Perceiver(made)
    points = cloud(rng)
    backbone, head = made.build_backbone(), made.build_head("head0")
    with torch.inference_mode():
        voxels = backbone.input.voxelize(points)
        probability = torch.softmax(head(backbone(voxels)), dim=1)
    inverse = voxels.inverse.numpy()
    inside = inverse >= 0
    best, winner = probability.max(dim=1)
    perception = perceiver.perceive(points)
    assert np.array_equal(perception.label[inside], winner.numpy()[inverse[inside]])
    assert perception.confidence[inside] == pytest.approx(best.numpy()[inverse[inside]])
    assert perception.features.shape == (len(voxels), 6)
    assert set(perception.timings_ms) == {"voxelize", "backbone", "head"}


def test_too_many_points_lose_the_farthest(rng: np.random.Generator) -> None:
    points = cloud(rng, 1000)
    points.xyz[0] = np.inf
    perception = Perceiver(checkpoint(), PerceptionConfig(max_points=400)).perceive(points)
    assert perception.left_out["over_capacity"] == 600
    distance = np.linalg.norm(points.xyz, axis=1)
    kept = perception.inverse >= 0
    assert len(perception.label) == 1000
    assert distance[kept].max() <= np.sort(distance)[399]


def test_empty_and_hopeless_clouds(rng: np.random.Generator) -> None:
    perceiver = Perceiver(checkpoint())
    empty = perceiver.perceive(PointCloud(np.zeros((0, 3), np.float32)))
    assert empty.label.shape == (0,)
    assert not empty.descriptor.any()
    assert len(empty.keypoints) == 0
    lost = perceiver.perceive(PointCloud(np.full((5, 3), np.nan, np.float32)))
    assert (lost.label == IGNORE).all()
    assert lost.left_out == {"non_finite": 5}


def test_missing_input_features_are_named(rng: np.random.Generator) -> None:
    perceiver = Perceiver(checkpoint(("one", "intensity")))
    with pytest.raises(FrameError, match="no intensity"):
        perceiver.perceive(cloud(rng))
    bright = np.full(500, 200.0, np.float32)
    perceiver.perceive(cloud(rng, intensity=bright))
    assert any("scale of 1" in text for text in perceiver.warnings)
    with pytest.raises(FrameError, match="colours"):
        Perceiver(checkpoint(("one", "r"))).perceive(cloud(rng))


def test_nan_in_the_weights_is_noticed(rng: np.random.Generator) -> None:
    made = checkpoint()
    made.state["backbone.net.stem.0.weight"].fill_(float("nan"))
    with pytest.raises(PerceptionError, match="not finite"):
        Perceiver(made)


def test_cuda_that_is_missing_falls_back_visibly(rng: np.random.Generator) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    perceiver = Perceiver(checkpoint(), PerceptionConfig(device="cuda:0"))
    assert perceiver.device.torch_device.type == "cpu"
    assert "0 CUDA devices" in perceiver.device.fallback
    assert perceiver.warnings == [perceiver.device.fallback]
    assert perceiver.perceive(cloud(rng)).label.size == 500
    for wrong in ("gpu", "meta"):
        with pytest.raises(ConfigError, match="use auto"):
            Perceiver(checkpoint(), PerceptionConfig(device=wrong))


def test_heads_are_chosen_by_name(rng: np.random.Generator) -> None:
    with pytest.raises(CheckpointError, match="several heads"):
        Perceiver(checkpoint(heads=2))
    assert Perceiver(checkpoint(heads=2), PerceptionConfig(head="head1")).head is not None
    with pytest.raises(CheckpointError, match="no head 'x'"):
        Perceiver(checkpoint(), PerceptionConfig(head="x"))
    headless = Perceiver(checkpoint(heads=0))
    assert any("no segmentation head" in text for text in headless.warnings)
    perception = headless.perceive(cloud(rng))
    assert (perception.label == IGNORE).all()
    assert len(perception.features)


def test_descriptor_kinds(rng: np.random.Generator) -> None:
    geometric = Perceiver(checkpoint())
    learned = Perceiver(checkpoint(), PerceptionConfig(descriptor="backbone_gem"))
    assert geometric.backbone_id == "none"
    assert learned.backbone_id == checkpoint().identity()
    points = cloud(rng, 3000)
    for perceiver in (geometric, learned):
        descriptor = perceiver.perceive(points).descriptor
        assert descriptor.shape == (perceiver.descriptor_size,)
        assert np.linalg.norm(descriptor) == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(ConfigError, match="descriptor"):
        Perceiver(checkpoint(), PerceptionConfig(descriptor="magic"))


@pytest.mark.parametrize("suffix", [".ply", ".pcd", ".npz"])
def test_labelled_files_are_read_back(
    tmp_path: Path, rng: np.random.Generator, suffix: str
) -> None:
    points = cloud(rng, 300)
    np.savez(tmp_path / "in.npz", xyz=points.xyz)
    save_checkpoint(tmp_path / "c.safetensors", checkpoint())
    seen: list[tuple[int, int]] = []
    report = segment(
        tmp_path / "in.npz", tmp_path / "c.safetensors", tmp_path / "out", suffix=suffix,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    again = read_cloud(tmp_path / "out" / f"in{suffix}")
    assert np.array_equal(again.xyz, points.xyz)
    assert seen == [(1, 1)]
    assert sum(report.class_points.values()) == report.points == 300
    assert report.supervision == "random weights"
    assert report.pictures[0].stat().st_size > 1000
    assert report.latency_ms["backbone"]["count"] == report.clouds


def test_segmenting_nothing_or_without_a_head(tmp_path: Path, rng: np.random.Generator) -> None:
    path = save_checkpoint(tmp_path / "c.safetensors", checkpoint(heads=0))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError):
        segment(tmp_path / "empty", path, tmp_path / "out")
    np.savez(tmp_path / "in.npz", xyz=np.zeros((5, 3), np.float32))
    with pytest.raises(CheckpointError, match="condense probe"):
        segment(tmp_path / "in.npz", path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Drive:
    """Frames along a straight line, 1 m apart."""

    period_s = 0.1
    classes = None
    T_base_lidar = None
    world_frame = ""

    def __init__(self, rng: np.random.Generator, posed: bool = True, name: str = "drive") -> None:
        self._rng, self._posed, self.name = rng, posed, name
        self.loaded: list[int] = []

    @property
    def poses(self) -> Array | None:
        rows = [se3(np.eye(3), (float(x), 0, 0)) for x in range(10)]
        return np.stack(rows) if self._posed else None

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Frame:
        self.loaded.append(index)
        poses = self.poses
        return Frame(
            index, cloud(self._rng, 2000), T_world_lidar=None if poses is None else poses[index]
        )


def test_a_map_is_built_every_few_metres(tmp_path: Path, rng: np.random.Generator) -> None:
    perceiver, drive = Perceiver(checkpoint()), Drive(rng)
    info = build_map(drive, perceiver, tmp_path / "m", spacing_m=3.0)
    assert (info.places, info.sessions) == (4, {"drive": 4})
    # frames between the places were never read
    assert drive.loaded == [0, 3, 6, 9]
    assert list(PlaceMap.open(tmp_path / "m").poses()[1][:, 0, 3]) == [0, 3, 6, 9]
    with pytest.raises(MapError, match="holds a map already"):
        build_map(drive, perceiver, tmp_path / "m")
    with pytest.raises(DatasetError, match="has no pose"):
        build_map(Drive(rng, posed=False), perceiver, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_map_of_several_drives_needs_no_checkpoint(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    drives, told = [Drive(rng, name="monday"), Drive(rng, name="tuesday")], []
    info = build_map(
        drives,
        Observer(),
        tmp_path / "m",
        spacing_m=4.0,
        map_frame="town",
        progress=lambda done, total: told.append((done, total)),
    )
    # the second drive begins with a place of its own, wherever the first one ended
    assert info.sessions == {"monday": 3, "tuesday": 3}
    assert (info.header.map_frame, info.header.backbone) == ("town", "none")
    assert told == [(n, 20) for n in range(20)] + [(20, 20)]
    with pytest.raises(ConfigError, match="spacing_m"):
        build_map(drives, Observer(), tmp_path / "other", spacing_m=-1.0)
    with pytest.raises(DatasetError, match="no data"):
        build_map([], Observer(), tmp_path / "other")


def test_drives_by_odometry_are_not_merged(tmp_path: Path, rng: np.random.Generator) -> None:
    drives = [Drive(rng, name="monday"), Drive(rng, name="tuesday")]
    drives[1].world_frame = "odom"
    with pytest.raises(MapError, match=r"monday: not named, tuesday: odom.*world_frame:=map"):
        build_map(drives, Observer(), tmp_path / "m")
    assert not (tmp_path / "m").exists()
    build_map(drives[1], Observer(), tmp_path / "m", spacing_m=5.0)
    drives[0].world_frame = drives[1].world_frame = "map"
    build_map(drives, Observer(), tmp_path / "both", spacing_m=5.0)


def pipeline(**parameters: object) -> Pipeline:
    return Pipeline(
        Perceiver(checkpoint()),
        PerceptionParameters(**parameters),  # type: ignore[arg-type]
        lambda topic, raw: None,
        lambda located: None,
        lambda stage, milliseconds: None,
        lambda: 0,
    )


def test_poses_are_in_the_frame_of_the_map(
    rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    work = pipeline(map_frame="map")
    seen = work.perceiver.perceive(cloud(rng))
    assert work.locate(Header(1, "lidar"), seen).map_frame == "map"
    work.use_map(PlaceMap(None, Observer().header("town")))
    assert work.locate(Header(1, "lidar"), seen).map_frame == "town"
    for text in (caplog.text, work.problems()["map_frame"]):
        assert "map_frame is 'map'" in text
        assert "'town'" in text
    work.use_map(PlaceMap(None, Observer().header("map")))
    assert "map_frame" not in work.problems()


def test_until_found_asks_again_in_another_map_mode_or_life(rng: np.random.Generator) -> None:
    work = pipeline(relocalise_mode="until_found", relocalise_every_s=0.0)
    header, seen = Header(1, "lidar"), work.perceiver.perceive(cloud(rng))
    found = Located(header, FOUND, None, None, "", 1.0, "", 0.0, "map")
    work.locate = lambda header, perception: found  # type: ignore[method-assign]

    def answers() -> int:
        before = work.answers[FOUND]
        work._ask(header, seen)
        deadline = time.monotonic() + 1.0
        while work.answers[FOUND] == before and time.monotonic() < deadline:
            time.sleep(0.005)
            if work._queries.count().waiting == 0:
                break
        return work.answers[FOUND] - before

    work.start()
    assert (answers(), answers()) == (1, 0)
    work.use_map(PlaceMap(None, Observer().header()))
    assert (answers(), answers()) == (1, 0)
    for mode in ("always", "until_found"):
        work.use_parameters(dataclasses.replace(work.parameters, relocalise_mode=mode))
    assert (answers(), answers()) == (1, 0)
    work.stop()
    work.start()
    assert (answers(), answers()) == (1, 0)
    work.stop()


def test_transforms_of_a_clock_that_was_set_back_are_used() -> None:
    work = pipeline()
    for second, x in ((100, 1.0), (5, 2.0)):
        moved = StampedTransform(second * 10**9, "map", "base_link", se3(np.eye(3), (x, 0, 0)))
        work.add_tf(encode_tf([moved]), static=False)
    assert work.lookup("map", "base_link", 5 * 10**9)[0, 3] == 2.0
    assert "set back" in work.problems()["tf"]


def test_the_observer_names_the_descriptors_of_its_backbone(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "c.safetensors", checkpoint())
    pooled = Observer.of_kind("backbone_gem", path, "cpu")
    assert pooled.header().backbone == checkpoint().identity()
    frame = Frame(1, cloud(np.random.default_rng(0), 500))
    assert pooled(frame).descriptor.shape == (pooled.header().descriptor_size,)
    # geometry gives the same descriptor with and without a network at hand
    geometric = Observer(Perceiver(path))
    assert geometric.header() == Observer().header()
    assert np.array_equal(geometric(frame).descriptor, Observer()(frame).descriptor)
    with pytest.raises(ConfigError, match="--checkpoint"):
        Observer.of_kind("backbone_gem")
    with pytest.raises(ConfigError, match="no descriptor kind"):
        Observer.of_kind("bag_of_words")


def test_one_pass_serves_labels_and_places() -> None:
    world = sim.World(3, sim.WorldConfig(columns=2, rows=2))
    pose = sim.drive(world, 1.0)[0]
    frame = sim.Simulator(world).frame(pose, 1, images=False)
    perception = Perceiver(checkpoint()).perceive(frame)
    assert len(perception.keypoints) > 200
    assert perception.observation is perception.observation
    assert perception.observation.descriptor is perception.descriptor


def test_mailbox_keeps_the_newest_and_its_books() -> None:
    box: Mailbox[int] = Mailbox()
    for number in range(5):
        box.put(number)
    assert box.count().waiting == 1
    taken = box.take(0.0)
    assert taken is not None
    assert taken[0] == 4
    assert box.count().waiting == 1
    box.done()
    box.put(5)
    assert box.take(0.0) is not None
    box.drop("too_old")
    assert box.take(0.01) is None
    box.put(6)
    box.close()
    box.put(7)
    count = box.count()
    assert count.dropped == {"superseded": 4, "too_old": 1, "inactive": 2}
    assert (count.received, count.processed, count.waiting) == (8, 1, 0)
    box.open()
    box.put(8)
    assert box.take(0.0) is not None


def test_mailbox_between_threads_loses_nothing_silently() -> None:
    box: Mailbox[int] = Mailbox()
    taken: list[int] = []

    def work() -> None:
        while (item := box.take(0.5)) is not None:
            taken.append(item[0])
            box.done()

    thread = threading.Thread(target=work)
    thread.start()
    for number in range(2000):
        box.put(number)
    thread.join()
    count = box.count()
    assert count.received == 2000 == count.processed + count.dropped.get("superseded", 0)
    assert taken == sorted(taken)
    assert taken[-1] == 1999


def test_latencies_by_hand() -> None:
    log = LatencyLog()
    for value in range(1, 101):
        log.add("stage", float(value))
    assert log.summary() == {"stage": {"p50": 50.5, "p99": 99.01, "max": 100.0, "count": 100}}
