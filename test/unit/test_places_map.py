"""The place map: storing, finding, saving, refusing."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from condense_ros.errors import GeometryError, MapError
from condense_ros.geometry import rotation_rpy, se3
from condense_ros.places import MapHeader, Observation, Place, PlaceMap, map_info
from condense_ros.places.depth_image import depth_image
from condense_ros.places.keypoints import DESCRIPTOR_SIZE, KeypointConfig, Keypoints

SIZE = 8


def header(**changes: object) -> MapHeader:
    return MapHeader(**({"backbone": "abc", "descriptor_kind": "test", "descriptor_size": SIZE}
                        | changes))  # type: ignore[arg-type]  # fmt: skip


def make_place(rng: np.random.Generator, **changes: object) -> Place:
    local = rng.random((20, DESCRIPTOR_SIZE)).astype(np.float32)
    local /= np.linalg.norm(local, axis=1, keepdims=True)
    xyz = rng.uniform(-50, 50, (300, 3)).astype(np.float32)
    descriptor = rng.normal(0, 1, SIZE).astype(np.float32)
    observation = Observation(
        descriptor / np.linalg.norm(descriptor), Keypoints(xyz[:20], local), xyz, depth_image(xyz)
    )
    pose = se3(rotation_rpy(0.1, 0.2, rng.uniform(-3, 3)), rng.uniform(-100, 100, 3))
    return Place(**({"observation": observation, "T_map_lidar": pose, "stamp_ns": 5} | changes))  # type: ignore[arg-type]


def test_what_is_stored_comes_back(tmp_path: Path, rng: np.random.Generator) -> None:
    keypoints = KeypointConfig(voxel_m=0.5)
    place_map = PlaceMap.create(tmp_path / "m", header(map_frame="site", keypoints=keypoints))
    places = [make_place(rng, session=f"s{i % 2}", stamp_ns=i, name="dock" * (i == 3))
              for i in range(5)]  # fmt: skip
    assert [place_map.add(place) for place in places] == [0, 1, 2, 3, 4]
    assert place_map.save() == 5
    again = PlaceMap.open(tmp_path / "m")
    assert len(again) == 5
    assert again.header == header(map_frame="site", keypoints=keypoints)
    for number, place in enumerate(places):
        stored = again.place(number)
        assert (stored.stamp_ns, stored.session, stored.id) == (number, place.session, number)
        assert np.array_equal(stored.T_map_lidar, place.T_map_lidar)
        assert np.array_equal(stored.observation.descriptor, place.observation.descriptor)
        # half a centimetre of rounding, and 1/510 of a descriptor's entry
        assert np.abs(stored.observation.cloud - place.observation.cloud).max() <= 0.0051
        ours, theirs = place.observation.keypoints, stored.observation.keypoints
        assert np.abs(ours.xyz - theirs.xyz).max() <= 0.0051
        assert np.abs(ours.descriptors - theirs.descriptors).max() < 0.01
        near = place.observation.depth.near
        assert np.nanmax(np.abs(stored.observation.depth.near - near)) <= 0.0051
        assert np.array_equal(np.isnan(stored.observation.depth.near), np.isnan(near))
    assert again.label(3) == "dock"
    assert again.label(2) == "2"
    info = map_info(tmp_path / "m")
    assert (info.places, info.sessions) == (5, {"s0": 3, "s1": 2})
    assert info.bytes > 5000


def test_keypoints_taken_otherwise_are_refused() -> None:
    coarse = KeypointConfig(voxel_m=0.5)
    place_map = PlaceMap(None, header(keypoints=coarse))
    place_map.check_query("abc", "test", coarse)
    usual = KeypointConfig().voxel_m
    with pytest.raises(MapError, match=rf"voxel_m=0\.5.*voxel_m={usual}.*Fix: take keypoints"):
        place_map.check_query("abc", "test")


def test_search_is_exact(tmp_path: Path, rng: np.random.Generator) -> None:
    place_map = PlaceMap.create(tmp_path / "m", header())
    places = [make_place(rng) for _ in range(60)]
    for place in places:
        place_map.add(place)
    rows = np.stack([place.observation.descriptor for place in places]).astype(np.float64)
    deviation = rows.std(axis=0)
    scale = deviation + 0.01 * deviation.mean()
    query = rng.normal(0, 1, SIZE).astype(np.float32)
    standard = (rows - rows.mean(axis=0)) / scale
    wanted = (query - rows.mean(axis=0)) / scale
    cosine = standard @ wanted / np.linalg.norm(standard, axis=1) / np.linalg.norm(wanted)
    ids, similarity = place_map.nearest(query, 10)
    assert ids.tolist() == np.argsort(-cosine)[:10].tolist()
    assert similarity == pytest.approx(np.sort(cosine)[::-1][:10], abs=1e-5)
    for number in (0, 17, 59):
        assert place_map.nearest(places[number].observation.descriptor, 1)[0][0] == number
    assert len(place_map.nearest(query, 500)[0]) == 60


def test_places_are_found_before_and_after_a_save(tmp_path: Path, rng: np.random.Generator) -> None:
    place_map = PlaceMap.create(tmp_path / "m", header())
    first, second = make_place(rng), make_place(rng)
    place_map.add(first)
    assert place_map.nearest(first.observation.descriptor, 1)[0].tolist() == [0]
    place_map.save()
    place_map.add(second)
    assert place_map.unsaved == 1
    assert len(PlaceMap.open(tmp_path / "m")) == 1
    place_map.save()
    assert place_map.unsaved == 0
    assert place_map.save() == 0
    again = PlaceMap.open(tmp_path / "m")
    assert again.nearest(second.observation.descriptor, 1)[0].tolist() == [1]
    third = again.add(make_place(rng))
    again.save()
    assert (third, len(PlaceMap.open(tmp_path / "m"))) == (2, 3)


def test_a_map_in_memory_is_saved_to_a_named_folder(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    place_map = PlaceMap(None, header())
    place_map.add(make_place(rng, name="gate"))
    with pytest.raises(MapError, match="no folder"):
        place_map.save()
    place_map.save_as(tmp_path / "kept")
    assert PlaceMap.open(tmp_path / "kept").label(0) == "gate"


def test_create_does_not_touch_what_is_there(tmp_path: Path, rng: np.random.Generator) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("x")
    with pytest.raises(MapError, match=r"todo\.txt"):
        PlaceMap.create(tmp_path / "notes", header())
    place_map = PlaceMap.create(tmp_path / "m", header())
    assert not (tmp_path / "m").exists()
    place_map.add(make_place(rng))
    place_map.save()
    with pytest.raises(MapError, match="holds a map already"):
        PlaceMap.create(tmp_path / "m", header())
    replaced = PlaceMap.create(tmp_path / "m", header(), overwrite=True)
    assert len(PlaceMap.open(tmp_path / "m")) == 1
    replaced.save()
    assert len(PlaceMap.open(tmp_path / "m")) == 0


def test_bad_places_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    place_map = PlaceMap.create(tmp_path / "m", header(descriptor_size=SIZE + 1))
    with pytest.raises(MapError, match="does not fit"):
        place_map.add(make_place(rng))
    with pytest.raises(GeometryError, match="rigid"):
        make_place(rng, T_map_lidar=np.ones((4, 4)))
    with pytest.raises(MapError, match="no place 7"):
        place_map.place(7)


def test_insert_query_and_save_at_once(tmp_path: Path, rng: np.random.Generator) -> None:
    place_map = PlaceMap.create(tmp_path / "m", header())
    places = [make_place(rng) for _ in range(120)]
    place_map.add(places[0])
    failures: list[BaseException] = []
    done = threading.Event()

    def query() -> None:
        try:
            while not done.is_set():
                ids, _ = place_map.nearest(places[0].observation.descriptor, 5)
                for number in ids:
                    place_map.place(int(number))
        except BaseException as error:
            failures.append(error)

    def save() -> None:
        try:
            while not done.is_set():
                place_map.save()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=query), threading.Thread(target=save)]
    for thread in threads:
        thread.start()
    for place in places[1:]:
        place_map.add(place)
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    place_map.save()
    again = PlaceMap.open(tmp_path / "m")
    assert len(again) == 120
    for number in (0, 60, 119):
        assert np.array_equal(again.pose(number), places[number].T_map_lidar)
