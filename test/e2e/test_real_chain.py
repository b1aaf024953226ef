"""The whole chain on real sensor data, through real DDS: replayed, recorded, learned, served."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS")
pytest.importorskip("condense_msgs", reason="the interface workspace is not built: `make env`")

from PIL import Image

from condense_ros.cli._processes import running
from condense_ros.datasets import open_dataset
from condense_ros.draw import draw_overlay
from condense_ros.frame import IGNORE, Frame
from condense_ros.geometry import project_cloud
from condense_ros.ontology import Ontology
from condense_ros.perception import segment
from condense_training import HeadConfig, PretrainConfig, fit_head, pretrain
from condense_training.trainer import TrainerConfig

pytestmark = pytest.mark.ros

VEHICLES = Ontology(("other", "vehicle"), np.array([[120, 120, 120], [255, 120, 0]], np.uint8))
#: a run so short that only the plumbing is tested; what is learned is tested on simulated worlds
SHORT = PretrainConfig(
    settings={"pixel_steps": 2, "lift_steps": 2, "pixel_batch": 1, "lift_batch": 1},
    trainer=TrainerConfig(progress=False),
)
DOMAIN = 61


def record(path: Path, folder: Path, capture: dict, play: dict) -> Path:
    """Replays a data set into a recorder over DDS; every message must be accounted for."""
    bag, account, sent = folder / "bag", folder / "account.json", folder / "sent.json"
    with running(
        "capture_node",
        {"bag": bag, "report_path": account, "transform_wait_s": 5.0, **capture},
        folder / "capture.log",
        DOMAIN,
    ) as recorder:
        wait_for = [capture.get("depth_topic") or "/points", *capture["image_topics"]]
        with running(
            "replay_node",
            {"path": path, "report_path": sent, "wait_for": wait_for, **play},
            folder / "replay.log",
            DOMAIN,
        ) as player:
            assert player.wait(90), player.tail()
        recorder.stop()
        recorder.check()
    published = json.loads(sent.read_text())["sent"]
    for topic, count in json.loads(account.read_text())["topics"].items():
        assert (
            count["received"]
            == count["matched"] + sum(count["dropped"].values()) + count["waiting"]
        )
        assert count["received"] <= published[topic]
    return bag


def boxed(path: Path) -> list[Frame]:
    """KITTI frames with points inside a car, van or truck's box as vehicles, the rest as other."""
    dataset = open_dataset(path)
    frames = []
    for index in range(len(dataset)):
        frame = dataset[index]
        labels = np.zeros(len(frame.cloud), np.uint8)
        for box in dataset.boxes(index):
            if box.name in ("Car", "Van", "Truck"):
                labels[box.contains(frame.cloud.xyz)] = 1
        frames.append(replace(frame, labels=labels))
    return frames


@pytest.fixture(scope="module")
def checkpoint(data_dir, tmp_path_factory) -> Path:
    """Pretrained for a moment on real pairs, with a head fitted on boxes of other real frames."""
    folder = tmp_path_factory.mktemp("checkpoint")
    backbone = pretrain([data_dir / "kitti_jam_camlidar"], folder, replace(SHORT, frame_limit=4))
    frames = boxed(data_dir / "kitti_object3")
    assert sum(int((frame.labels == 1).sum()) for frame in frames) > 100
    config = HeadConfig(label_source="boxed KITTI", points_per_frame=1000, steps=20)
    return fit_head(backbone, frames, VEHICLES, folder / "vehicles.safetensors", config)


CASES = {
    "kitti_jam_camlidar": (
        {"image_topics": ["/camera/image_02/image"]},
        {"duration_s": 2.0, "start_delay_s": 0.5},
        5,
    ),
    "kitti_object3": (
        {"image_topics": ["/camera/image_2/image"], "world_frame": ""},
        {"start_delay_s": 0.5, "rate": 0.5},
        3,
    ),
    "nuscenes_frame": (
        {
            "image_topics": [
                f"/camera/CAM_{name}/image/compressed"
                for name in ("FRONT", "FRONT_LEFT", "FRONT_RIGHT", "BACK", "BACK_LEFT")
            ]
            + ["/camera/CAM_BACK_RIGHT/image/compressed"],
            "sync.tolerance_s": 0.1,
        },
        {"compressed": True, "start_delay_s": 0.5},
        1,
    ),
    "7scenes_kitchen_dev": (
        {
            "points_topic": "",
            "depth_topic": "/camera/color/depth",
            "image_topics": ["/camera/color/image"],
        },
        {"duration_s": 1.0, "rate": 0.5, "start_delay_s": 0.5},
        10,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_recorded_learned_segmented_drawn(name, data_dir, checkpoint, tmp_path):
    capture, play, least_pairs = CASES[name]
    bag = record(data_dir / name, tmp_path, capture, play)
    frames = open_dataset(bag)
    assert len(frames) >= least_pairs

    # a picture with the points where the calibration puts them
    frame = frames[0]
    image = frame.images[0]
    seen = project_cloud(frame.cloud.xyz, image.T_cam_cloud, image.camera)
    assert len(seen.index) > 500
    picture = draw_overlay(frame, image.name, tmp_path / "overlay.png")
    assert np.asarray(Image.open(picture)).std() > 10

    backbone = pretrain([bag], tmp_path / "pretrained", SHORT)
    assert backbone.exists()
    losses = [json.loads(line) for line in (backbone.parent / "log.jsonl").open()]
    assert len(losses) == 4
    assert all(np.isfinite(line["loss"]) for line in losses)

    report = segment(bag, checkpoint, tmp_path / "segmented")
    assert report.clouds == len(frames)
    assert report.supervision == "3 labelled boxed KITTI frames"
    labelled = sum(n for name, n in report.class_points.items() if name in VEHICLES.names)
    assert labelled > 0.5 * report.points
    assert report.pictures


def test_served_live(data_dir, checkpoint, tmp_path):
    """perception_node labels real KITTI sweeps as they arrive."""
    report_path = tmp_path / "perception.json"
    with running(
        "perception_node",
        {
            "checkpoint": checkpoint,
            "report": report_path,
            "autostart": True,
            "use_sim_time": True,
            "threads": 1,
            "max_age_s": 30.0,
        },
        tmp_path / "perception.log",
        DOMAIN,
    ) as node:
        with running(
            "replay_node",
            {
                "path": data_dir / "kitti_jam_camlidar",
                "wait_for": ["/points"],
                "duration_s": 3.0,
                "start_delay_s": 1.0,
                "rate": 0.3,
            },
            tmp_path / "replay.log",
            DOMAIN,
        ) as player:
            assert player.wait(120), player.tail()
        node.stop()
        node.check()
    content = json.loads(report_path.read_text())
    clouds = content["clouds"]
    assert (
        clouds["received"]
        == clouds["processed"] + sum(clouds["dropped"].values()) + clouds["waiting"]
    )
    assert clouds["processed"] >= 3
    # without a map it segments and answers "unknown"
    assert set(content["answers"]) == {"unknown"}


def test_boxes_give_both_classes(data_dir):
    frames = boxed(data_dir / "kitti_object3")
    counts = np.bincount(np.concatenate([frame.labels for frame in frames]), minlength=IGNORE)
    assert counts[0] > counts[1] > 100
