"""A simulated robot as messages: rates, truth, faults in transport, live as from a folder."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from condense_ros import sim, wire
from condense_ros.config import build
from condense_ros.datasets.simulated import SimulatedFolder
from condense_ros.errors import ConfigError
from condense_ros.geometry import inverse
from condense_ros.playback import (
    LiveConfig,
    Outgoing,
    PlaybackConfig,
    Player,
    SimulatedPlayback,
    open_playback,
)
from condense_ros.playback.live import LiveSource
from condense_ros.playback.simulated_folder import FolderSource
from condense_ros.sim.folders.faults import Faults, build_faults
from condense_ros.sim.folders.plan import SimulationConfig, make_plan

RIG = {
    "cameras": [{"width": 80, "height": 60, "fx": 50.0, "fy": 50.0, "cx": 39.5, "cy": 29.5}],
    "lidar": {"beams": 8, "azimuth_steps": 200},
}


def config(faults: Faults | None = None, **values: object) -> SimulationConfig:
    return build(
        SimulationConfig,
        {
            "duration_s": 1.0,
            "world_seed": 4,
            "camera_hz": 20.0,
            "imu_hz": 100.0,
            "pixel_truth": True,
            "image_format": "png",
            "workers": 1,
            "layout": sim.WorldConfig(columns=2, rows=2, block_m=60.0),
            "rig": sim.Rig.from_dict(RIG),
            "faults": faults or Faults(),
            **values,
        },
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sim.generate(tmp_path_factory.mktemp("played") / "set", config())


def all_of(playback: SimulatedPlayback) -> list[Outgoing]:
    return [m for i in range(len(playback)) for m in playback.step(i)]


def by_topic(messages: list[Outgoing]) -> dict[str, list[Outgoing]]:
    found: dict[str, list[Outgoing]] = {}
    for message in messages:
        found.setdefault(message.topic, []).append(message)
    return found


def test_every_sensor_at_its_own_rate(folder: Path) -> None:
    playback = open_playback(build(PlaybackConfig, {"path": str(folder), "truth": True}))
    assert isinstance(playback, SimulatedPlayback)
    messages = all_of(playback)
    topics = by_topic(messages)
    assert {topic: len(found) for topic, found in topics.items()} == {
        "/odom": 50,
        "/tf": 50,
        "/ground_truth/odom": 50,
        "/imu": 100,
        "/points": 10,
        "/camera/front/image": 20,
        "/camera/front/camera_info": 20,
        "/camera/front/semantic": 20,
        "/camera/front/instance": 20,
        "/camera/front/depth_truth": 20,
    }
    assert set(playback.topics) <= {*topics, "/tf_static"}
    times = [m.stamp_ns for m in messages]
    assert times == sorted(times)
    # what is needed to place a cloud is sent no later than the cloud
    first = [m.topic for m in messages if m.stamp_ns == playback.start_ns]
    assert first.index("/tf") < first.index("/points")
    data = SimulatedFolder(folder)
    buffer = wire.TfBuffer(100)
    for message in [*playback.latched(), *topics["/tf"]]:
        for transform in wire.decode_tf(message.raw):
            buffer.add(transform, static=message.topic == "/tf_static")
    for i in (0, 4, 9):
        stamp = int(data.stamps_ns[i])
        np.testing.assert_allclose(
            buffer.lookup("map", "lidar", stamp), data[i].T_world_lidar, atol=1e-6
        )
        np.testing.assert_allclose(
            buffer.lookup("odom", "base_link", stamp), data.T_odom_base[i], atol=1e-6
        )
    exact = wire.decode_odometry(topics["/ground_truth/odom"][20].raw)
    np.testing.assert_allclose(
        exact.T_odom_base, data.truth.base_poses([exact.header.stamp_ns])[0], atol=1e-9
    )
    assert np.linalg.norm(exact.twist[:3]) == pytest.approx(7, abs=3.5)
    semantic = wire.decode_image(topics["/camera/front/semantic"][3].raw).pixels
    assert semantic.shape[:2] == (60, 80)


def test_truth_travels_in_the_cloud(folder: Path) -> None:
    source = FolderSource(SimulatedFolder(folder))
    playback = SimulatedPlayback(source, build(PlaybackConfig, {"labels": True}))
    points = next(m for m in all_of(playback) if m.topic == "/points")
    cloud = wire.decode_cloud(points.raw).points
    data = SimulatedFolder(folder)
    np.testing.assert_array_equal(cloud["label"], data[0].labels)
    np.testing.assert_array_equal(cloud["instance"], data.instance(0))
    np.testing.assert_array_equal(cloud["visible"], data.visible(0))


def test_live_is_what_a_folder_of_the_same_configuration_holds(folder: Path) -> None:
    stored = SimulatedPlayback(FolderSource(SimulatedFolder(folder), truth=True),
                               build(PlaybackConfig, {"truth": True, "labels": True}))  # fmt: skip
    live = SimulatedPlayback(
        LiveSource(make_plan(config())), build(PlaybackConfig, {"truth": True, "labels": True})
    )
    try:
        assert len(live) == len(stored)
        last = live.step_at(0.35)
        for i in range(last):
            for one, two in zip(live.step(i), stored.step(i), strict=True):
                assert (one.topic, one.stamp_ns) == (two.topic, two.stamp_ns)
                if one.topic == "/points":
                    a, b = wire.decode_cloud(one.raw).points, wire.decode_cloud(two.raw).points
                    for name in ("x", "y", "z", "label", "instance", "visible", "ring"):
                        np.testing.assert_array_equal(a[name], b[name])
                else:
                    assert one.raw == two.raw, one.topic
        # and back: what was rendered ahead is no longer wanted
        assert live.step(live.step_at(0.0))
    finally:
        live.close()


def test_late_samples_are_left_out_on_request_and_counted(folder: Path) -> None:
    class Slow(FolderSource):
        def picture(self, camera, number, ahead):  # type: ignore[no-untyped-def]
            time.sleep(0.25)
            return super().picture(camera, number, ahead)

    source = Slow(SimulatedFolder(folder))
    for late in ("wait", "drop"):
        settings = build(PlaybackConfig, {"late": late, "prefetch": 1, "duration_s": 0.8})
        sent: Counter[str] = Counter()

        def publish(message: Outgoing, sent: Counter[str] = sent) -> bool:
            sent[message.topic] += 1
            return True

        report = Player(SimulatedPlayback(source, settings), settings, publish).run()
        assert sent["/odom"] == 40
        if late == "wait":
            # simulated time went slower, and says so
            assert sent["/camera/front/image"] == 16
            assert report.behind_s > 2.0
            assert not report.left_out
        else:
            assert report.behind_s == 0
            assert report.left_out["front"] + sent["/camera/front/image"] == 16
            assert 1 <= sent["/camera/front/image"] <= 8
            assert report.seconds < 2.5
    with pytest.raises(ConfigError, match="wait or drop"):
        Player(SimulatedPlayback(source, settings), PlaybackConfig(late="skip"), publish)


def test_losses_delays_and_duplicates_take_place(tmp_path: Path) -> None:
    faults = build_faults(
        {
            "drop": {"lidar": 0.3},
            "duplicate": {"front": 0.5},
            "delay_s": {"front": 0.04},
            "reorder": {"lidar": 0.4},
            "offset_s": {"front": 0.03},
        }
    )
    plan = make_plan(config(faults, duration_s=20.0, images=True))
    source = Silent(plan)
    messages = all_of(SimulatedPlayback(source, PlaybackConfig()))
    topics = by_topic(messages)
    lidar, front = plan.series["lidar"], plan.series["front"]
    kept = int((~lidar.delivery.lost).sum())
    assert len(topics["/points"]) == kept
    assert 0.55 * 200 < kept < 0.85 * 200
    assert len(topics["/camera/front/image"]) == int(front.delivery.copies.sum()) > 440
    # stamps say 30 ms more than the truth, arrival is 40 ms after it
    image = topics["/camera/front/image"][0]
    assert wire.read_header(image.raw).stamp_ns - int(front.true_ns[0]) == 30_000_000
    assert image.stamp_ns - int(front.true_ns[0]) == 40_000_000
    stamps = [wire.read_header(m.raw).stamp_ns for m in topics["/points"]]
    assert (np.diff(stamps) < 0).sum() > 10
    clean = by_topic(all_of(SimulatedPlayback(source, build(PlaybackConfig, {"delivery": False}))))
    assert len(clean["/points"]) == 200
    stamps = [wire.read_header(m.raw).stamp_ns for m in clean["/points"]]
    assert stamps == sorted(stamps)


class Silent(LiveSource):
    """Sensors that see nothing, at once."""

    def sweep(self, number, ahead):  # type: ignore[no-untyped-def]
        from condense_ros.frame import PointCloud
        from condense_ros.sim.folders.render import Sweep

        none = np.zeros(0, np.uint8)
        return Sweep(PointCloud(np.zeros((0, 3), np.float32)), none, none.astype(np.int32), none)

    def picture(self, camera, number, ahead):  # type: ignore[no-untyped-def]
        from condense_ros.frame import CameraImage
        from condense_ros.playback.simulated import as_published
        from condense_ros.sim.folders.render import Picture

        spec = self.plan.rig.cameras[0]
        black = np.zeros((spec.height, spec.width, 3), np.uint8)
        image = CameraImage(camera, 0, black, spec.model, inverse(spec.T_base_cam))
        stamp_ns = int(self.series[camera].stamp_ns[number])
        return Picture(as_published(image, self.rig, stamp_ns), None)


def test_a_motion_distorted_sweep_arrives_at_its_end() -> None:
    rig = sim.Rig.from_dict(
        {**RIG, "lidar": {**RIG["lidar"], "motion_distortion": True}}  # type: ignore[dict-item]
    )
    plan = make_plan(config(rig=rig, images=False))
    points = [
        m for m in all_of(SimulatedPlayback(Silent(plan), PlaybackConfig())) if m.topic == "/points"
    ]
    stamps = [wire.read_header(m.raw).stamp_ns for m in points]
    np.testing.assert_array_equal([m.stamp_ns for m in points], np.array(stamps) + 100_000_000)


def test_one_source_only(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give one"):
        open_playback(PlaybackConfig(path="x"), LiveConfig(world="town"))
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        LiveConfig(world="town", settings=("nonsense",)).simulation()
    made = LiveConfig(world="town", seed=3, frames=20, settings=("faults.drop=0.1",)).simulation()
    assert (made.world_seed, made.drive_seed, made.duration_s) == (3, 3, 2.0)
    assert made.faults.of("drop", "lidar") == 0.1
