"""Random bytes and mutated valid messages through every decoder: only WireError, bounded memory."""

from __future__ import annotations

import importlib.util
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from condense_ros import wire
from condense_ros.errors import CondenseError, WireError
from condense_ros.wire import cdr

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location(
    "decoder_targets", ROOT / "tools" / "decoder_targets.py"
)
assert _spec is not None
decoder_targets = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = decoder_targets  # dataclasses look their module up
_spec.loader.exec_module(decoder_targets)
HEADER, PICTURE = decoder_targets.HEADER, decoder_targets.PICTURE

TARGETS = decoder_targets.targets()
#: the first and the last seed of each decoder: the plainest and, mostly, big-endian CDR
VALID = {
    f"{name}-{number}": (target.decode, target.seeds[number])
    for name, target in TARGETS.items()
    for number in (0, -1)
}


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_of_the_fuzzer_is_valid(name):
    for seed in TARGETS[name].seeds:
        assert decoder_targets.attempt(TARGETS[name], seed)[0] == "ok"


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
    except CondenseError as error:
        if not error.fix:  # any other exception type fails the test
            raise AssertionError("no fix is named") from error


@pytest.mark.parametrize("name", VALID)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_random_bytes(name, data):
    decode, _ = VALID[name]
    tail = data.draw(st.binary(max_size=200))
    survives(decode, data.draw(st.sampled_from([b"", b"\0\1\0\0", b"\0\0\0\0"])) + tail)


@pytest.mark.parametrize("name", VALID)
@settings(max_examples=50, deadline=None)
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


@pytest.mark.parametrize("name", [n for n in VALID if n not in ("pcd-0", "ply-0")])
def test_every_truncation(name):
    """A file of numbers as text may end anywhere; everything else tells its length."""
    decode, raw = VALID[name]
    for end in range(0, len(raw) - 4, max(1, len(raw) // 200)):
        if name.startswith("header") and end >= 17:  # all that read_header looks at
            continue
        with pytest.raises(CondenseError):
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
        wire.decode_cloud(VALID["camera_info-0"][1])
    with pytest.raises(WireError, match="'acme_msgs/msg/Thing' is unknown"):
        cdr.deserialize("acme_msgs/msg/Thing", b"\0\1\0\0")
    with pytest.raises(WireError, match="has no field 'wdith'"):
        cdr.message(wire.IMAGE, wdith=3)
    with pytest.raises(WireError, match="cannot be serialised"):
        cdr.serialize(wire.IMAGE, cdr.message(wire.IMAGE, width="three"))
