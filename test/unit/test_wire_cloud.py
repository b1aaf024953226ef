"""PointCloud2: any layout of points survives the trip; what cannot be one is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from condense_ros import wire
from condense_ros.errors import WireError
from condense_ros.frame import PointCloud
from condense_ros.wire import cdr

KINDS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
HEADER = wire.Header(1_000_000_000, "lidar")


def build(fields, step, data, width, height=1, row_step=None, big_endian=False, stamp_ns=10**9):
    """A PointCloud2 from (name, offset, datatype, count) rows and bytes."""
    message = cdr.message(
        wire.POINT_CLOUD,
        height=height,
        width=width,
        fields=[
            cdr.message("sensor_msgs/msg/PointField", name=n, offset=o, datatype=d, count=c)
            for n, o, d, c in fields
        ],
        is_bigendian=big_endian,
        point_step=step,
        row_step=width * step if row_step is None else row_step,
        data=np.frombuffer(data, np.uint8),
        is_dense=True,
    )
    message.header.frame_id = "lidar"
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    return cdr.serialize(wire.POINT_CLOUD, message)


@st.composite
def layouts(draw):
    """Fields in any order, each with a gap before it, any datatype and count; rows padded."""
    names = ["x", "y", "z", *draw(st.lists(st.sampled_from("abcdefg"), unique=True, max_size=4))]
    offset, rows = 0, []
    for name in draw(st.permutations(names)):
        kind = draw(st.integers(1, 8))
        count = 1 if name in "xyz" else draw(st.integers(1, 5))
        offset += draw(st.integers(0, 7))
        rows.append((name, offset, kind, count))
        offset += count * np.dtype(KINDS[kind]).itemsize
    return rows, offset + draw(st.integers(0, 9))


@settings(max_examples=150, deadline=None)
@given(layouts(), st.integers(0, 4), st.integers(1, 5), st.integers(0, 6), st.booleans(), st.data())
def test_any_layout(layout, width, height, padding, big_endian, data):
    fields, step = layout
    order = ">" if big_endian else "<"
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    body = rng.integers(0, 256, (height, width * step), dtype=np.uint8)
    values = {}
    for name, offset, kind, count in fields:
        dtype = np.dtype(order + KINDS[kind])
        shape = (height, width, count)
        if dtype.kind == "f":
            value = rng.normal(size=shape).astype(dtype)
        else:
            value = rng.integers(0, 100, shape).astype(dtype)
        values[name] = value.reshape(height * width, count)
        size = count * dtype.itemsize
        points = body.reshape(height, width, step)
        points[:, :, offset : offset + size] = value.view(np.uint8).reshape(height, width, size)
    junk = rng.integers(0, 256, (height, padding if width else 0), dtype=np.uint8)
    raw = build(
        fields,
        step,
        np.hstack([body, junk]).tobytes(),
        width,
        height,
        width * step + (padding if width else 0),
        big_endian,
    )
    decoded = wire.decode_cloud(raw)
    assert (decoded.height, decoded.width) == (height, width)
    for name, _, _, count in fields:
        got = decoded.points[name].reshape(-1, count)
        np.testing.assert_array_equal(got, values[name])
    xyz = np.hstack([values[axis] for axis in "xyz"]).astype(np.float32)
    np.testing.assert_array_equal(decoded.cloud().xyz, xyz)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 8), st.integers(1, 4)), min_size=1, max_size=6), st.data())
def test_encode_decode(columns, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    count = data.draw(st.integers(0, 20))
    fields = {}
    for i, (kind, size) in enumerate(columns):
        shape = (count,) if size == 1 else (count, size)
        fields[f"f{i}"] = rng.integers(0, 100, shape).astype(KINDS[kind])
    decoded = wire.decode_cloud(wire.encode_cloud(HEADER, fields))
    assert decoded.header == HEADER
    for name, values in fields.items():
        assert decoded.points[name].dtype.base == values.dtype
        np.testing.assert_array_equal(decoded.points[name], values)


def test_points_are_a_view_of_the_message(rng):
    raw = bytearray(wire.encode_cloud(HEADER, {"x": rng.normal(size=9).astype(np.float32)}))
    assert np.shares_memory(wire.decode_cloud(raw).points, np.frombuffer(raw, np.uint8))


def test_cloud_survives_the_wire(rng):
    cloud = PointCloud(
        rng.normal(size=(50, 3)).astype(np.float32),
        rng.random(50).astype(np.float32),
        rng.integers(0, 64, 50).astype(np.uint16),
        np.linspace(0, 0.1, 50).astype(np.float32),
        "lidar",
    )
    back = wire.decode_cloud(wire.encode_cloud(HEADER, wire.cloud_fields(cloud))).cloud()
    for name in ("xyz", "intensity", "ring", "time_s", "frame_id"):
        np.testing.assert_array_equal(getattr(back, name), getattr(cloud, name))


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("t", np.array([0, 5_000_000], np.uint32), [0, 0.005]),  # Ouster: ns after the stamp
        ("time", np.array([-0.1, 0.0], np.float32), [-0.1, 0.0]),  # Velodyne
        ("timestamp", np.array([100.25, 100.5]), [0.25, 0.5]),  # Hesai: absolute seconds
        ("timestamp", np.array([100.25e9, 100.5e9]), [0.25, 0.5]),  # Livox: absolute nanoseconds
        ("timestamp", np.array([5000.0, 5000.1]), None),  # another clock: unknown, not guessed
    ],
)
def test_time_fields(name, values, expected):
    fields = {axis: np.zeros(2, np.float32) for axis in "xyz"}
    raw = wire.encode_cloud(wire.Header(100 * 10**9, "lidar"), {**fields, name: values})
    time_s = wire.decode_cloud(raw).cloud().time_s
    if expected is None:
        assert time_s is None
    else:
        np.testing.assert_allclose(time_s, expected, atol=1e-6)


def test_float64_and_nan_coordinates():
    fields = {"z": np.array([1.5, np.nan]), "x": np.array([1e300, 2]), "Y": np.array([3.0, 4])}
    cloud = wire.decode_cloud(wire.encode_cloud(HEADER, fields)).cloud()
    np.testing.assert_array_equal(cloud.xyz, [[np.inf, 3, 1.5], [2, 4, np.nan]])
    assert cloud.intensity is None
    assert not cloud.finite().any()


def test_row_step_garbage_with_unambiguous_data():
    data = np.arange(6, dtype="<f4").tobytes()
    fields = [("x", 0, 7, 1), ("y", 4, 7, 1), ("z", 8, 7, 1)]
    decoded = wire.decode_cloud(build(fields, 12, data, 2, row_step=0xFFFFFFFF))
    np.testing.assert_array_equal(decoded.cloud().xyz, [[0, 1, 2], [3, 4, 5]])


def test_empty_cloud():
    nothing = wire.decode_cloud(build([("x", 0, 7, 1), ("y", 4, 7, 1), ("z", 8, 7, 1)], 12, b"", 0))
    assert len(nothing.cloud()) == 0
    with pytest.raises(WireError, match="no field x, y, z"):
        wire.decode_cloud(build([], 0, b"", 0, height=0)).cloud()


XYZ = [("x", 0, 7, 1), ("y", 4, 7, 1), ("z", 8, 7, 1)]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (build(XYZ, 12, bytes(23), 2), "23 bytes"),
        (build(XYZ, 12, bytes(25), 2), "25 bytes"),
        (build(XYZ, 12, bytes(48), 2, height=2, row_step=23), None),  # 48 = 2*2*12: unambiguous
        (build(XYZ, 12, bytes(46), 2, height=2, row_step=23), "row_step 23"),
        (build(XYZ, 11, bytes(22), 2), "'z' of the cloud ends at byte 12"),
        (build([("x", 0, 9, 1)], 12, bytes(12), 1), "datatype 9"),
        (build([("x", 0, 7, 2**31)], 12, bytes(12), 1), "ends at byte"),
        (build([*XYZ, ("x", 0, 7, 1)], 12, bytes(12), 1), "two fields named 'x'"),
        (build([("", 0, 7, 1)], 12, bytes(12), 1), "no name"),
        (build(XYZ, 0, b"", 2), "point_step 0"),
        (build(XYZ, 2**31, b"", 0), "point_step"),
        (build([(f"f{i}", 0, 2, 1) for i in range(300)], 12, bytes(12), 1), "300 fields"),
    ],
)
def test_refused(raw, message):
    if message is None:
        assert len(wire.decode_cloud(raw).points) == 4
        return
    with pytest.raises(WireError, match=message) as caught:
        wire.decode_cloud(raw)
    assert caught.value.fix


def test_missing_coordinates_name_what_is_there():
    raw = wire.encode_cloud(HEADER, {"x": np.zeros(3, np.float32), "range": np.ones(3, np.uint32)})
    with pytest.raises(WireError, match="'lidar' has no field y, z; its fields are x, range"):
        wire.decode_cloud(raw).cloud()


@pytest.mark.parametrize(
    "fields",
    [{}, {"x": np.zeros(2), "y": np.zeros(3)}, {"x": np.zeros(2, np.int64)}, {"x": np.zeros(())}],
)
def test_encode_refuses(fields):
    with pytest.raises(WireError):
        wire.encode_cloud(HEADER, fields)


def test_rgb_is_packed_as_pcl_does(rng):
    rgb = np.array([[255, 128, 7], [0, 0, 1]], np.uint8)
    packed = wire.pack_rgb(rgb)
    assert packed.dtype == np.float32
    assert packed.view(np.uint32).tolist() == [0xFF8007, 0x000001]
    np.testing.assert_array_equal(wire.unpack_rgb(packed), rgb)


def test_an_organised_cloud_keeps_its_rows(rng):
    depth = rng.random((4, 6)).astype(np.float32)
    depth[1, 2] = np.nan
    fields = {axis: depth.ravel() + i for i, axis in enumerate("xyz")}
    decoded = wire.decode_cloud(wire.encode_cloud(HEADER, fields, height=4))
    assert (decoded.height, decoded.width, decoded.is_dense) == (4, 6, False)
    rows = decoded.rows()
    assert rows.shape == (4, 6)
    assert np.shares_memory(rows, decoded.points)
    np.testing.assert_array_equal(rows["y"], depth + 1)
    with pytest.raises(WireError, match="24 points do not fill 5 rows"):
        wire.encode_cloud(HEADER, fields, height=5)


@pytest.mark.parametrize("gap", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("tail", [0, 2, 3, 5])
def test_coordinates_at_any_address(gap, tail, rng):
    xyz = rng.normal(size=(7, 3)).astype(np.float32)
    body = rng.integers(0, 256, (7, gap + 12 + tail), dtype=np.uint8)
    body[:, gap : gap + 12] = xyz.view(np.uint8)
    fields = [(axis, gap + 4 * i, 7, 1) for i, axis in enumerate("xyz")]
    raw = build(fields, gap + 12 + tail, body.tobytes(), 7)
    for copy in (raw, bytearray(raw), memoryview(b"\0" + raw)[1:]):
        decoded = wire.decode_cloud(copy).xyz()
        assert decoded.flags.c_contiguous
        np.testing.assert_array_equal(decoded, xyz)
