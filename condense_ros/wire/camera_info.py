"""sensor_msgs/CameraInfo <-> `CameraModel`."""

from __future__ import annotations

import numpy as np

from condense_ros.errors import GeometryError, WireError
from condense_ros.geometry import CameraModel
from condense_ros.wire import cdr
from condense_ros.wire.header import Header, header_from_message, header_to_message
from condense_ros.wire.image import check_size

CAMERA_INFO = "sensor_msgs/msg/CameraInfo"

#: distortion model -> camera model, numbers of coefficients it may come with
_MODELS = {
    "plumb_bob": ("pinhole", (0, 4, 5)),
    "rational_polynomial": ("pinhole", (0, 8)),
    "equidistant": ("fisheye", (0, 4)),
    "fisheye": ("fisheye", (0, 4)),  # as some drivers call it
    "": ("pinhole", (0,)),
}


def decode_camera_info(raw: cdr.Bytes) -> tuple[Header, CameraModel]:
    """Intrinsics and distortion of the full-resolution, unrectified image.

    Zeros after the coefficients of the model are left out: some drivers always send 5, 8 or 14.
    Binning and region of interest are refused rather than ignored: they move the principal point.

    Raises:
        WireError: malformed bytes, K = 0 (uncalibrated), another distortion model, binning or ROI.
    """
    message = cdr.deserialize(CAMERA_INFO, raw)
    header = header_from_message(message.header)
    check_size(message.width, message.height)
    K = np.array(message.k, dtype=np.float64).reshape(3, 3)
    D = np.array(message.d, dtype=np.float64)
    if not K.any():
        raise WireError(
            "camera_info has K = 0: the camera is not calibrated",
            "calibrate it and let its driver load the result; intrinsics are never guessed",
        )
    if message.distortion_model not in _MODELS:
        raise WireError(
            f"camera_info has distortion model {message.distortion_model!r}",
            "use plumb_bob, rational_polynomial or equidistant, or publish rectified images",
        )
    model, sizes = _MODELS[message.distortion_model]
    if D.size > max(sizes) and not D[max(sizes) :].any():
        D = D[: max(sizes)]
    if D.size not in sizes and D.any():
        raise WireError(
            f"camera_info has distortion model {message.distortion_model!r} with {D.size} "
            "coefficients",
            "use plumb_bob (4 or 5), rational_polynomial (8) or equidistant (4), or publish "
            "rectified images",
        )
    roi = message.roi
    region = (roi.x_offset, roi.y_offset, roi.width, roi.height)
    whole = region in ((0, 0, 0, 0), (0, 0, message.width, message.height))
    if max(message.binning_x, message.binning_y) > 1 or not whole:
        raise WireError(
            f"camera_info has binning {message.binning_x}x{message.binning_y} and region {region}",
            "publish intrinsics of exactly the image that is sent, with binning and ROI unset",
        )
    try:
        camera = CameraModel(K, message.width, message.height, D if D.any() else D[:0], model)
    except GeometryError as error:
        raise WireError(f"camera_info: {error.problem}", error.fix) from error
    return header, camera


def encode_camera_info(header: Header, camera: CameraModel) -> bytes:
    """A CameraInfo message with R = identity and P = [K | 0] (monocular)."""
    if camera.model == "fisheye":
        name, D = "equidistant", camera.D if camera.D.size else np.zeros(4)
    else:
        name = "rational_polynomial" if camera.D.size == 8 else "plumb_bob"
        D = camera.D if camera.D.size else np.zeros(5)
    return cdr.serialize(
        CAMERA_INFO,
        cdr.message(
            CAMERA_INFO,
            header=header_to_message(header),
            width=camera.width,
            height=camera.height,
            distortion_model=name,
            d=np.array(D, dtype=np.float64),
            k=camera.K.reshape(9).astype(np.float64),
            r=np.eye(3).reshape(9),
            p=np.hstack([camera.K, np.zeros((3, 1))]).reshape(12),
        ),
    )
