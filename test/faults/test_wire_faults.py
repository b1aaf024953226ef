"""Random bytes and mutated valid messages through every decoder: only WireError, bounded memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from condense_ros import wire
from condense_ros.errors import WireError
from condense_ros.geometry import CameraModel
from condense_ros.wire import cdr

HEADER = wire.Header(1_700_000_000_000_000_000, "sensor")
CAMERA = CameraModel(np.array([[50.0, 0, 8], [0, 50, 6], [0, 0, 1]]), 16, 12, np.full(5, 0.01))
PICTURE = np.arange(12 * 16 * 3, dtype=np.uint8).reshape(12, 16, 3)
DEPTH = np.linspace(0.5, 9, 12 * 16, dtype=np.float32).reshape(12, 16)
ODOMETRY = wire.Odometry(HEADER, "base", np.eye(4))


def decode_points(raw):
    return wire.decode_cloud(raw).cloud()


VALID = {
    "image": (wire.decode_image, wire.encode_image(HEADER, PICTURE)),
    "depth": (wire.decode_image, wire.encode_image(HEADER, DEPTH, "32FC1")),
    "jpeg": (wire.decode_compressed_image, wire.encode_compressed_image(HEADER, PICTURE)),
    "png": (wire.decode_compressed_image, wire.encode_compressed_image(HEADER, PICTURE, "png")),
    "camera_info": (wire.decode_camera_info, wire.encode_camera_info(HEADER, CAMERA)),
    "cloud": (
        decode_points,
        wire.encode_cloud(
            HEADER,
            {axis: np.linspace(0, 1, 9, dtype=np.float32) for axis in "xyz"}
            | {"ring": np.arange(9, dtype=np.uint16), "time": np.arange(9) * 0.01},
        ),
    ),
    "tf": (
        wire.decode_tf,
        wire.encode_tf([wire.StampedTransform(9, "a", f"b{i}", np.eye(4)) for i in range(3)]),
    ),
    "odometry": (wire.decode_odometry, wire.encode_odometry(ODOMETRY)),
    "pose": (wire.decode_pose, wire.encode_pose(HEADER, np.eye(4), np.eye(6))),
    "clock": (wire.decode_clock, wire.encode_clock(12_345)),
    "diagnostics": (
        wire.decode_diagnostics,
        wire.encode_diagnostics(HEADER, [wire.Diagnostic("a", 1, "b", {"c": 1})] * 2),
    ),
    "header": (wire.read_header, wire.encode_image(HEADER, PICTURE)),
}


@pytest.mark.parametrize("name", VALID)
def test_valid_message_decodes(name):
    decode, raw = VALID[name]
    decode(raw)
    decode(bytearray(raw))
    decode(memoryview(raw))


WORDS = [b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\1\0\0\0"]


def survives(decode, raw: bytes) -> None:
    try:
        decode(raw)
    except WireError as error:
        if not error.fix:  # any other exception type fails the test
            raise AssertionError("no fix is named") from error


@pytest.mark.parametrize("name", VALID)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_random_bytes(name, data):
    decode, _ = VALID[name]
    tail = data.draw(st.binary(max_size=200))
    survives(decode, data.draw(st.sampled_from([b"", b"\0\1\0\0", b"\0\0\0\0"])) + tail)


@pytest.mark.parametrize("name", VALID)
@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_mutated_messages(name, data):
    decode, valid = VALID[name]
    raw = bytearray(valid)
    head = min(len(raw), 220)  # lengths, sizes and names live there; the rest is mostly payload
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.one_of(st.integers(0, head - 1), st.integers(0, len(raw) - 1)))
        kind = data.draw(st.sampled_from(["flip", "word", "zero", "insert", "delete"]))
        if kind == "flip":
            raw[at] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "word":
            raw[at : at + 4] = data.draw(
                st.sampled_from(
                    [b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\1\0\0\0"]
                )
            )
        elif kind == "zero":
            raw[at : at + 8] = bytes(len(raw[at : at + 8]))
        elif kind == "insert":
            raw[at:at] = data.draw(st.binary(min_size=1, max_size=8))
        elif len(raw) > 8:
            del raw[at : at + data.draw(st.integers(1, 8))]
            raw = raw or bytearray(1)
            head = min(len(raw), 220)
    survives(decode, bytes(raw))


@pytest.mark.parametrize("name", VALID)
def test_every_truncation(name):
    decode, raw = VALID[name]
    for end in range(0, len(raw) - 4, max(1, len(raw) // 200)):
        if name == "header" and end >= 23:  # all that read_header looks at
            continue
        with pytest.raises(WireError):
            decode(raw[:end])


@pytest.mark.parametrize("name", VALID)
def test_memory_is_bounded(name, rng):
    """No length field makes a decoder allocate more than a small multiple of what was sent."""
    decode, valid = VALID[name]
    survives(decode, valid)
    tracemalloc.start()
    try:
        for _ in range(150):
            raw = bytearray(valid)
            at = 4 * int(rng.integers(1, max(2, min(len(raw), 220) // 4)))
            raw[at : at + 4] = [b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\x10"][at % 3]
            survives(decode, bytes(raw))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8e6


def test_oversized_message_is_refused_unread(monkeypatch):
    monkeypatch.setattr(cdr, "MAX_MESSAGE_BYTES", 100)
    with pytest.raises(WireError, match="over the limit of 100"):
        wire.decode_image(wire.encode_image(HEADER, PICTURE))


def test_wrong_type_is_refused():
    with pytest.raises(WireError, match="no sensor_msgs/msg/PointCloud2"):
        wire.decode_cloud(VALID["camera_info"][1])
    with pytest.raises(WireError, match="'acme_msgs/msg/Thing' is unknown"):
        cdr.deserialize("acme_msgs/msg/Thing", b"\0\1\0\0")
    with pytest.raises(WireError, match="has no field 'wdith'"):
        cdr.message(wire.IMAGE, wdith=3)
    with pytest.raises(WireError, match="cannot be serialised"):
        cdr.serialize(wire.IMAGE, cdr.message(wire.IMAGE, width="three"))
