"""A stored place, the facts of a map, and their form as rows of a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from condense_ros.config import build
from condense_ros.errors import ConfigError, GeometryError, MapError
from condense_ros.geometry import Array, check_se3
from condense_ros.places.depth_image import DepthImage
from condense_ros.places.keypoints import DESCRIPTOR_SIZE, KeypointConfig, Keypoints
from condense_ros.places.observation import Observation

FORMAT = "condense_place_map"
FORMAT_VERSION = 1

_CM = 100.0


@dataclass(frozen=True, eq=False)
class Place:
    """One sweep with a known pose.

    Attributes:
        observation: descriptor, keypoints, cloud and depth image of the sweep.
        T_map_lidar: (4, 4) where it was taken.
        stamp_ns: when.
        session: name of the drive it belongs to.
        name: what people call it; empty for most.
        id: number in its map, -1 while it is in none.
    """

    observation: Observation
    T_map_lidar: Array
    stamp_ns: int
    session: str = ""
    name: str = ""
    id: int = -1

    def __post_init__(self) -> None:
        object.__setattr__(self, "T_map_lidar", check_se3(self.T_map_lidar, "T_map_lidar"))

    def numbered(self, id: int) -> Place:
        """The same place under another number."""
        return replace(self, id=id)


@dataclass(frozen=True)
class MapHeader:
    """What every place of a map has in common.

    Attributes:
        backbone: hash of the weights the descriptors come from.
        descriptor_kind: how descriptors were made of its features (`backbone_gem`, ...).
        descriptor_size: their length.
        map_frame: name of the frame the poses are in.
        sensor_frame: name of the frame the clouds are in.
        keypoints: how keypoints were taken.
    """

    backbone: str
    descriptor_kind: str
    descriptor_size: int
    map_frame: str = "map"
    sensor_frame: str = "lidar"
    keypoints: KeypointConfig = field(default_factory=KeypointConfig)

    def to_metadata(self) -> dict[bytes, bytes]:
        """Schema metadata of the table."""
        facts = {"format": FORMAT, "version": FORMAT_VERSION, **asdict(self)}
        return {FORMAT.encode(): json.dumps(facts, sort_keys=True).encode()}

    @classmethod
    def from_metadata(cls, metadata: dict[bytes, bytes] | None, where: str) -> MapHeader:
        """Reads it back.

        Raises:
            MapError: not a map of this project, or one written by a newer version.
        """
        raw = (metadata or {}).get(FORMAT.encode())
        if raw is None:
            raise MapError(
                f"{where} is a LanceDB folder, but no place map",
                "make one with `condense map build`",
            )
        try:
            facts: dict[str, Any] = json.loads(raw)
            version = int(facts.pop("version"))
            facts.pop("format")
            if version > FORMAT_VERSION:
                raise MapError(
                    f"{where} was written in map format {version}, this software reads up to "
                    f"{FORMAT_VERSION}",
                    "update the software, or build the map again",
                )
            keypoints = build(KeypointConfig, facts.pop("keypoints"))
            return cls(keypoints=keypoints, **facts)
        except (ValueError, KeyError, TypeError, ConfigError) as error:
            raise MapError(
                f"the header of the map {where} is damaged ({error})", "build the map again"
            ) from error


def schema(header: MapHeader) -> pa.Schema:
    """Columns of the table of places."""
    return pa.schema(
        [
            pa.field("id", pa.int64()),
            pa.field("stamp_ns", pa.int64()),
            pa.field("session", pa.string()),
            pa.field("name", pa.string()),
            pa.field("pose", pa.list_(pa.float64(), 16)),
            pa.field("descriptor", pa.list_(pa.float32(), header.descriptor_size)),
            pa.field("keypoint_xyz_cm", pa.large_binary()),
            pa.field("keypoint_descriptors", pa.large_binary()),
            pa.field("cloud_cm", pa.large_binary()),
            pa.field("depth_cm", pa.large_binary()),
        ],
        metadata=header.to_metadata(),
    )


LIGHT_COLUMNS = ("id", "stamp_ns", "session", "name", "pose", "descriptor")
HEAVY_COLUMNS = ("id", "keypoint_xyz_cm", "keypoint_descriptors", "cloud_cm", "depth_cm")


def to_table(places: Sequence[Place], header: MapHeader) -> pa.Table:
    """Rows of places; positions are rounded to a centimetre, keypoint descriptors to 8 bits."""
    rows = [
        {
            "id": place.id,
            "stamp_ns": place.stamp_ns,
            "session": place.session,
            "name": place.name,
            "pose": place.T_map_lidar.ravel().tolist(),
            "descriptor": place.observation.descriptor.tolist(),
            "keypoint_xyz_cm": _to_cm(place.observation.keypoints.xyz),
            "keypoint_descriptors": np.round(place.observation.keypoints.descriptors * 255)
            .astype(np.uint8)
            .tobytes(),
            "cloud_cm": _to_cm(place.observation.cloud),
            "depth_cm": _depth_to_cm(place.observation.depth),
        }
        for place in places
    ]
    return pa.Table.from_pylist(rows, schema=schema(header))


def observation_from_row(
    row: dict[str, Any], descriptor: npt.NDArray[np.float32], where: str
) -> Observation:
    """The heavy half of a place.

    Raises:
        MapError: stored arrays that do not fit together.
    """
    try:
        raw = np.frombuffer(row["keypoint_descriptors"], np.uint8).reshape(-1, DESCRIPTOR_SIZE)
        descriptors = raw.astype(np.float32)
        descriptors /= np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), 1e-9)
        xyz = _from_cm(row["keypoint_xyz_cm"])
        if len(xyz) != len(descriptors):
            raise ValueError(f"{len(xyz)} keypoints, {len(descriptors)} descriptors")
        return Observation(
            descriptor,
            Keypoints(xyz, descriptors),
            _from_cm(row["cloud_cm"]),
            _depth_from_cm(row["depth_cm"]),
        )
    except (ValueError, TypeError, GeometryError) as error:
        raise MapError(
            f"place {row.get('id')} of the map {where} is damaged ({error})", "build the map again"
        ) from error


def _to_cm(xyz: npt.NDArray[np.float32]) -> bytes:
    return np.clip(np.round(xyz * _CM), -32768, 32767).astype("<i2").tobytes()


def _from_cm(raw: bytes) -> npt.NDArray[np.float32]:
    return (np.frombuffer(raw, "<i2").reshape(-1, 3) / _CM).astype(np.float32)


def _depth_to_cm(depth: DepthImage) -> bytes:
    both = np.nan_to_num(np.stack([depth.near, depth.far]) * _CM, nan=0.0)
    return np.clip(np.round(both), 0, 65535).astype("<u2").tobytes()


def _depth_from_cm(raw: bytes) -> DepthImage:
    both = np.frombuffer(raw, "<u2").reshape(2, *DepthImage.shape).astype(np.float32) / _CM
    both[both == 0] = np.nan
    return DepthImage(both[0], both[1])
