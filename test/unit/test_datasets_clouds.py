"""Cloud files: every format reads back what was written, and damage ends in a typed error."""

from __future__ import annotations

import contextlib
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyarrow import feather
from pyarrow import table as arrow_table

from condense_ros.datasets import open_dataset, read_cloud
from condense_ros.datasets.pcd import decompress_lzf, read_pcd
from condense_ros.datasets.ply import read_ply
from condense_ros.errors import CondenseError, DatasetError


@pytest.fixture
def rows(rng: np.random.Generator) -> np.ndarray:
    rows = np.zeros(
        37, [("x", "f4"), ("y", "f4"), ("z", "f4"), ("intensity", "f4"), ("ring", "u2")]
    )
    for name in ("x", "y", "z", "intensity"):
        rows[name] = rng.normal(scale=20, size=37)
    rows["ring"] = rng.integers(0, 64, 37)
    return rows


def compress_lzf(data: bytes) -> bytes:
    """A plain LZF encoder: greedy, with matches found by their first three bytes."""
    out, literals, seen, at = bytearray(), bytearray(), {}, 0

    def flush() -> None:
        for i in range(0, len(literals), 32):
            out.append(len(literals[i : i + 32]) - 1)
            out.extend(literals[i : i + 32])
        literals.clear()

    while at < len(data):
        key = data[at : at + 3]
        back = at - seen.get(key, -10_000)
        seen[key] = at
        if len(key) < 3 or back > 8191:
            literals.append(data[at])
            at += 1
            continue
        length = 3
        while (
            length < 264
            and at + length < len(data)
            and data[at + length] == data[at + length - back]
        ):
            length += 1
        flush()
        distance, code = back - 1, length - 2
        if code < 7:
            out += bytes([code << 5 | distance >> 8, distance & 255])
        else:
            out += bytes([7 << 5 | distance >> 8, code - 7, distance & 255])
        at += length
    flush()
    return bytes(out)


def pcd_bytes(rows: np.ndarray, encoding: str) -> bytes:
    kinds = {"f": "F", "u": "U", "i": "I"}
    names = rows.dtype.names
    header = (
        "# .PCD v0.7\nVERSION 0.7\n"
        f"FIELDS {' '.join(names)}\n"
        f"SIZE {' '.join(str(rows.dtype[n].itemsize) for n in names)}\n"
        f"TYPE {' '.join(kinds[rows.dtype[n].kind] for n in names)}\n"
        f"COUNT {' '.join('1' for _ in names)}\n"
        f"WIDTH {len(rows)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\n"
        f"POINTS {len(rows)}\nDATA {encoding}\n"
    ).encode()
    if encoding == "ascii":
        lines = [" ".join(repr(v.item()) for v in row) for row in rows]
        return header + "\n".join(lines).encode() + b"\n"
    if encoding == "binary":
        return header + rows.tobytes()
    data = b"".join(np.ascontiguousarray(rows[n]).tobytes() for n in names)
    packed = compress_lzf(data)
    return header + struct.pack("<II", len(packed), len(data)) + packed


def ply_bytes(rows: np.ndarray, encoding: str) -> bytes:
    names = {"f4": "float", "u2": "ushort", "f8": "double"}
    lines = [f"property {names[rows.dtype[n].str[1:]]} {n}" for n in rows.dtype.names]
    header = "\n".join(
        [
            *("ply", f"format {encoding} 1.0", "comment made here", f"element vertex {len(rows)}"),
            *(*lines, "element face 1", "property list uchar int vertex_indices", "end_header\n"),
        ]
    ).encode()
    if encoding == "ascii":
        body = "\n".join(" ".join(repr(v.item()) for v in row) for row in rows).encode()
        return header + body + b"\n3 0 1 2\n"
    order = "<" if "little" in encoding else ">"
    dtype = np.dtype([(n, rows.dtype[n].newbyteorder(order)) for n in rows.dtype.names])
    return header + rows.astype(dtype).tobytes() + struct.pack(order + "B3i", 3, 0, 1, 2)


def write(path: Path, rows: np.ndarray, kind: str) -> Path:
    xyzi = np.stack([rows[n] for n in ("x", "y", "z", "intensity")], axis=1)
    if kind == "npy":
        np.save(path.with_suffix(".npy"), rows)
    elif kind == "npz":
        np.savez(path.with_suffix(".npz"), points=xyzi, ring=rows["ring"])
    elif kind == "feather":
        feather.write_feather(
            arrow_table({n: rows[n] for n in rows.dtype.names}), f"{path}.feather"
        )
    elif kind == "pcd.bin":
        np.c_[xyzi, rows["ring"]].astype("<f4").tofile(f"{path}.pcd.bin")
    elif kind.startswith("pcd "):
        path.with_suffix(".pcd").write_bytes(pcd_bytes(rows, kind.split()[1]))
    else:
        path.with_suffix(".ply").write_bytes(ply_bytes(rows, kind.split()[1]))
    return next(path.parent.iterdir())


KINDS = [
    *("npy", "npz", "feather", "pcd.bin", "pcd ascii", "pcd binary", "pcd binary_compressed"),
    *("ply ascii", "ply binary_little_endian", "ply binary_big_endian"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_reads_back(kind: str, rows: np.ndarray, tmp_path: Path) -> None:
    cloud = read_cloud(write(tmp_path / "cloud", rows, kind))
    np.testing.assert_array_equal(cloud.xyz, np.stack([rows[n] for n in "xyz"], axis=1))
    np.testing.assert_array_equal(cloud.intensity, rows["intensity"])
    np.testing.assert_array_equal(cloud.ring, rows["ring"])
    frame = open_dataset(tmp_path)[0]
    np.testing.assert_array_equal(frame.cloud.xyz, cloud.xyz)


def test_kitti_bin_has_four_columns(rng: np.random.Generator, tmp_path: Path) -> None:
    points = rng.normal(size=(11, 4)).astype("<f4")
    points.tofile(tmp_path / "a.bin")
    cloud = read_cloud(tmp_path / "a.bin")
    np.testing.assert_array_equal(cloud.xyz, points[:, :3])
    np.testing.assert_array_equal(cloud.intensity, points[:, 3])
    assert cloud.ring is None


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files_end_in_a_typed_error(kind: str, rows: np.ndarray, tmp_path: Path) -> None:
    path = write(tmp_path / "cloud", rows, kind)
    whole = path.read_bytes()
    for cut in (1, 7, len(whole) // 3, len(whole) // 2, len(whole) - 20):
        path.write_bytes(whole[:cut])
        if kind == "pcd.bin" and cut % 20 == 0:
            continue
        with pytest.raises(DatasetError, match="cloud"):
            read_cloud(path)


def test_clouds_without_coordinates_are_refused_by_name(tmp_path: Path) -> None:
    lonely = np.zeros(3, [("x", "f4"), ("y", "f4"), ("height", "f4")])
    np.save(tmp_path / "a.npy", lonely)
    with pytest.raises(DatasetError, match=r"no field z \(it has x, y, height\)"):
        read_cloud(tmp_path / "a.npy")
    (tmp_path / "b.pcd").write_bytes(pcd_bytes(lonely, "binary"))
    with pytest.raises(DatasetError, match="no field z"):
        read_cloud(tmp_path / "b.pcd")
    np.save(tmp_path / "c.npy", np.zeros((5, 2)))
    with pytest.raises(DatasetError, match=r"\(5, 2\)"):
        read_cloud(tmp_path / "c.npy")


def test_pickled_arrays_are_not_executed(tmp_path: Path) -> None:
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DatasetError):
        read_cloud(tmp_path / "evil.npy")


def test_unknown_suffix_absent_file_and_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"use one of \.bin"):
        read_cloud(tmp_path / "cloud.las")
    with pytest.raises(DatasetError, match="no file"):
        read_cloud(tmp_path / "cloud.pcd")
    with pytest.raises(DatasetError, match=r"Found: nothing\. Looked for: .*nuScenes.*KITTI"):
        open_dataset(tmp_path)
    (tmp_path / "readme.txt").write_text("hello")
    with pytest.raises(DatasetError, match=r"Found: readme\.txt"):
        open_dataset(tmp_path)
    with pytest.raises(DatasetError, match="does not exist"):
        open_dataset(tmp_path / "nowhere")


def test_empty_clouds_are_clouds(rows: np.ndarray, tmp_path: Path) -> None:
    for kind in ("pcd ascii", "pcd binary", "pcd binary_compressed", "ply ascii"):
        folder = tmp_path / kind
        folder.mkdir()
        assert len(read_cloud(write(folder / "cloud", rows[:0], kind))) == 0


def test_pcd_fields_with_counts_and_padding_are_stepped_over() -> None:
    header = (
        b"VERSION 0.7\nFIELDS x _ y z fpfh t\nSIZE 4 1 4 4 4 8\nTYPE F U F F F U\n"
        b"COUNT 1 4 1 1 33 1\nWIDTH 2\nHEIGHT 1\nPOINTS 2\nDATA binary\n"
    )
    row = np.dtype(
        [
            *[
                ("x", "<f4"),
                ("_", "u1", 4),
                ("y", "<f4"),
                ("z", "<f4"),
                ("h", "<f4", 33),
                ("t", "<u8"),
            ]
        ]
    )
    data = np.zeros(2, row)
    data["x"], data["y"], data["z"], data["t"] = (1, 2), (3, 4), (5, 6), 2**63 + 1
    columns = read_pcd(header + data.tobytes(), "test")
    np.testing.assert_array_equal(columns["z"], [5, 6])
    assert columns["t"].tolist() == [2**63 + 1] * 2
    assert "fpfh" not in columns


def test_lzf_by_hand() -> None:
    # literals "ab", then a reference 2 back of length 6 that overlaps itself
    assert decompress_lzf(bytes([1, 97, 98, 4 << 5, 1]), 8) == b"abababab"
    # a long reference: length 7 + 3 + 2 = 12, distance 1
    assert decompress_lzf(bytes([0, 120, 7 << 5, 3, 0]), 13) == b"x" * 13
    for broken, size in (((5, 1, 2), 6), ((32, 0), 3), ((0, 1), 5), ((0, 1, 255), 9)):
        with pytest.raises(ValueError, match=r"early|before|expands"):
            decompress_lzf(bytes(broken), size)


@given(st.one_of(st.binary(max_size=600), st.integers(1, 3).map(lambda n: bytes([n, n + 1]) * 900)))
def test_lzf_round_trips(data: bytes) -> None:
    assert decompress_lzf(compress_lzf(data), len(data)) == data


@given(st.binary(max_size=200), st.integers(0, 400))
def test_lzf_of_anything_raises_value_errors_only(data: bytes, size: int) -> None:
    with contextlib.suppress(ValueError):
        assert len(decompress_lzf(data, size)) == size


_SMALL = np.zeros(5, [("x", "f4"), ("y", "f4"), ("z", "f4"), ("ring", "u2")])


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_mutated_pcds_raise_typed_errors_only(encoding: str) -> None:
    _mutate(pcd_bytes(_SMALL, encoding), read_pcd)


@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian"])
def test_mutated_plys_raise_typed_errors_only(encoding: str) -> None:
    _mutate(ply_bytes(_SMALL, encoding), read_ply)


def _mutate(whole: bytes, reader: object) -> None:
    rng = random.Random(7)
    refused = 0
    for _ in range(1500):
        raw = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(raw))
            action = rng.randrange(4)
            if action == 0:
                raw[at] = rng.randrange(256)
            elif action == 1:
                del raw[at : at + rng.randint(1, 9)]
            elif action == 2:
                raw[at:at] = rng.choice([b"9", b"-1", b" ", b"\n", b"99999999999", b"nan", b"\x00"])
            else:
                lines = bytes(raw).split(b"\n")
                rng.shuffle(lines)
                raw = bytearray(b"\n".join(lines))
            if not raw:
                break
        try:
            columns = reader(bytes(raw), "mutant")
        except CondenseError:
            refused += 1
        else:
            assert len({len(column) for column in columns.values()}) <= 1
    assert refused > 200


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=200)
@given(st.text(max_size=60), st.text(max_size=60), st.binary(max_size=80))
@example("FIELDS x x x\nSIZE 4 4 4\nTYPE F F F\nWIDTH 1\nHEIGHT 1\nDATA binary", "", b"0" * 12)
@example("FIELDS x\nSIZE 4\nTYPE F\nCOUNT 0\nPOINTS 1\nDATA ascii", "", b"")
@example("FIELDS\nSIZE\nTYPE\nPOINTS 0\nDATA binary", "", b"")
@example("FIELDS x\nSIZE 4\nTYPE F\nPOINTS -1\nDATA binary", "", b"")
@example("FIELDS x\nSIZE 4\nTYPE U\nPOINTS 1\nDATA ascii", "", b"-1")
def test_any_header_raises_typed_errors_only(head: str, more: str, body: bytes) -> None:
    for reader, raw in (
        (read_pcd, f"{head}\n{more}\n".encode() + body),
        (read_pcd, f"{head}\nDATA {more}\n".encode() + body),
        (read_ply, f"ply\n{head}\n{more}\nend_header\n".encode() + body),
    ):
        with contextlib.suppress(CondenseError):
            reader(raw, "any")


def test_real_pcds(data_dir: Path) -> None:
    (hesai,) = (data_dir / "nebula_ros2bags" / "40p").glob("*.pcd")
    cloud = read_cloud(hesai)
    assert (len(cloud), cloud.intensity, cloud.ring) == (56762, None, None)
    (velodyne,) = (data_dir / "nebula_ros2bags" / "vlp16").glob("*.pcd")
    cloud = read_cloud(velodyne)
    assert len(cloud) == 14831
    assert cloud.intensity is not None
    assert cloud.intensity.max() <= 255
    assert cloud.ring is not None
    assert cloud.ring.max() == 15
    # each beam of a VLP-16 has its own elevation, 2 degrees from the next
    xyz = cloud.xyz.astype(np.float64)
    elevation = np.degrees(np.arctan2(xyz[:, 2], np.hypot(xyz[:, 0], xyz[:, 1])))
    middle = [np.median(elevation[cloud.ring == beam]) for beam in np.unique(cloud.ring)]
    np.testing.assert_allclose(np.diff(middle), 2.0, atol=0.3)
