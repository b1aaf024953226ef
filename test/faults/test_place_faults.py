"""Faults of the place map, by their numbers in the project's list of faults."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from condense_ros.errors import MapError, StorageFull
from condense_ros.geometry import se3
from condense_ros.places import MapHeader, Place, PlaceMap, observe
from condense_ros.places.descriptors import RING_HEIGHT_SIZE, ring_height
from condense_ros.places.place import FORMAT
from condense_ros.places.relocalise import AMBIGUOUS, FOUND, UNKNOWN, relocalise

HEADER = MapHeader("abc", "ring_height", RING_HEIGHT_SIZE)


def scene(seed: int) -> np.ndarray:
    """Ground and boxes, another arrangement for another seed."""
    rng = np.random.default_rng(seed)
    parts = [np.column_stack([rng.uniform(-30, 30, (5000, 2)), rng.normal(-1.7, 0.01, 5000)])]
    for _ in range(40):
        centre = rng.uniform(5, 28, 2) * rng.choice([-1, 1], 2)
        half, top = rng.uniform(0.3, 4, 2), rng.uniform(0.5, 6)
        around = rng.uniform(-1, 1, (350, 2))
        face = rng.integers(0, 2, 350)
        around[np.arange(350), face] = np.sign(around[np.arange(350), face])
        parts.append(np.column_stack([centre + around * half, rng.uniform(-1.7, top, 350)]))
    return np.concatenate(parts)


def place_of(seed: int, x: float = 0.0) -> Place:
    xyz = scene(seed)
    return Place(observe(xyz, ring_height(xyz)), se3(np.eye(3), (x, 0, 0)), seed + 1)


def stored(folder: Path, count: int = 2) -> PlaceMap:
    place_map = PlaceMap.create(folder, HEADER)
    for seed in range(count):
        place_map.add(place_of(seed, 100.0 * seed))
    place_map.save()
    return place_map


_WRITER = """
import sys, numpy as np
sys.path[:0] = {paths!r}
from test_place_faults import place_of
from condense_ros.places import PlaceMap
place_map = PlaceMap.open(sys.argv[1])
place = place_of(7)
print("ready", flush=True)
while True:
    for _ in range(20):
        place_map.add(place)
    place_map.save()
    print(len(place_map), flush=True)
"""


def test_59_killed_while_the_map_is_written(tmp_path: Path) -> None:
    stored(tmp_path / "m")
    here = Path(__file__)
    paths = [str(here.parent), str(here.parents[2])]
    acknowledged = 2
    for delay_s in (0.0, 0.02, 0.07):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER.format(paths=paths), str(tmp_path / "m")],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert writer.stdout is not None
        assert writer.stdout.readline().strip() == "ready"
        time.sleep(delay_s)
        writer.send_signal(signal.SIGKILL)
        saved = [int(line) for line in writer.stdout.read().split()]
        writer.wait()
        acknowledged = max([acknowledged, *saved])
        again = PlaceMap.open(tmp_path / "m")
        # all that was acknowledged, in whole batches of 20
        assert len(again) >= acknowledged
        assert (len(again) - 2) % 20 == 0
        for number in (0, 1, len(again) - 1):
            assert len(again.place(number).observation.cloud) > 1000
        acknowledged = len(again)


def test_59_killed_before_the_first_save(tmp_path: Path) -> None:
    (tmp_path / "m" / "places.lance" / "data").mkdir(parents=True)
    (tmp_path / "m" / "places.lance" / "data" / "half.lance").write_bytes(b"half")
    with pytest.raises(MapError, match="no place map"):
        PlaceMap.open(tmp_path / "m")
    stored(tmp_path / "m")
    assert len(PlaceMap.open(tmp_path / "m")) == 2


def test_59_full_disk_keeps_the_old_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place_map = stored(tmp_path / "m")

    def full(rows: pa.Table) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    place_map.add(place_of(5))
    monkeypatch.setattr(place_map._table, "add", full)
    with pytest.raises(StorageFull, match="as it was"):
        place_map.save()
    assert len(PlaceMap.open(tmp_path / "m")) == 2
    assert place_map.unsaved == 1
    monkeypatch.undo()
    place_map.save()
    assert len(PlaceMap.open(tmp_path / "m")) == 3


@pytest.mark.parametrize("keep", [0, 40, 0.5])
def test_60_truncated_data(tmp_path: Path, keep: float) -> None:
    stored(tmp_path / "m")
    for file in (tmp_path / "m").rglob("*.lance"):
        if file.is_file():
            content = file.read_bytes()
            file.write_bytes(content[: int(keep * len(content)) if keep < 1 else int(keep)])
    with pytest.raises(MapError, match=r"damaged|cannot be read"):
        PlaceMap.open(tmp_path / "m").place(0)


def test_60_flipped_bytes_never_escape_as_another_error(tmp_path: Path) -> None:
    stored(tmp_path / "m")
    rng = np.random.default_rng(0)
    files = [f for f in (tmp_path / "m").rglob("*") if f.is_file() and f.stat().st_size]
    for _ in range(25):
        file = files[int(rng.integers(len(files)))]
        content = file.read_bytes()
        damaged = bytearray(content)
        for at in rng.integers(0, len(content), 8):
            damaged[at] ^= int(rng.integers(1, 256))
        file.write_bytes(bytes(damaged))
        try:
            again = PlaceMap.open(tmp_path / "m")
            for number in again.poses()[0]:
                again.place(int(number))
        except MapError:
            pass
        file.write_bytes(content)
    assert len(PlaceMap.open(tmp_path / "m")) == 2


def test_60_foreign_folders(tmp_path: Path) -> None:
    with pytest.raises(MapError, match="condense map build"):
        PlaceMap.open(tmp_path / "absent")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "places.txt").write_text("x")
    with pytest.raises(MapError, match="no place map"):
        PlaceMap.open(tmp_path / "notes")
    lancedb.connect(str(tmp_path / "other")).create_table("places", pa.table({"a": [1]}))
    with pytest.raises(MapError, match="but no place map"):
        PlaceMap.open(tmp_path / "other")


def test_60_newer_version_and_damaged_header(tmp_path: Path) -> None:
    facts = json.loads(HEADER.to_metadata()[FORMAT.encode()])
    for change, words in (
        ({"version": 99}, "format 99"),
        ({"version": "x"}, "header .* damaged"),
        ({"descriptor_size": None, "extra": 1}, "header .* damaged"),
    ):
        raw = json.dumps(facts | change).encode()
        with pytest.raises(MapError, match=words):
            MapHeader.from_metadata({FORMAT.encode(): raw}, "map")
    with pytest.raises(MapError, match=r"header .* damaged"):
        MapHeader.from_metadata({FORMAT.encode(): b"{"}, "map")


def test_61_empty_map_and_empty_cloud(tmp_path: Path) -> None:
    place_map = PlaceMap.create(tmp_path / "m", HEADER)
    query = place_of(0).observation
    answer = relocalise(place_map, query)
    assert (answer.status, answer.reason, answer.T_map_lidar) == (UNKNOWN, "the map is empty", None)
    place_map.save()
    assert relocalise(PlaceMap.open(tmp_path / "m"), query).status == UNKNOWN
    place_map.add(place_of(0))
    nothing = np.zeros((0, 3), np.float32)
    answer = relocalise(place_map, observe(nothing, ring_height(nothing)))
    assert (answer.status, answer.reason) == (UNKNOWN, "the cloud has too few points")


def test_62_a_place_never_visited_is_unknown(tmp_path: Path) -> None:
    place_map = stored(tmp_path / "m", 6)
    assert relocalise(place_map, place_of(3).observation).status == FOUND
    for seed in range(50, 54):
        answer = relocalise(place_map, place_of(seed).observation)
        assert answer.status == UNKNOWN
        assert answer.T_map_lidar is None
        assert "scores" in answer.reason


def test_63_two_places_that_look_alike_are_ambiguous(tmp_path: Path) -> None:
    place_map = stored(tmp_path / "m", 3)
    twin = replace(place_of(1), T_map_lidar=se3(np.eye(3), (500.0, 20.0, 0.0)))
    place_map.add(twin)
    answer = relocalise(place_map, place_of(1).observation)
    assert answer.status == AMBIGUOUS
    assert answer.T_map_lidar is None
    assert "m apart" in answer.reason
    assert relocalise(place_map, place_of(2).observation).status == FOUND


def test_65_a_place_is_found_as_soon_as_it_is_added(tmp_path: Path) -> None:
    place_map = stored(tmp_path / "m", 2)
    newcomer = place_of(9, 300.0)
    assert relocalise(place_map, newcomer.observation).status == UNKNOWN
    number = place_map.add(newcomer)
    answer = relocalise(place_map, newcomer.observation)
    assert (answer.status, answer.place) == (FOUND, number)


def test_66_descriptors_of_another_backbone_are_refused(tmp_path: Path) -> None:
    place_map = stored(tmp_path / "m")
    place_map.check_query("abc", "ring_height")
    with pytest.raises(MapError, match=r"backbone abc.*is xyz.*Fix: load the checkpoint"):
        place_map.check_query("xyz", "ring_height")
    with pytest.raises(MapError, match=r"'ring_height' descriptors.*'backbone_gem'"):
        place_map.check_query("abc", "backbone_gem")
