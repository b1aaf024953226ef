"""Images: encodings, byte order, row padding, compression, intrinsics."""

from __future__ import annotations

import resource

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from condense_ros import wire
from condense_ros.errors import WireError
from condense_ros.geometry import CameraModel
from condense_ros.wire import cdr

HEADER = wire.Header(2_000_000_005, "camera")


def build(encoding, rows, width, height, step=None, big_endian=0):
    """An Image from (height, row bytes) uint8 rows."""
    message = cdr.message(
        wire.IMAGE,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=big_endian,
        step=rows.shape[1] if step is None else step,
        data=np.ascontiguousarray(rows, np.uint8).reshape(-1),
    )
    message.header.frame_id = "camera"
    return cdr.serialize(wire.IMAGE, message)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(
        ["rgb8", "bgr8", "rgba8", "bgra8", "rgb16", "bgr16", "rgba16", "bgra16"]
        + ["mono8", "mono16", "16UC1", "32FC1"]
    ),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 5),
    st.booleans(),
)
def test_encodings(encoding, width, height, padding, big_endian):
    rng = np.random.default_rng(width * 100 + height)
    order = ">" if big_endian else "<"
    rgb = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    wide = (rgb.astype(np.uint16) * 256 + 77).astype(order + "u2")
    values = {
        "rgb16": wide,
        "bgr16": wide[..., ::-1],
        "rgba16": np.dstack([wide, wide[..., :1]]).astype(order + "u2"),
        "bgra16": np.dstack([wide[..., ::-1], wide[..., :1]]).astype(order + "u2"),
        "rgb8": rgb,
        "bgr8": rgb[..., ::-1],
        "rgba8": np.dstack([rgb, rgb[..., :1]]),
        "bgra8": np.dstack([rgb[..., ::-1], rgb[..., :1]]),
        "mono8": rgb[..., 0],
        "mono16": (rgb[..., 0].astype(np.uint16) * 256 + 77).astype(order + "u2"),
        "16UC1": (rgb[..., 0].astype(np.uint16) * 30).astype(order + "u2"),
        "32FC1": (rgb[..., 0] / 7).astype(order + "f4"),
    }[encoding]
    expected = {
        "mono8": np.repeat(rgb[..., :1], 3, 2),
        "mono16": np.repeat(rgb[..., :1], 3, 2),
        "16UC1": rgb[..., 0].astype(np.float32) * 30 / 1000,
        "32FC1": (rgb[..., 0] / 7).astype(np.float32),
    }.get(encoding, rgb)
    rows = np.ascontiguousarray(values).view(np.uint8).reshape(height, -1)
    rows = np.hstack([rows, rng.integers(0, 256, (height, padding), dtype=np.uint8)])
    raw = build(encoding, rows, width, height, big_endian=int(big_endian))
    decoded = wire.decode_image(raw)
    assert decoded.pixels.dtype == expected.dtype
    assert decoded.is_depth == (encoding in ("16UC1", "32FC1"))
    np.testing.assert_allclose(decoded.pixels, expected, rtol=1e-6)


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("bits", [8, 16])
def test_bayer(pattern, bits):
    """A mosaic of a flat colour demosaics to that colour."""
    colour = {"r": 200, "g": 90, "b": 30}
    mosaic = np.array([colour[c] for c in pattern], np.uint8).reshape(2, 2)
    mosaic = np.tile(mosaic, (4, 5)).astype(np.uint8)
    values = mosaic if bits == 8 else (mosaic.astype("<u2") << 8)
    rows = values.view(np.uint8).reshape(8, -1)
    pixels = wire.decode_image(build(f"bayer_{pattern}{bits}", rows, 10, 8)).pixels
    np.testing.assert_array_equal(pixels[2:-2, 2:-2], np.full((4, 6, 3), [200, 90, 30]))


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("big_endian", [False, True])
def test_bayer_keeps_measured_values_and_means_the_others(pattern, bits, big_endian, rng):
    """Bilinear demosaicing by its definition, written out in float64."""
    scale, order = (1, "<") if bits == 8 else (257, ">" if big_endian else "<")
    mosaic = rng.integers(0, 256, (10, 12)).astype(np.float64)
    kind = order + ("u1" if bits == 8 else "u2")
    rows = np.ascontiguousarray((mosaic * scale).astype(kind)).view(np.uint8).reshape(10, -1)
    raw = build(f"bayer_{pattern}{bits}", rows, 12, 10, big_endian=int(big_endian))
    decoded = wire.decode_image(raw).pixels
    expected = np.empty((8, 10, 3))
    for v in range(1, 9):
        for u in range(1, 11):
            around = [(v + j, u + i) for j in (-1, 0, 1) for i in (-1, 0, 1)]
            own = pattern[v % 2 * 2 + u % 2]
            for channel, name in enumerate("rgb"):
                same = [p for p in around if pattern[p[0] % 2 * 2 + p[1] % 2] == name]
                values = [mosaic[v, u]] if name == own else [mosaic[p] for p in same]
                expected[v - 1, u - 1, channel] = np.mean(values)
    assert np.abs(decoded[1:9, 1:11] - expected).max() <= 1.0


@pytest.mark.parametrize(
    ("encoding", "order"),
    [("yuv422", "uyvy"), ("uyvy", "uyvy"), ("yuv422_yuy2", "yuyv"), ("yuyv", "yuyv")],
)
def test_yuv(encoding, order):
    # BT.601 video range: a pure red of 255 is Y 81.5, Cb 90.2, Cr 240
    for rgb, (y, u, v) in {
        (255, 0, 0): (81, 90, 240),
        (0, 0, 255): (41, 240, 110),
        (255, 255, 255): (235, 128, 128),
    }.items():
        pair = {"uyvy": [u, y, v, y], "yuyv": [y, u, y, v]}[order]
        rows = np.tile(np.array(pair, np.uint8), (4, 3))
        pixels = wire.decode_image(build(encoding, rows, 6, 4)).pixels
        assert np.abs(pixels.astype(int) - rgb).max() <= 3


@pytest.mark.parametrize(
    "encoding", ["rgb8", "bgr8", "rgba8", "bgra8", *(f"bayer_{p}8" for p in ("rggb", "grbg"))]
)
def test_encoded_colours_come_back(encoding):
    pixels = np.full((8, 10, 3), (200, 90, 30), np.uint8)
    raw = wire.encode_image(HEADER, pixels, encoding)
    message = cdr.deserialize(wire.IMAGE, raw)
    assert message.step * message.height == len(message.data)
    np.testing.assert_array_equal(wire.decode_image(raw).pixels, pixels)
    assert raw == cdr.serialize(wire.IMAGE, message)


def test_mono16_keeps_its_upper_bits(rng):
    values = rng.integers(0, 65536, (5, 7), dtype=np.uint16)
    decoded = wire.decode_image(wire.encode_image(HEADER, values, "mono16"))
    np.testing.assert_array_equal(decoded.pixels[..., 1], values >> 8)
    with pytest.raises(WireError, match="cannot be sent as 'mono16'"):
        wire.encode_image(HEADER, values.astype(np.uint8), "mono16")


@pytest.mark.parametrize("encoding", ["bayer_rggb16", "yuyv", "nv21", "bayer_rggb"])
def test_encodings_that_are_not_written(encoding):
    with pytest.raises(WireError, match=f"cannot be sent as '{encoding}'"):
        wire.encode_image(HEADER, np.zeros((4, 4, 3), np.uint8), encoding)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (build("rgb8", np.zeros((4, 11)), 4, 4), "step 11 and 44 bytes, needs a step of 12"),
        (build("rgb8", np.zeros((3, 12)), 4, 4), "step 12 and 36 bytes"),
        (build("rgb8", np.zeros((4, 12)), 4, 4, step=2**31), "step 2147483648"),
        (build("rgb8", np.zeros((1, 0)), 0, 0), "image is 0x0"),
        (build("rgb8", np.zeros((1, 1)), 2**16, 2**16), "image is 65536x65536"),
        (build("nv21", np.zeros((4, 12)), 4, 4), "encoding 'nv21' is not supported"),
        (build("yuv422", np.zeros((3, 6)), 3, 3), "cannot be converted"),
    ],
)
def test_refused(raw, message):
    with pytest.raises(WireError, match=message) as caught:
        wire.decode_image(raw)
    assert caught.value.fix


def test_depth_without_return_is_zero():
    depth = np.array([[1.5, np.nan, np.inf, -2.0, 70.0]], np.float32)
    decoded = wire.decode_image(wire.encode_image(HEADER, depth, "32FC1"))
    np.testing.assert_array_equal(decoded.pixels, [np.float32([1.5, 0, 0, 0, 70])])
    decoded = wire.decode_image(wire.encode_image(HEADER, depth, "16UC1"))
    np.testing.assert_array_equal(decoded.pixels, [np.float32([1.5, 0, 0, 0, 0])])


def smooth_picture():
    v, u = np.mgrid[0:48, 0:64]
    return np.dstack([u * 3, v * 4, u + v]).astype(np.uint8)


def test_jpeg_and_png():
    pixels = smooth_picture()
    jpeg = wire.decode_compressed_image(wire.encode_compressed_image(HEADER, pixels, quality=95))
    assert jpeg.header == HEADER
    assert np.abs(jpeg.pixels.astype(int) - pixels).mean() < 2  # right colour order: no swap
    png = wire.decode_compressed_image(wire.encode_compressed_image(HEADER, pixels, "png"))
    np.testing.assert_array_equal(png.pixels, pixels)


def test_compressed_depth():
    depth = np.linspace(0.5, 9, 12, dtype=np.float32).reshape(3, 4)
    png = wire.decode_compressed_image(wire.encode_compressed_image(HEADER, depth, "png"))
    np.testing.assert_allclose(png.pixels, depth, atol=5e-4)
    # as compressed_depth_image_transport quantises float depth
    a, b = 100.0, -1.0
    inverse = np.rint(a / depth + b).astype(np.uint16)
    head = np.array([0], "<i4").tobytes() + np.array([a, b], "<f4").tobytes()
    message = cdr.message(
        wire.COMPRESSED_IMAGE,
        format="32FC1; compressedDepth png",
        data=np.frombuffer(head + cv2.imencode(".png", inverse)[1].tobytes(), np.uint8),
    )
    decoded = wire.decode_compressed_image(cdr.serialize(wire.COMPRESSED_IMAGE, message))
    np.testing.assert_allclose(decoded.pixels, a / (inverse - b), rtol=1e-5)


def read_rvl(data: bytes, pixels: int) -> list[int]:
    """Wilson's decoder, nibble by nibble, as the paper's listing does it."""
    words = np.frombuffer(data, "<u4").tolist()
    nibbles = iter([word >> shift & 15 for word in words for shift in range(28, -4, -4)])

    def number() -> int:
        value = bits = 0
        while True:
            nibble = next(nibbles)
            value |= (nibble & 7) << bits
            bits += 3
            if not nibble & 8:
                return value

    out: list[int] = []
    previous = 0
    while len(out) < pixels:
        out += [0] * number()
        for _ in range(number()):
            positive = number()
            previous += (positive >> 1) ^ -(positive & 1)
            out.append(previous)
    return out


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 30), st.integers(0, 2**32), st.sampled_from([0, 0.3, 1]))
def test_rvl_depth(height, width, seed, share):
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.2, 65.5, (height, width)) * (rng.random((height, width)) < share)
    raw = wire.encode_compressed_depth(HEADER, depth, "rvl")
    message = cdr.deserialize(wire.COMPRESSED_IMAGE, raw)
    assert message.format == "16UC1; compressedDepth rvl"
    data = message.data.tobytes()
    assert np.frombuffer(data, "<u4", 2, 12).tolist() == [width, height]
    expected = np.rint(depth * 1000)
    np.testing.assert_array_equal(read_rvl(data[20:], depth.size), expected.ravel())
    decoded = wire.decode_compressed_image(raw)
    np.testing.assert_array_equal(decoded.pixels, (expected / 1000).astype(np.float32))
    assert wire.check_compressed_image(raw) == (HEADER, width, height)


@pytest.mark.parametrize("codec", ["png", "rvl"])
def test_compressed_float_depth_is_finer_near_the_camera(codec):
    depth = np.array([[0.5, 1.0, 4.0], [9.9, 12.0, np.nan]])
    raw = wire.encode_compressed_depth(HEADER, depth, codec, "32FC1", max_m=10, quantisation=100)
    pixels = wire.decode_compressed_image(raw).pixels
    # a step of one in A / z + B moves z by z^2 / A
    assert (np.abs(pixels - depth)[depth < 10] <= depth[depth < 10] ** 2 / 10_100).all()
    assert (pixels[1, 1:] == 0).all()


def test_damaged_rvl():
    head = cdr.deserialize(
        wire.COMPRESSED_IMAGE, wire.encode_compressed_depth(HEADER, np.ones((4, 5)), "rvl")
    ).data.tobytes()
    size = slice(12, 20)
    name = "16UC1; compressedDepth rvl"
    for data, match in (
        (head[:18], "RVL image of 6 bytes"),
        (head[:-4], "run of"),
        (head[:20], "ends at pixel 0"),
        (head[:20] + b"\xff" * 40, "ends at pixel 0"),
        (head[:20] + b"\xff" * 40 + bytes(8), "more than 32 bits"),
        (head[: size.start] + np.array([3, 4], "<u4").tobytes() + head[20:], "run of 20 values"),
        (head[: size.start] + np.array([9000, 9000], "<u4").tobytes() + head[20:], "at most"),
        (head[: size.start] + bytes(8) + head[20:], "image is 0x0"),
    ):
        with pytest.raises(WireError, match=match):
            wire.decode_compressed_image(with_picture(data, name))
    for arguments in (("gif", "16UC1"), ("png", "mono8")):
        with pytest.raises(WireError, match="use png or rvl"):
            wire.encode_compressed_depth(HEADER, np.ones((4, 5)), *arguments)


def test_a_short_picture_does_not_claim_millions_of_pixels():
    jpeg = bytearray(cv2.imencode(".jpg", smooth_picture())[1].tobytes())
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = b"\x20\x00\x20\x00"  # 8192 x 8192 in a few kilobytes
    with pytest.raises(WireError, match="claims 8192x8192 pixels"):
        wire.decode_compressed_image(with_picture(bytes(jpeg)))
    # the emptiest pictures that there are still pass
    for shape in ((3000, 4000), (3000, 4000, 3)):
        for suffix in (".jpg", ".png"):
            data = cv2.imencode(suffix, np.zeros(shape, np.uint8))[1].tobytes()
            raw = with_picture(data)
            assert wire.check_compressed_image(raw)[1:] == (4000, 3000)


def test_a_png_chunk_that_claims_gigabytes():
    """OpenCV would set its length aside before it finds that the bytes are not there."""
    png = bytearray(cv2.imencode(".png", smooth_picture())[1].tobytes())
    at = png.index(b"IDAT") - 4
    png[at] = 0x70  # 1.9 GB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WireError, match=f"is damaged at byte {at}"):
        wire.decode_compressed_image(with_picture(bytes(png), "png"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_a_bit_flipped_in_a_png_is_found_without_decoding():
    png = bytearray(cv2.imencode(".png", smooth_picture())[1].tobytes())
    png[len(png) // 2] ^= 4
    with pytest.raises(WireError, match="is damaged at byte"):
        wire.check_compressed_image(with_picture(bytes(png), "png"))


def with_picture(data: bytes, format: str = "jpeg"):
    message = cdr.message(
        wire.COMPRESSED_IMAGE, format=format, data=np.frombuffer(data, np.uint8).copy()
    )
    return cdr.serialize(wire.COMPRESSED_IMAGE, message)


def test_damaged_pictures():
    jpeg = cv2.imencode(".jpg", smooth_picture())[1].tobytes()
    png = cv2.imencode(".png", smooth_picture())[1].tobytes()
    for data in (b"", b"\xff\xd8", jpeg[: len(jpeg) // 2], png[: len(png) // 2], b"GIF89a" * 9):
        with pytest.raises(WireError):
            wire.decode_compressed_image(with_picture(data))
    for data in (b"", bytes(12), bytes(40)):
        with pytest.raises(WireError):
            wire.decode_compressed_image(with_picture(data, "16UC1; compressedDepth png"))
    with pytest.raises(WireError, match="16-bit grey"):
        wire.decode_compressed_image(with_picture(png, "16UC1; png compressed"))


def test_picture_that_claims_gigabytes():
    png = bytearray(cv2.imencode(".png", np.zeros((2, 2), np.uint8))[1].tobytes())
    png[16:24] = (60_000).to_bytes(4, "big") * 2  # width and height of the header
    with pytest.raises(WireError):
        wire.decode_compressed_image(with_picture(bytes(png), "png"))


def info(**fields):
    message = cdr.message(wire.CAMERA_INFO, width=640, height=480, distortion_model="plumb_bob")
    message.k = np.array([500.0, 0, 320, 0, 500, 240, 0, 0, 1])
    for name, value in fields.items():
        setattr(message, name, value)
    return cdr.serialize(wire.CAMERA_INFO, message)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (info(k=np.zeros(9)), "K = 0: the camera is not calibrated"),
        (info(k=np.full(9, np.nan)), "intrinsics are not usable"),
        (info(distortion_model="omnidirectional", d=np.full(4, 0.1)), "'omnidirectional'"),
        (info(distortion_model="omnidirectional"), "'omnidirectional'"),
        (info(d=np.full(8, 0.1)), "'plumb_bob' with 8"),
        (info(width=0), "0x480"),
        (info(binning_x=2), "binning 2x0"),
    ],
)
def test_camera_info_refused(raw, message):
    with pytest.raises(WireError, match=message) as caught:
        wire.decode_camera_info(raw)
    assert caught.value.fix


def test_camera_info_round_trip():
    camera = CameraModel(np.array([[500.0, 0, 320], [0, 400, 240], [0, 0, 1]]), 640, 480)
    header, back = wire.decode_camera_info(wire.encode_camera_info(HEADER, camera))
    assert header == HEADER
    np.testing.assert_array_equal(back.K, camera.K)
    assert back.D.size == 0
    assert back.model == "pinhole"


@pytest.mark.parametrize("D", [[], [0.1, -0.02, 0.003, -0.0004]])
def test_camera_info_of_a_fisheye_round_trip(D):
    camera = CameraModel(
        np.array([[300.0, 0, 320], [0, 301, 240], [0, 0, 1]]), 640, 480, D, "fisheye"
    )
    raw = wire.encode_camera_info(HEADER, camera)
    assert cdr.deserialize(wire.CAMERA_INFO, raw).distortion_model == "equidistant"
    _, back = wire.decode_camera_info(raw)
    assert back.model == "fisheye"
    np.testing.assert_array_equal(back.D, D)
    point = np.array([[1.0, 0.3, -0.2]])  # beside the camera: a pinhole would not see it
    np.testing.assert_array_equal(back.project(point)[0], camera.project(point)[0])


@pytest.mark.parametrize(
    ("name", "D", "kept"),
    [
        ("equidistant", [0.1, 0.2, 0.3, 0.4, 0.0], [0.1, 0.2, 0.3, 0.4]),
        ("fisheye", [0.1, 0, 0, 0], [0.1, 0, 0, 0]),
        ("plumb_bob", [0.1, 0.2, 0.3, 0.4, 0.5, 0, 0, 0], [0.1, 0.2, 0.3, 0.4, 0.5]),
        ("rational_polynomial", [0.1] * 8 + [0] * 6, [0.1] * 8),
    ],
)
def test_zeros_after_the_coefficients_are_left_out(name, D, kept):
    message = cdr.message(
        wire.CAMERA_INFO,
        width=640,
        height=480,
        distortion_model=name,
        k=np.eye(3).ravel() * 300,
        d=np.array(D, np.float64),
    )
    _, camera = wire.decode_camera_info(cdr.serialize(wire.CAMERA_INFO, message))
    np.testing.assert_array_equal(camera.D, kept)


def test_coefficients_of_another_model_are_refused():
    message = cdr.message(
        wire.CAMERA_INFO,
        width=640,
        height=480,
        distortion_model="equidistant",
        k=np.eye(3).ravel() * 300,
        d=np.full(5, 0.1),
    )
    with pytest.raises(WireError, match="'equidistant' with 5"):
        wire.decode_camera_info(cdr.serialize(wire.CAMERA_INFO, message))


@pytest.mark.parametrize(("sec", "nanosec"), [(-1, 0), (0, 10**9), (5, 2**32 - 1)])
def test_invalid_stamps(sec, nanosec):
    message = cdr.message(wire.CAMERA_INFO)
    message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
    raw = cdr.serialize(wire.CAMERA_INFO, message)
    for decode in (wire.read_header, wire.decode_camera_info):
        with pytest.raises(WireError, match=f"sec {sec}, nanosec {nanosec}"):
            decode(raw)
    for stamp_ns in (-1, 2**31 * 10**9):
        with pytest.raises(WireError):
            wire.encode_clock(stamp_ns)


def test_frame_ids():
    for frame_id, expected in (("", ""), ("/cam", "cam"), ("kämera/links", "kämera/links")):
        raw = wire.encode_image(wire.Header(7, frame_id), np.zeros((2, 2, 3), np.uint8))
        assert wire.read_header(raw) == wire.Header(7, expected)
        assert wire.decode_image(raw).header == wire.Header(7, expected)
